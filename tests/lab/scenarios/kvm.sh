#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 600
# long: 1 600
# long-arm64: neoverse-v1,pauth-impdef=on 1 900
#
# The KVM tests and the examples, with guests of our own, on the lab host's real (nested) KVM. In check-long with ten
# times as many stops.
set -eu
. "$ROOT/tests/lab/lib.sh"
built=${LAB%/lab}
cp "$built/tests/kvm" /tmp/kvm
cp -r "$built/tests/guests" /tmp/guests
export GODWIT_GUESTS=/tmp/guests
[ $# -eq 0 ] || export GODWIT_STOPS=10000
/tmp/kvm -j1 --verbose >"$LAB_OUT/kvm.txt" 2>&1 || { cat "$LAB_OUT/kvm.txt"; die "KVM tests"; }
sed 's/\x1b\[[0-9;]*m//g' "$LAB_OUT/kvm.txt" | sed -n 's/^\[PASS\] \([^:]*\)::\([^:]*\):.*/PASS kvm \1 \2/p'
# example NAME GUEST
example() {
	timeout "$(patience 150)" "$built/examples/$1" "/tmp/guests/$2" >"$LAB_OUT/$1.log" 2>&1 ||
		{ cat "$LAB_OUT/$1.log"; die "example $1"; }
	echo "PASS kvm example $1"
}
case $(uname -m) in x86_64) form=elf ;; *) form=image ;; esac
example embed mixer.$form
example own_device doorbell.$form
