#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 300
# kernel: iommufd
# long: 20 10
#
# usage: iommufd.sh [ROUNDS]      (2; tests/check-long.sh has it do 20)
#
# Devices by VFIO's character devices and an iommufd: the 82574L with traffic, and an mtty that is
# saved, restored and moved; both backends forced, chosen, and changed on the way.
set -eu
. "$ROOT/tests/lab/vm.sh"

ROUNDS=${1:-2}
pass() { echo "PASS iommufd $*"; }
MEMORY=256M
MTTY2=$(make_mtty 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002)

device() { echo "{\"id\":\"$1\",\"type\":\"vfio-pci\",\"host\":\"$2\",\"backend\":\"$3\"${4:-}}"; }
# by VM DEVICE BACKEND: the log says by what it came
by() { grep -q "device $2: .* by $3\$" "$VMS/$1/log" || die "$2 did not come by $3: $(tail -n 5 "$VMS/$1/log")"; }

godwit devices --json >/tmp/devices.json
grep -q '"character-device":[[:space:]]*"vfio' /tmp/devices.json || die "no character device is listed"
pass "the host's devices are asked by their character devices"

# ---- the card ----
vm_config a "$(device net0 "$NIC" auto ',"slot":16')"
vm_start a
vm_up a
by a net0 iommufd
traffic 10.78.0.101
con a 10 'test $(grep -c "MSIX.*eth0" /proc/interrupts) -ge 3' || die "no MSI-X"
expect_fail "in use" godwit run "$VMS/a/config.json" --control /tmp/x
pass "the guest's e1000e carries traffic by iommufd, which is taken where there is one"
expect_event a DEVICE_DELETED
ctl a device_del id=net0 >/dev/null
event_came a DEVICE_DELETED
ctl a device_add id=net1 type=vfio-pci "host=$NIC" slot=16 backend=type1 >/dev/null
traffic 10.78.0.102
by a net1 type1
pass "plugged in again by type1, as it was told to"
vm_quit a
rm -f "$VMS/a/con.log" "$VMS/a/log"

# ---- an mtty, saved and restored ----
vm_config a "$(device tty0 "$MTTY" iommufd ',"slot":5')"
vm_start a
vm_up a
by a tty0 iommufd
con a 30 worker start 32 4
con a 10 ttytest fill 0 11 42
ctl a snapshot-save directory=/tmp/one --timeout 60 >/dev/null
vm_kill a
rm -f "$VMS/a/ctl"
for backend in iommufd type1; do
	rm -f "$VMS/a/log"
	vm_restore a /tmp/one --map "devices.tty0.backend=$backend"
	vm_is a running
	by a tty0 "$backend"
	verify a
	con a 10 ttytest check 0 11 42
	con a 20 ttytest talk 1 0.3
	[ "$backend" = type1 ] || { vm_kill a && rm -f "$VMS/a/ctl"; }
done
pass "an mtty saved by iommufd is restored by iommufd, and by type1"

# ---- and moved, each time by the other backend ----
from=a to=b
for round in $(seq "$ROUNDS"); do
	case $to in a) card=$MTTY ;; *) card=$MTTY2 ;; esac
	[ $((round % 2)) = 1 ] && backend=iommufd || backend=type1
	con $from 10 ttytest fill 0 7 "$round"
	rm -f "$VMS/$to/log"
	vm_incoming $to unix:/tmp/mig --map "devices.tty0.host=$card" --map "devices.tty0.backend=$backend"
	ctl $from migrate-set-parameters downtime-limit=500 max-bandwidth=100000000000 >/dev/null
	ctl $from migrate uri=unix:/tmp/mig >/dev/null
	vm_moved $from $to 60
	by $to tty0 "$backend"
	rm -f "$VMS/$from/con.log"
	verify $to
	con $to 10 ttytest check 0 7 "$round"
	con $to 20 ttytest talk 1 0.3 >/dev/null
	log "round $round: downtime $(field downtime "$(cat /tmp/migration)") ms"
	x=$from from=$to to=$x
done
pass "$ROUNDS live migrations, from one backend to the other and back"
