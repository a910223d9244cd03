#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: moves
# seconds: 300
# long-arm64: neoverse-n1 1 240
#
# A network card and a disk in other processes: traffic with checksums, servers that are killed and
# come back, plugged in and out at run time, also behind a root port, and a guest that moves with
# both. Servers speak as ours do and as those made with libvfio-user do, by turns.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS vfio-user $*"; }

DISK=/tmp/user.img
truncate -s 64M "$DISK"
bridge_taps 10.9.0.1/24 tap0 tap1

MAC=52:54:00:09:00:02
serve net virtio-net --tap tap0 --mac $MAC
other_manner
serve blk virtio-blk --disk "$DISK"

device() { echo "{\"id\":\"$1\",\"type\":\"vfio-user-pci\",\"socket\":\"/tmp/$2.sock\",\"timeout\":$(patience 20000)}"; }
PORTS=2
vm_config a "$(device net0 net)" "$(device disk0 blk)"
PORTS=
vm_start a
vm_up a
pass "boots with devices of two other processes"

# ---- data, both ways ----
con a 30 'dd if=/dev/urandom of=/tmp/r bs=1M count=8 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k seek=16 oflag=direct 2>/dev/null; sync'
there=$(con a 20 'md5sum </tmp/r')
here=$(dd if="$DISK" bs=1M skip=1 count=8 status=none | md5sum)
[ "$there" = "$here" ] || die "the disk does not have what was written: $there, $here"
on_disk() { con "$1" 30 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=1M skip=1 count=8 2>/dev/null | md5sum'; }
[ "$(on_disk a)" = "$there" ] || die "the guest does not read what it wrote"
pass "disk: written, read, the same on both sides"

_card() { con "$1" 10 "ip addr add 10.9.0.2/24 dev eth0 2>/dev/null; ip link set eth0 up && grep -q $MAC /sys/class/net/eth0/address"; }
_pings() { ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1; }
_host_side() {
	nettest serve 10.9.0.1 5001 1 >/tmp/nettest.log 2>&1 &
	_peer=$!
	wait_for 20 listening 5001 || die "no peer: $(cat /tmp/nettest.log)"
}
tap_traffic() {
	wait_for 20 _card "$1" || die "the guest has no card"
	wait_for 20 _pings || die "no ping"
	_host_side
	con "$1" 90 nettest 10.9.0.1 5001 8 || die "TCP: $(tail -n 1 /tmp/nettest.log)"
	wait "$_peer"
}
tap_traffic a
[ "$(con a 10 'grep -c "MSI.*virtio" /proc/interrupts')" -ge 4 ] || die "no MSI-X: $(con a 10 cat /proc/interrupts)"
_told=$(ctl a query-devices | tr -d ' \n')
case $_told in
*'"server":"/tmp/net.sock","connected":true,"backend":"vfio-user"'*'"interrupt":"MSI-X"'*'"name":"MSI-X","shown":true'*) ;;
*) die "query-devices: $_told" ;;
esac
pass "network: ping, TCP both ways, every byte checked"

# ---- a server that dies, and one that comes in its place ----
_connected() { ctl a query-devices | tr -d ' \n' | grep -q "\"/tmp/$1.sock\",\"connected\":$2"; }
kill_server() {
	unserve "$1"
	wait_for 20 _connected "$1" false || die "nobody notices that $1 is gone"
}
# rebind FOLDER: the driver of the PCI device that this device of the guest belongs to begins anew.
rebind() {
	con a 40 "d=\$(basename \$(readlink -f $1/device/..)); cd /sys/bus/pci/drivers/virtio-pci; echo \$d >unbind; echo \$d >bind" || die "no rebinding of $1"
}
expect_event a DEVICE_BROKEN device=net0
kill_server net
event_came a DEVICE_BROKEN
expect_fail "its server is gone" ctl a snapshot-save directory=/tmp/no
con a 10 true || die "the guest suffers"
[ "$(on_disk a)" = "$there" ] || die "the other device suffers"
pass "a server that is killed breaks its device, and nothing else"

expect_event a DEVICE_REPAIRED device=net0
serve net virtio-net --tap tap0 --mac $MAC
event_came a DEVICE_REPAIRED
wait_for 10 _connected net true || die "not connected"
rebind /sys/class/net/eth0
tap_traffic a
pass "started again, it is set up again; its driver, bound anew, has traffic"

kill_server blk
other_manner
serve blk virtio-blk --disk "$DISK"
wait_for 30 _connected blk true || die "the disk's server is not found again"
rebind /sys/block/vda
_vda() { con a 10 'test -b /dev/vda'; }
wait_for 20 _vda || die "no disk after its server was restarted"
[ "$(on_disk a)" = "$there" ] || die "other data on the disk"
pass "the same with the disk"

kill_server net
serve net virtio-rng
_refused() { grep -q '/tmp/net.sock: another device: ' "$VMS/a/log"; }
wait_for 20 _refused || die "it is not looked at: $(tail -n 5 "$VMS/a/log")"
_connected net false || die "another device was taken for the card"
unserve net
serve net virtio-net --tap tap0 --mac $MAC
wait_for 30 _connected net true || die "the card's server is not found again"
rebind /sys/class/net/eth0
tap_traffic a
pass "another device behind the same socket is not taken for it"

# ---- plugged in and out ----
truncate -s 8M /tmp/hot.img
for i in 1 2; do
	other_manner
	serve "hot$i" virtio-blk --disk /tmp/hot.img
	port=
	[ $i = 1 ] || port=port=2
	ctl a device_add driver=vfio-user-pci "id=hot$i" "socket=/tmp/hot$i.sock" $port >/dev/null
	_hot() { con a 10 'ls /sys/block' | grep -q vdb; }
	wait_for 20 _hot || die "a disk that was plugged in is not seen"
	con a 30 "echo plugged $i | dd of=/dev/vdb oflag=direct conv=sync 2>/dev/null; sync" || die "hot-plugged disk"
	grep -q "plugged $i" /tmp/hot.img || die "nothing was written"
	expect_event a DEVICE_DELETED "device=hot$i"
	ctl a device_del "id=hot$i" >/dev/null
	event_came a DEVICE_DELETED
	unserve "hot$i"
done
pass "plugged in and out, also behind a root port, with data"

# ---- moved, with the state of both ----
other_manner
serve net2 virtio-net --tap tap1 --mac $MAC
serve blk2 virtio-blk --disk "$DISK"
vm_incoming b unix:/tmp/mig.b --map devices.net0.socket=/tmp/net2.sock --map devices.disk0.socket=/tmp/blk2.sock
stream_start a 10.9.0.1 512
stream_alive a
con a 10 'dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null &'
ctl a migrate uri=unix:/tmp/mig.b >/dev/null
vm_moved a b 90
stream_alive b
stream_end b
[ "$(on_disk b)" = "$there" ] || die "other data on the disk"
tap_traffic b
pass "moved with both devices, a TCP stream lives through it"

# ---- one that hangs ----
HANGS=$(patience 300)
serve hung ballast
ctl b device_add driver=vfio-user-pci id=hung socket=/tmp/hung.sock "timeout=$HANGS" >/dev/null
kill -STOP "$(cat /tmp/hung.pid)"
begun=$(date +%s%3N)
vm_quit b
took=$(($(date +%s%3N) - begun))
[ "$took" -lt $((4 * HANGS)) ] || die "quit took $took ms"
pass "a server that answers nothing delays the end by one timeout ($took ms of $HANGS)"
