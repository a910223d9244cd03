#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 120
#
# Programs that embed the library, on the lab host's real KVM and VFIO.
set -eu
. "$ROOT/tests/lab/lib.sh"

pass() { echo "PASS embed $*"; }

"$ROOT/build/examples/embed" "$ROOT/build/tests/guests/mixer.elf" || die "examples/embed"
pass "examples/embed lives by its own loop, is saved and restored"
"$ROOT/build/examples/own_device" "$ROOT/build/tests/guests/doorbell.elf" || die "examples/own_device"
pass "examples/own_device saves and restores a device of its own"
# Last, since it takes the device nodes away.
"$ROOT/build/tests/give_vfio" "$NIC" "$(iommu_group "/sys/bus/pci/devices/$NIC")" "$LAB/vmlinuz" ||
	die "give_vfio"
pass "a card is passed through by descriptors alone"
