#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: arm64
# hosts: 1
# seconds: 180
#
# The unit tests that an emulator of user programs cannot run (tests/emulated/skips says why), on arm64's
# own kernel with KVM.
set -eu
. "$ROOT/tests/lab/lib.sh"

load vhost_net vhost_vsock tun || die "no vhost"
cp "${LAB%/lab}/tests/unit" /tmp/unit
cd "$ROOT"
timeout "$(patience 170)" /tmp/unit --only tests/emulated/skips >/tmp/unit.log 2>&1 || { cat /tmp/unit.log; die "unit tests"; }
cat /tmp/unit.log
listed=$(grep -c '^[a-z_0-9]*/' tests/emulated/skips)
ran=$(sed -n 's/.*Tested: \([0-9]*\).*/\1/p' /tmp/unit.log)
[ "$ran" -gt $((listed * 3 / 4)) ] || die "of $listed tests only $ran were run"
echo "PASS unit-arm64 $ran tests with KVM, vhost and the kernel's own calls"
