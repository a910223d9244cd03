#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 200
# qemu: -device pcie-root-port,id=above,chassis=1,slot=1,addr=0x5
# qemu: -device virtio-rng-pci,id=cold,bus=above,aer=on,iommu_platform=on,disable-legacy=on
#
# A device below a root port reports an error that cannot be corrected (AER): the host's kernel tells
# vfio-pci, and that tells us. The guest lets go of the device, and goes on.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS device-error $*"; }

PORT=0000:00:05.0 DEVICE=0000:01:00.0
DEVICES=/sys/bus/pci/devices

# Firmware would have set the port's SERR# enable (bit 1 of Bridge Control, 0x3e): without it errors
# from below end there.
byte() { dd if="$DEVICES/$PORT/config" bs=1 skip=62 count=1 2>/dev/null | hexdump -e '1/1 "%u"'; }
# shellcheck disable=SC2059 # the byte itself
printf "\\$(printf %03o $(($(byte) | 2)))" | dd of="$DEVICES/$PORT/config" bs=1 seek=62 conv=notrunc 2>/dev/null
[ $(($(byte) & 2)) = 2 ] || die "SERR# cannot be enabled"

bind_vfio "$DEVICE"
vm_config a "it=$DEVICE@16"
vm_start a
vm_up a
con a 20 'lspci | grep -q "00:10.0 1af4:1044 virtio-pci"' || die "the guest has no device: $(con a 10 lspci)"
con a 20 worker start 8 2

expect_event a VFIO_DEVICE_ERROR device-id=it
monitor pcie_aer_inject_error cold COMP_TIME
event_came a VFIO_DEVICE_ERROR || die "no event: $(dmesg | tail -n 20)"
dmesg | grep -q "vfio-pci $DEVICE: .*AER\|vfio-pci $DEVICE: PCIe Bus Error" || die "the host's kernel says nothing: $(dmesg | tail -n 20)"
_gone() { con a 10 '! lspci | grep -q 1af4:1044'; }
wait_for 30 _gone || die "the guest still has the device"
_left() { ! ctl a query-pci | grep -q '"slot": *16'; }
wait_for 20 _left || die "it is still plugged in"
con a 30 worker verify >/tmp/verify
grep -q 'pages_bad=0' /tmp/verify || die "$(cat /tmp/verify)"
pass "a device in error is taken from the guest, which goes on"
echo "$DEVICE" >/sys/bus/pci/drivers/vfio-pci/unbind
pass "the host has it back"
ctl a system_powerdown >/dev/null
vm_gone a
