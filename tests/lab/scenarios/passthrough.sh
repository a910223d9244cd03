#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: cards
# seconds: 240
#
# The 82574L by VFIO: traffic, resets, unplug and plug, what blocks, what is refused.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS passthrough $*"; }

vm_config a "net0=$NIC@16"
vm_start a
vm_up a
traffic 10.78.0.101
con a 10 'test $(grep -c "MSIX.*eth0" /proc/interrupts) -ge 3' || die "no MSI-X"
pass "the guest's e1000e carries traffic with MSI-X"

expect_fail "net0" ctl a snapshot-save directory=/tmp/no
[ ! -e /tmp/no ] || die "something was saved"
expect_fail "net0" ctl a migrate uri=unix:/tmp/nobody
ctl a query-migrate | grep -q 'blocked-reasons.*net0' || die "no blocked-reasons"
pass "saving and migrating are refused by name, and query-migrate says so"

_count() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge "$1" ]; }
con a 10 -s reboot -f || :
wait_for 40 _count 2 || die "no reboot"
traffic 10.78.0.102
pass "after a reboot of the guest the card works again"

for i in 1 2 3; do
	expect_event a DEVICE_DELETED
	ctl a device_del "id=net$((i - 1))" >/dev/null
	event_came a DEVICE_DELETED
	ctl a query-pci >/tmp/pci
	! grep -q '"slot": *16' /tmp/pci || die "query-pci still has it"
	ctl a device_add "id=net$i" type=vfio-pci "host=$NIC" slot=16 >/dev/null
	_has() { con a 10 lspci | grep -q '8086:10d3 e1000e'; }
	wait_for 15 _has || die "not plugged in"
	traffic "10.78.0.11$i"
done
pass "unplugged and plugged in three times, with traffic"

expect_fail "id is taken" ctl a device_add id=net3 type=vfio-pci "host=$NIC"
expect_fail "is device \"net3\" of this machine already" ctl a device_add id=twice type=vfio-pci "host=$NIC"
expect_fail "no such PCI device 0000:77:00.0" ctl a device_add id=x type=vfio-pci host=0000:77:00.0
expect_fail "has no device" ctl a device_del id=nobody
expect_fail "no device type" ctl a device_add id=x type=floppy host=none
pass "bad device_add and device_del are refused by name"
expect_fail "65536 MiB of this host's memory are needed, and" godwit run "$VMS/a/config.json" --set memory=64G --set serial.socket=null --control /tmp/x
pass "memory that the host has not is refused before it is pinned"

ctl a system_powerdown >/dev/null
vm_gone a

rm -f "$VMS/a/con.log"
sed -i 's/quiet panic/pci=nomsi quiet panic/' "$VMS/a/config.json"
vm_start a
vm_up a
traffic 10.78.0.120
con a 10 'grep -q "IO-APIC.*fasteoi.*eth0" /proc/interrupts' || die "not by INTx"
pass "with INTx alone, resampled in the kernel, it carries traffic too"
ctl a system_powerdown >/dev/null
vm_gone a

echo "$NIC" >/sys/bus/pci/drivers/vfio-pci/unbind
echo e1000e >"/sys/bus/pci/devices/$NIC/driver_override"
load e1000e
echo "$NIC" >/sys/bus/pci/drivers_probe
expect_fail "driven by e1000e and has to be bound to vfio-pci" \
	godwit run "$VMS/a/config.json" --control /tmp/x
pass "a card that the host's driver has is refused, with the command that mends it"
