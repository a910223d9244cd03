#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: x86 arm64
# hosts: 1
# seconds: 420
# memory: 3072
# long-arm64: cortex-a72 1 120
#
# Devices that come and go behind root ports, by the guest's own driver for them: virtio devices and the
# 82574L; a guest that is reset, saved in the middle of an unplug, restored and migrated.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS pcie-hotplug $*"; }

# What the guest sees.
_driven() { con "$1" 20 lspci | grep -q "$2"; }
_not_driven() { _devs=$(con "$1" 20 lspci) && ! echo "$_devs" | grep -q "$2"; }
has() { wait_for 40 _driven "$1" "$2" || die "no $2 in $1: $(con "$1" 20 'lspci; dmesg | tail -n 20')"; }
_driven_times() { [ "$(con "$1" 20 lspci | grep -c "$2")" = "$3" ]; }
has_times() { wait_for 40 _driven_times "$1" "$2" "$3" || die "not $3 times $2: $(con "$1" 20 lspci)"; }
has_no() { wait_for 40 _not_driven "$1" "$2" || die "$2 is still in $1: $(con "$1" 20 lspci)"; }
# That of port N, by its physical slot number.
power() { con "$1" 10 cat "/sys/bus/pci/slots/$((32 + $2))/power"; }
_power_is() { [ "$(power "$1" "$2")" = "$3" ]; }

RNG='1af4:1044 virtio-pci'
NET='1af4:1041 virtio-pci'
CARD='8086:10d3 e1000e'
bridge_taps 10.9.0.1/24 tap0 tap1

_pings() { ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1; }
_addressed() { con "$1" 10 nic 10.9.0.2/24 >/dev/null; }
pings() { wait_for 30 _pings || die "$1: no ping: $(con "$1" 20 'ip addr; cat /proc/interrupts')"; }
deleted() {
	expect_event "$1" DEVICE_DELETED
	ctl "$1" device_del "id=$2" >/dev/null
	event_came "$1" DEVICE_DELETED
}

PORTS=4
vm_config a '{"id":"rng0","type":"virtio-rng","port":1}'
vm_start a
vm_up a
[ "$(con a 10 lspci | grep -c '1b36:000c pcieport')" = 4 ] || die "not four ports: $(con a 10 lspci)"
has a "$RNG"
ctl a query-pci >/tmp/pci
tr -d ' \n\t' </tmp/pci | grep -q '"pci_bridge":{"bus":{"number":0,"secondary":1,.*"qdev_id":"rng0"' ||
	die "query-pci: $(cat /tmp/pci)"
pass "four ports with their driver, one with a device from the beginning"

deleted a rng0
has_no a "$RNG"
_power_is a 1 0 || die "the slot has power"
for port in 1 2; do
	ctl a device_add "id=rng$port" type=virtio-rng "port=$port" >/dev/null
done
ctl a device_add id=net0 type=virtio-net tap=tap0 mac=52:54:00:09:00:02 port=3 >/dev/null
has a "$NET"
wait_for 20 _addressed a || die "no address"
pings a
# Within a second after another one left, the guest takes its time.
has_times a "$RNG" 2
expect_fail "root port 3" ctl a device_add id=rng9 type=virtio-rng port=3
expect_fail "no root port 5" ctl a device_add id=rng9 type=virtio-rng port=5
pass "virtio devices come and go"

for i in 1 2; do
	ctl a device_add "id=card$i" type=vfio-pci "host=$NIC" port=4 >/dev/null
	has a "$CARD"
	traffic "10.78.0.10$i"
	deleted a "card$i"
	has_no a "$CARD"
done
con a 10 'grep -q pciehp /proc/interrupts' || die "no interrupt of the ports: $(con a 10 cat /proc/interrupts)"
pass "the 82574L comes and goes, with traffic"

ctl a device_add id=card3 type=vfio-pci "host=$NIC" port=4 >/dev/null
has a "$CARD"
expect_event a DEVICE_DELETED
ctl a device_del id=card3 timeout=300 force=true >/dev/null
event_came a DEVICE_DELETED
has_no a "$CARD"
no_complaint a
pass "a card that is taken away by force is missed without a complaint"

con a 10 "echo 0 >/sys/bus/pci/slots/34/power"
has_times a "$RNG" 1
con a 20 "echo 1 >/sys/bus/pci/slots/34/power"
has_times a "$RNG" 2
pass "a slot that the guest itself switches off and on keeps its device"

expect_event a DEVICE_DELETED
ctl a device_del id=rng2 >/dev/null
ctl a system_reset >/dev/null
_again() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge 2 ]; }
event_came a DEVICE_DELETED
wait_for 60 _again || die "no reboot"
has_times a "$RNG" 1
has a "$NET"
wait_for 20 _addressed a || die "no address"
pings a
pass "a reset completes what the guest was asked for"

# ---- saved while the guest thinks it over, and restored: the unplug goes on ----
printf 'device_del id=rng1\nstop\n' | ctl a >/dev/null
ctl a query-devices | grep -q '"rng1"' || die "the guest was faster"
ctl a snapshot-save directory=/tmp/snap >/dev/null
vm_quit a
mkdir -p "$VMS/b"
vm_restore b /tmp/snap
vm_is b paused
expect_event b DEVICE_DELETED
ctl b cont >/dev/null
event_came b DEVICE_DELETED
has_no b "$RNG"
pings b
ctl b device_add id=rng3 type=virtio-rng port=2 >/dev/null
has b "$RNG"
pass "saved in the middle of an unplug, which ends where it is restored"

# ---- migrated with devices behind ports ----
vm_incoming c unix:/tmp/mig --map devices.net0.tap=tap1
ctl b migrate uri=unix:/tmp/mig >/dev/null
ctl b wait-migration --timeout 100 >/dev/null || die "migration: $(ctl b query-migrate)"
vm_is c running
vm_quit b
has c "$RNG"
pings c
deleted c rng3
has_no c "$RNG"
deleted c net0
has_no c "$NET"
ctl c device_add id=card4 type=vfio-pci "host=$NIC" port=3 >/dev/null
has c "$CARD"
no_complaint c
pass "migrated with devices behind ports, which go on coming and going"
vm_quit c

# ---- by pin ----
# Without MSIs Linux does not ask ACPI for native hotplug, and on a machine with ACPI does without it unless it is told.
CMDLINE="pci=nomsi pcie_ports=native"
vm_config d
CMDLINE=
vm_start d
vm_up d
ctl d device_add id=rng0 type=virtio-rng port=2 >/dev/null
has d "$RNG"
ctl d device_add id=net0 type=virtio-net tap=tap0 mac=52:54:00:09:00:02 port=3 >/dev/null
has d "$NET"
wait_for 20 _addressed d || die "no address"
pings d
con d 10 'cat /proc/interrupts' >/tmp/interrupts
grep -q pciehp /tmp/interrupts || die "no interrupt of the ports: $(cat /tmp/interrupts)"
if grep -q MSI /tmp/interrupts; then die "MSIs: $(cat /tmp/interrupts)"; fi
deleted d rng0
has_no d "$RNG"
no_complaint d
pass "ports and the devices behind them interrupt by their pins"
vm_quit d
