#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 600
#
# The KVM tests and the examples, with guests of our own, on the lab host's real (nested) KVM.
set -eu
. "$ROOT/tests/lab/lib.sh"
cp "$ROOT/build/tests/kvm" /tmp/kvm
mkdir /tmp/guests
cp "$ROOT"/build/tests/guests/*.elf /tmp/guests/
export GODWIT_GUESTS=/tmp/guests
/tmp/kvm -j1 --verbose >/tmp/out 2>&1 || { cat /tmp/out; die "KVM tests"; }
sed 's/\x1b\[[0-9;]*m//g' /tmp/out | sed -n 's/^\[PASS\] \([^:]*\)::\([^:]*\):.*/PASS kvm \1 \2/p'
for e in "embed mixer" "own_device doorbell"; do
	name=${e% *}
	timeout 150 "$ROOT/build/examples/$name" "/tmp/guests/${e#* }.elf" >"$LAB_OUT/$name.log" 2>&1 ||
		{ cat "$LAB_OUT/$name.log"; die "example $name"; }
	echo "PASS kvm example $name"
done
