#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 300
# kernel: iommufd
# qemu: -device i82801b11-bridge,id=bus1,bus=pcie.0,addr=0xb
# qemu: -netdev hubport,id=card1,hubid=1 -device e1000,netdev=card1,bus=bus1,addr=1
# qemu: -netdev hubport,id=card2,hubid=1 -device e1000,netdev=card2,bus=bus1,addr=2
#
# The two 82540EM are on a bus of their own.
# Cards that have no reset of their own are reset with their bus, by type1 and by iommufd: when the
# guest gets them, and with it; but not while one of them is the host's. A register of each that
# nothing but a reset clears tells whether it was.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS bus-reset $*"; }
MEMORY=256M
PCI=/sys/bus/pci/devices
# shellcheck disable=SC2046 # two words
set -- $(grep -lx 0x100e $PCI/*/device)
A=$(basename "$(dirname "$1")") B=$(basename "$(dirname "$2")")

# The 82540EM's VLAN Ether Type (0x38): what software has put there stays until a reset.
vet() {
	read -r _bar _ <$PCI/"$1"/resource
	shift
	busybox devmem $((_bar + 0x38)) 32 "$@"
}
mark() { for _c in "$A" "$B"; do vet "$_c" 0x5aa5; done; }
is_marked() { [ $(($(vet "$1"))) = $((0x5aa5)) ]; }
none_marked() { ! is_marked "$A" && ! is_marked "$B"; }
# While nobody has them they decode only if told to.
mark_unbound() {
	for _c in "$A" "$B"; do
		[ ! -e "$PCI/$_c/driver" ] || echo "$_c" >"$PCI/$_c/driver/unbind"
		echo 1 >"$PCI/$_c/enable"
	done
	mark
	is_marked "$A" && is_marked "$B" || die "the register takes nothing"
}
disable() { echo 0 >"$PCI/$1/enable"; }
device() { echo "{\"id\":\"$1\",\"type\":\"vfio-pci\",\"host\":\"$2\",\"backend\":\"$3\"}"; }
logged() { grep -q "$1" "$VMS/a/log"; }

for backend in type1 iommufd; do
	# ---- one of them is the host's ----
	mark_unbound
	disable "$A"
	bind_vfio "$A"
	vm_config a "$(device d0 "$A" $backend)"
	vm_start a
	vm_up a
	logged "device d0: it cannot be reset and starts as it was left" || die "no word of it: $(cat "$VMS/a/log")"
	[ $backend = type1 ] || logged "takes $B along, which is not this machine's" || die "not named: $(cat "$VMS/a/log")"
	is_marked "$A" && is_marked "$B" || die "it was reset with the host's card"
	vm_quit a
	is_marked "$B" || die "it was reset with the host's card in the end"
	rm -f "$VMS/a/log" "$VMS/a/con.log" "$VMS/a/ctl"
	pass "$backend: a bus with a card of the host's is not reset"

	# ---- both are the machine's ----
	mark_unbound
	for card in "$A" "$B"; do
		disable "$card"
		bind_vfio "$card"
	done
	vm_config a "$(device d0 "$A" $backend)" "$(device d1 "$B" $backend)"
	vm_start a
	vm_up a
	logged "cannot be reset" && die "$(cat "$VMS/a/log")"
	none_marked || die "they were not reset before the guest has them"
	mark
	ctl a system_reset >/dev/null
	wait_for 20 none_marked || die "they were not reset with the machine"
	logged "VFIO_DEVICE_PCI_HOT_RESET" && die "$(cat "$VMS/a/log")"
	vm_quit a
	rm -f "$VMS/a/log" "$VMS/a/con.log" "$VMS/a/ctl"
	pass "$backend: both cards are reset before the guest has them, and with the machine"
done
