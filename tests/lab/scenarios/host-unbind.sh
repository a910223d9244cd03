#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: cards
# seconds: 240
#
# The host's administrator takes the card from a running guest: by the guest's leave, and without it.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS host-unbind $*"; }

unbind() {
	expect_event a VFIO_DEVICE_REQUEST device-id=nic0
	expect_event a DEVICE_DELETED device=nic0
	timeout "$(patience 90)" sh -c "echo $NIC >/sys/bus/pci/drivers/vfio-pci/unbind" || die "unbind does not return"
	event_came a VFIO_DEVICE_REQUEST
	event_came a DEVICE_DELETED
	[ ! -e "/sys/bus/pci/devices/$NIC/driver" ] || die "$NIC still has its driver"
}
_gone() { con a 10 '! lspci | grep 8086:10d3' >/dev/null; }

vm_config a "{\"id\":\"nic0\",\"type\":\"vfio-pci\",\"host\":\"$NIC\",\"slot\":16,\"request-timeout\":$(patience 60)}"
vm_start a
vm_up a
traffic 10.78.0.101
unbind
wait_for 20 _gone || die "the guest still has the card"
con a 10 true || die "the guest does not go on"
pass "unbinding on the host makes the guest let go of its card, and returns"

bind_vfio "$NIC"
ctl a device_add id=nic0 type=vfio-pci "host=$NIC" slot=16 request-timeout=2 >/dev/null
traffic 10.78.0.102
ctl a stop >/dev/null
unbind
ctl a cont >/dev/null
wait_for 30 con a 10 true || die "the guest does not go on"
pass "a guest that cannot let go loses the card after its time, and goes on"

bind_vfio "$NIC"
wait_for 30 _gone || die "the guest still shows the card"
ctl a system_powerdown >/dev/null
vm_gone a
