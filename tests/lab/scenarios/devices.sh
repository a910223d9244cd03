#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: cards
# seconds: 120
#
# godwit devices and godwit config on a host with an IOMMU: what is said of each device, and that
# the command which is said to mend it does.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS devices $*"; }
# of HOST: what the table says of it.
of() {
	godwit devices | awk -v host="$1" '/^[^ ]/ { on = $1 == host } on'
}
# says HOST TEXT
says() {
	of "$1" | grep -qF -- "$2" || die "no \"$2\" of $1: $(of "$1")"
}

godwit devices --json >/tmp/json || die "no JSON"
says "$NIC" "[8086:10d3]"
says "$NIC" "its driver (vfio-pci) offers no migration"
of "$NIC" | grep -qE "^$NIC +vfio-pci +[0-9]+ +[-0-9]+ +yes +no " || die "$(of "$NIC")"
says "$MTTY" "migration: stop-copy p2p pre-copy"
of "$MTTY" | grep -qE "mtty +[0-9]+ +[-0-9]+ +yes +yes " || die "$(of "$MTTY")"
says 0000:00:00.0 "a bridge stays with the host"
pass "a card that can be passed, a mediated device that can move, a bridge that cannot"

vm_config a "net0=$NIC@16" "tty0=$MTTY"
vm_start a
vm_up a
says "$NIC" "in use"
says "$MTTY" "in use"
ctl a query-status | grep -q '"running"' || die "the guest was disturbed"
ctl a quit >/dev/null
_free() { ! of "$NIC" | grep -q "in use"; }
wait_for 10 _free || die "still in use"
pass "devices that a guest has are left alone"

echo "$NIC" >"/sys/bus/pci/devices/$NIC/driver/unbind"
echo >"/sys/bus/pci/devices/$NIC/driver_override"
for driver in none e1000e; do
	if [ "$driver" != none ]; then
		echo "$NIC" >"/sys/bus/pci/devices/$NIC/driver/unbind"
		echo >"/sys/bus/pci/devices/$NIC/driver_override"
		load "$driver"
		echo "$NIC" >/sys/bus/pci/drivers_probe
		says "$NIC" "it is driven by $driver"
	else
		says "$NIC" "it has no driver"
	fi
	mend=$(of "$NIC" | sed -n 's/.*to mend it: //p')
	sh -c "$mend" || die "\"$mend\" fails"
	of "$NIC" | grep -qE "^$NIC +vfio-pci .* yes +no " || die "not mended: $(of "$NIC")"
done
pass "the command that is said to mend it does"

expect_fail "boot.kernel: vmlinuz: No such file" \
	godwit config --check "$ROOT/configs/passthrough.json" --host
godwit config --check "$ROOT/configs/passthrough.json" >/dev/null
godwit run --kernel /tmp/vmlinuz --initrd /tmp/guest.cpio.gz --cpus 2 --memory 256M \
	--cmdline "console=ttyS0 $QUICK" --vfio "$NIC" --name quick \
	--set devices.vfio0.slot=7 --control /tmp/quick </dev/null >/tmp/quick.log 2>&1 &
_ready() { grep -q "GUEST READY" /tmp/quick.log; }
wait_for 40 _ready || die "no guest: $(cat /tmp/quick.log)"
godwit ctl /tmp/quick query-pci | grep -q '"slot": *7' || die "--set was not heard"
godwit ctl /tmp/quick quit >/dev/null
wait
pass "a guest made of flags alone boots with the card"
