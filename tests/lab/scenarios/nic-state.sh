#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: x86 arm64
# hosts: 1
# together: cards
# seconds: 180
#
# The driver by which the 82574L's state moves, without godwit: VFIO's own calls.
set -eu
. "$ROOT/tests/lab/lib.sh"

load godwit_e1000e_vfio_pci || die "not loaded"
BRIDGE=0000:00:00.0
if bind_vfio $BRIDGE godwit-e1000e-vfio-pci 2>/dev/null; then die "it takes any device"; fi
dmesg | grep -q "$BRIDGE: not an 82574L" || die "not logged"
echo "PASS nic-state another device is refused"

# Nothing but the test's frames on the segment.
echo 1 >/proc/sys/net/ipv6/conf/peer/disable_ipv6
bind_movable "$NIC" || die "not bound"
nic_state "$NIC" "$(iommu_group "/sys/bus/pci/devices/$NIC")" peer &
test=$!
_used() { [ "$(cat /sys/module/godwit_e1000e_vfio_pci/refcnt)" -gt 0 ]; }
wait_for 20 _used || die "nobody opens the card"
if rmmod godwit_e1000e_vfio_pci 2>/dev/null; then die "unloaded while its card is open"; fi
wait "$test" || die "nic_state"
dmesg | grep -q 'a state of [0-9]* bytes is refused: its checksum is wrong' || die "not logged"
if dmesg | grep -E 'WARNING|BUG:|Oops'; then die "the kernel complains"; fi
echo "PASS nic-state what is refused stands in the kernel's log, and nothing else"

# A session outlives neither its device nor the driver.
rmmod godwit_e1000e_vfio_pci || die "not unloaded"
bind_vfio "$NIC" || die "not given back"
echo "PASS nic-state the driver can be unloaded, and could not while its card was open"
