#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 400
#
# The KVM tests, with guests of our own, on the lab host's real (nested) KVM.
set -eu
. "$ROOT/tests/lab/lib.sh"
cp "$ROOT/build/tests/kvm" /tmp/kvm
mkdir /tmp/guests
cp "$ROOT"/build/tests/guests/*.elf /tmp/guests/
export GODWIT_GUESTS=/tmp/guests
/tmp/kvm -j1 --verbose >/tmp/out 2>&1 || { cat /tmp/out; die "KVM tests"; }
sed 's/\x1b\[[0-9;]*m//g' /tmp/out | sed -n 's/^\[PASS\] \([^:]*\)::\([^:]*\):.*/PASS kvm \1 \2/p'
