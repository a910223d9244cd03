#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: virtio-all
# seconds: 600
#
# The virtio devices with Linux's drivers: each works, comes and goes at run time, is reset with the
# guest, and goes on where it was after save, restore and live migration under load.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS virtio $*"; }

DISK=/tmp/disk.img
truncate -s 64M "$DISK"
truncate -s 1M /tmp/ro.img
echo "only to be read" | dd of=/tmp/ro.img conv=notrunc status=none

bridge_taps 10.9.0.1/24 tap0 tap1

blk='{"id":"disk0","type":"virtio-blk","file":"'$DISK'","serial":"LAB-0001"}'
ro='{"id":"disk1","type":"virtio-blk","file":"/tmp/ro.img","read-only":true,"queues":2}'
net='{"id":"net0","type":"virtio-net","tap":"tap0","mac":"52:54:00:09:00:02"}'
rng='{"id":"rng0","type":"virtio-rng"}'
balloon='{"id":"bal0","type":"virtio-balloon"}'
console='{"id":"con0","type":"virtio-console","log":"/tmp/hvc.log"}'

vm_config a "$blk" "$ro" "$net" "$rng" "$balloon" "$console"
vm_start a
vm_up a
pass "boots with blk, net, rng, balloon and console"

# ---- disks ----
[ "$(con a 10 cat /sys/block/vda/serial)" = LAB-0001 ] || die "serial number"
[ "$(con a 10 cat /sys/block/vda/size)" = 131072 ] || die "size"
con a 30 'dd if=/dev/urandom of=/tmp/r bs=1M count=8 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k seek=16 oflag=direct 2>/dev/null; sync'
there=$(con a 20 'md5sum </tmp/r')
here=$(dd if="$DISK" bs=1M skip=1 count=8 status=none | md5sum)
[ "$there" = "$here" ] || die "the disk does not have what was written: $there, $here"
back=$(con a 20 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=1M skip=1 count=8 2>/dev/null | md5sum')
[ "$back" = "$there" ] || die "the guest does not read what it wrote"
pass "disk: written, read, the same on both sides"

[ "$(con a 10 'head -c 15 /dev/vdb')" = "only to be read" ] || die "read-only disk"
con a 10 '! dd if=/dev/zero of=/dev/vdb count=1 2>/dev/null' || die "a read-only disk was written"
[ "$(con a 10 'ls /sys/block/vdb/mq | wc -l')" -ge 1 ] || die "queues"
pass "disk: read-only, two queues"

ctl a block_resize device=disk0 size=$((80 << 20)) >/dev/null
_grown() { [ "$(con a 10 cat /sys/block/vda/size)" = 163840 ]; }
wait_for 10 _grown || die "the guest does not see the new size"
pass "disk: resized while the guest runs"

used() { du -k "$DISK" | cut -f1; }
before=$(used)
con a 20 'blkdiscard -o 1048576 -l 8388608 /dev/vda' || die "blkdiscard"
[ "$(used)" -le $((before - 8000)) ] || die "nothing was discarded: $before, $(used)"
pass "disk: discarded blocks go back to the host"

ctl a query-block | grep -q '"device": *"disk0"' || die "query-block: $(ctl a query-block)"
nmis() { con a 10 "sed -n 's/^NMI: *\\([0-9]*\\).*/\\1/p' /proc/interrupts"; }
before=$(nmis)
ctl a inject-nmi >/dev/null
_nmi() { [ "$(nmis)" -gt "$before" ]; }
wait_for 10 _nmi || die "no NMI: $before, $(nmis)"
pass "query-block, inject-nmi"

# ---- network ----
con a 10 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up'
[ "$(con a 10 cat /sys/class/net/eth0/address)" = 52:54:00:09:00:02 ] || die "MAC"
_pings() { ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1; }
wait_for 15 _pings || die "no ping"
nettest serve 10.9.0.1 5001 >/tmp/nettest.log 2>&1 &
echo $! >/tmp/nettest.pid
con a 60 nettest 10.9.0.1 5001 16 || die "TCP: $(tail -n 1 /tmp/nettest.log)"
pass "network: ping, TCP both ways, every byte checked"

# ---- entropy ----
con a 10 'cat /sys/class/misc/hw_random/rng_current' | grep virtio >/dev/null || die "no virtio_rng"
[ "$(con a 20 'dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c')" = 256 ] || die "no entropy"
pass "entropy"

# ---- come and go ----
truncate -s 8M /tmp/hot.img
ctl a device_add driver=virtio-blk id=hot0 file=/tmp/hot.img >/dev/null
_hot() { con a 10 'ls /sys/block' | grep -q vdc; }
wait_for 10 _hot || die "a disk that was plugged in is not seen"
con a 20 'dd if=/dev/zero of=/dev/vdc bs=64k count=8 2>/dev/null; sync' || die "hot-plugged disk"
expect_event a DEVICE_DELETED device=hot0
ctl a device_del id=hot0 >/dev/null
event_came a DEVICE_DELETED
_cold() { ! _hot; }
wait_for 10 _cold || die "a disk that was unplugged is still seen"
ctl a device_add driver=virtio-rng id=rng1 >/dev/null
ctl a device_del id=rng1 >/dev/null
pass "devices come and go at run time"

# ---- all of them reset with the guest ----
con a 10 -s reboot -f || :
_twice() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge 2 ]; }
wait_for 40 _twice || die "the guest did not come up again"
con a 10 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up'
wait_for 15 _pings || die "no ping after a reboot"
con a 20 'dd if=/dev/vda of=/dev/null bs=1M count=8 2>/dev/null' || die "disk after a reboot"
pass "a reboot resets them"

# ---- saved and moved under load ----
# All of it goes on until /tmp/enough is there. Written blocks carry their number and are read back and compared at the end.
load='i=0; while [ $i -lt 16000 ] && [ ! -e /tmp/enough ]; do printf "%015d\n" $i | dd of=/dev/vda bs=512 seek=$i conv=notrunc,sync oflag=direct 2>/dev/null; i=$((i+1)); echo $i >/tmp/done; done; mv /tmp/done /tmp/blocks'
con a 10 "sh -c '$load' >/dev/null 2>/tmp/load.err & worker start 32 4; nettest 10.9.0.1 5001 8 >/tmp/net.out 2>&1 &" || die "load"
# The console's lines are numbered and all devices append to one file; entropy is read all the time.
con a 10 'sh -c "i=0; while [ ! -e /tmp/enough ]; do echo line \$i; i=\$((i+1)); sleep 0.05; done >/dev/hvc0; echo \$i >/tmp/lines" 2>/dev/null &'
con a 10 'sh -c "while [ ! -e /tmp/enough ]; do dd if=/dev/hwrng bs=16 count=1; sleep 0.1; done" >/dev/null 2>&1 &'
ctl a balloon value=$((280 << 20)) >/dev/null
_going() { con a 10 'test "$(cat /tmp/done)" -ge 50 2>/dev/null' && grep -q '^line 50' /tmp/hvc.log; }
wait_for 60 _going || die "the load does not begin: $(tail -n 1 /tmp/hvc.log)"
# What the guest would still do after it was saved is not taken back outside.
ctl a stop >/dev/null
ctl a snapshot-save directory=/tmp/snap >/dev/null
vm_kill a
vm_restore b /tmp/snap
vm_is b paused
ctl b cont >/dev/null
con b 20 'cat /tmp/done' >/dev/null || die "the restored guest does not answer"
pass "saved, killed, restored under load"

b_to() {
	# The balloon is on its way while the guest moves.
	ctl "$1" balloon value=$(($3 << 20)) >/dev/null
	ctl "$1" migrate "uri=unix:/tmp/mig.$2" >/dev/null
	vm_moved "$1" "$2" 60
}
vm_incoming c unix:/tmp/mig.c --map devices.net0.tap=tap1
b_to b c 220
vm_incoming a unix:/tmp/mig.a --map devices.net0.tap=tap0
b_to c a 320
pass "moved twice, to another tap and back"
con a 10 'touch /tmp/enough; worker rate 1' >/dev/null

_ended() { con a 10 'test -e /tmp/blocks && test -e /tmp/lines'; }
wait_for 60 _ended || die "the load does not end: $(con a 10 ls /tmp)"
con a 60 'i=0; bad=0; n=$(cat /tmp/blocks); while [ $i -lt $n ]; do set -- $(dd if=/dev/vda bs=512 skip=$i count=1 iflag=direct 2>/dev/null | head -c 15); [ "$1" = "$(printf %015d $i)" ] || bad=$((bad+1)); i=$((i+n/40+1)); done; echo bad=$bad of $n' | grep -q '^bad=0 of [1-9]' || die "blocks are wrong"
verify a
lines=$(con a 10 cat /tmp/lines)
want=$(seq -f 'line %g' 0 $((lines - 1)) | md5sum)
_spoken() { [ "$(tr -d '\r' </tmp/hvc.log | grep '^line ' | md5sum)" = "$want" ]; }
wait_for 60 _spoken || die "the console lost or doubled lines: $lines, and last $(tail -n 1 /tmp/hvc.log)"
_whole() { [ "$(ctl a query-balloon | field actual)" = $((320 << 20)) ]; }
wait_for 30 _whole || die "the balloon: $(ctl a query-balloon)"
con a 20 'dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c' | grep -q 64 || die "no entropy in the end"
con a 10 grep '^nettest:.ok' /tmp/net.out || die "the connection: $(con a 10 cat /tmp/net.out)"
con a 10 'test ! -s /tmp/load.err' || die "I/O errors: $(con a 10 cat /tmp/load.err)"
no_complaint a 'I/O error'
wait_for 15 _pings || die "no ping in the end"
pass "every block, page and packet right in the end"
kill "$(cat /tmp/nettest.pid)"
ctl a system_powerdown >/dev/null
vm_gone a || die "exit status $?"
