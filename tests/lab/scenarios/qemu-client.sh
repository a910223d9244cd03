#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 400
#
# godwit device-server under a client that was not written here: QEMU's vfio-user-pci. Its guest has
# a network card and a disk of ours, each in a process of its own without privilege beyond tap and
# file: traffic both ways with every byte checked, a disk that has what was written, the guest's reset.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS qemu-client $*"; }
QEMU=$LAB/qemu-client/qemu
[ -x "$QEMU" ] || die "no $QEMU: run tests/lab/qemu-client.sh first"

load tun kvm-amd
ip tuntap add tap0 mode tap vnet_hdr
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
truncate -s 32M /tmp/disk.img
mkdir -p "$VMS/q"

serve net virtio-net --tap tap0 --mac 52:54:00:09:00:02 -v
serve blk virtio-blk --disk /tmp/disk.img --set serial=LAB-0001 -v

user() {
	echo '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"'"$1"'"}}'
}
"$QEMU" -nodefaults -no-user-config -display none -M q35,memory-backend=ram -accel kvm -cpu host -m 320 \
	-object memory-backend-memfd,id=ram,size=320M,share=on \
	-chardev "socket,id=con,path=$VMS/q/con,server=on,wait=off,logfile=$VMS/q/con.log" \
	-serial chardev:con -kernel /tmp/vmlinuz -initrd /tmp/guest.cpio.gz \
	-append "console=ttyS0 $QUICK reboot=t" \
	-device "$(user /tmp/net.sock)" -device "$(user /tmp/blk.sock)" >>"$VMS/q/log" 2>&1 &
echo $! >"$VMS/q/pid"
qemu=$!

_readies() {
	_r=$(grep -c "GUEST READY" "$VMS/q/con.log" 2>/dev/null) || :
	echo "${_r:-0}"
}
_up() { [ "$(_readies)" -ge "$1" ] || gone "$qemu"; }
up() {
	wait_for 120 _up "$1" || :
	[ "$(_readies)" -ge "$1" ] || {
		tail -n 20 "$VMS/q/log" "$VMS/q/con.log" >&2
		die "QEMU's guest does not come up"
	}
}
up 1
pass "QEMU's guest boots with a virtio-net and a virtio-blk of other processes"

[ "$(con q 20 cat /sys/class/net/eth0/address)" = 52:54:00:09:00:02 ] || die "the card's address"
[ "$(con q 20 cat /sys/block/vda/serial)" = LAB-0001 ] || die "the disk's serial number"
tap_traffic() {
	con q 20 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up'
	_ping() { con q 20 'ping -c 1 -W 2 10.9.0.1' | grep -q ' 0% packet loss'; }
	wait_for 60 _ping || die "the guest does not reach the host"
	nettest serve 10.9.0.1 7000 1 &
	wait_for 20 listening 7000 || die "no peer"
	con q 120 'nettest 10.9.0.1 7000 16' || die "traffic: $(con q 10 dmesg | tail -n 5)"
}
tap_traffic
con q 10 'grep virtio0-input /proc/interrupts' | grep -q MSIX || die "no MSI-X"
pass "network: 16 MiB each way, every byte checked; interrupts by MSI-X"

con q 60 'dd if=/dev/urandom of=/tmp/r bs=1M count=8 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k seek=16 oflag=direct 2>/dev/null; sync'
there=$(con q 20 'md5sum </tmp/r')
here=$(dd if=/tmp/disk.img bs=1M skip=1 count=8 status=none | md5sum)
[ "$there" = "$here" ] || die "the disk does not have what was written: $there, $here"
back=$(con q 60 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=1M skip=1 count=8 2>/dev/null | md5sum')
[ "$back" = "$there" ] || die "the guest does not read what it wrote"
pass "disk: written, read, the same on both sides"

con q 10 -s reboot -f || :
up 2
tap_traffic
[ "$(con q 60 'dd if=/dev/vda bs=1M skip=1 count=8 2>/dev/null | md5sum')" = "$there" ] || die "disk after the reset"
pass "the guest is reset, and both devices work again"

con q 10 -s poweroff -f || :
wait_for 60 gone "$qemu" || die "QEMU does not end"
_left() { grep -q 'its client has gone' "$LAB_OUT/net.log" && grep -q 'its client has gone' "$LAB_OUT/blk.log"; }
wait_for 20 _left || die "the servers have not noticed"
for s in net blk; do
	p=$(cat /tmp/$s.pid)
	kill "$p"
	wait "$p" || die "the server $s: status $?: $(cat "$LAB_OUT/$s.log")"
done
[ ! -e /tmp/net.sock ] && [ ! -e /tmp/blk.sock ] || die "sockets are left"
pass "servers outlive their client, and leave nothing behind"
