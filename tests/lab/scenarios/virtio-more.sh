#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: virtio-all
# seconds: 300
#
# The virtio devices by their less usual ways: interrupts by pin, a NIC served in user space with a packed
# ring, direct I/O; console, balloon, and the devices that tell of a guest's end.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS virtio-more $*"; }

truncate -s 64M /tmp/disk.img
load tun bridge
ip link add br0 type bridge
ip addr add 10.9.0.1/24 dev br0
ip link set br0 up
ip tuntap add tap0 mode tap vnet_hdr
ip link set tap0 master br0 up
nettest serve 10.9.0.1 5001 >/tmp/nettest.log 2>&1 &
server=$!

net='{"id":"net0","type":"virtio-net","tap":"tap0","mac":"52:54:00:09:00:02","vhost":"off"}'
_pings() { ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1; }
net_works() {
	con "$1" 10 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up'
	wait_for 15 _pings || die "no ping"
	con "$1" 60 nettest 10.9.0.1 5001 8 || die "TCP: $(tail -n 1 /tmp/nettest.log)"
}
disk_works() {
	con "$1" 30 'dd if=/dev/urandom of=/tmp/r bs=1M count=4 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k 2>/dev/null; sync'
	there=$(con "$1" 20 'md5sum </tmp/r')
	[ "$there" = "$(dd if="${2-/tmp/disk.img}" bs=1M count=4 status=none | md5sum)" ] || die "the disk has something else"
}

# ---- without MSI-X, both devices on one pin (slots 8 apart) ----
CMDLINE=pci=nomsi
vm_config a '{"id":"disk0","type":"virtio-blk","file":"/tmp/disk.img","slot":3}' \
	"$(echo "$net" | sed 's/}$/,"slot":11}/')"
CMDLINE=
vm_start a
vm_up a
con a 10 'cat /proc/interrupts' | grep -qE 'IO-APIC.*virtio[01], virtio[01]' || die "the pin is not shared: $(con a 10 cat /proc/interrupts)"
disk_works a
net_works a
pass "two devices share an interrupt pin"
vm_quit a

# ---- packed rings, direct I/O on a block device, several queues ----
load loop
losetup /dev/loop0 /tmp/disk.img
ip tuntap add tap2 mode tap vnet_hdr multi_queue
ip link set tap2 master br0 up
for vhost in off on; do
	[ "$vhost" = off ] || load vhost_net
	CPUS=2
	vm_config "b$vhost" '{"id":"disk0","type":"virtio-blk","file":"/dev/loop0","direct":true,"queues":2}' \
		'{"id":"net0","type":"virtio-net","tap":"tap2","mac":"52:54:00:09:00:02","queues":2,"vhost":"'$vhost'","mtu":1400}'
	CPUS=1
	vm_start "b$vhost"
	vm_up "b$vhost"
	disk_works "b$vhost" /dev/loop0
	net_works "b$vhost"
	con "b$vhost" 10 'cat /proc/interrupts' | grep -q 'virtio0-req.1' || die "no second queue of the disk"
	con "b$vhost" 10 'ls /sys/class/net/eth0/queues' | grep -q tx-1 || die "no second pair of queues"
	[ "$(con "b$vhost" 10 cat /sys/class/net/eth0/mtu)" = 1400 ] || die "MTU"
	pass "a block device with direct I/O, two queues each, vhost $vhost"
	vm_quit "b$vhost"
done
losetup -d /dev/loop0
kill $server

# ---- a host with blocks of 4096 bytes, and from there to one with a file ----
modprobe -d "$LAB_MODULES" null_blk bs=4096 memory_backed=1 gb=1 nr_devices=1 || die "no null_blk"
wait_for 5 test -b /dev/nullb0 || die "no /dev/nullb0"
# A partition that begins at sector 63, as old ones do, with 1000 sectors.
truncate -s 1M /tmp/parted.img
printf '\200\0\0\0\203\0\0\0\77\0\0\0\350\3\0\0' | dd of=/tmp/parted.img bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=/tmp/parted.img bs=1 seek=510 conv=notrunc status=none
echo "in the partition" | dd of=/tmp/parted.img bs=512 seek=63 conv=notrunc status=none
dd if=/tmp/parted.img of=/dev/nullb0 bs=1M status=none
vm_config n '{"id":"disk0","type":"virtio-blk","file":"/dev/nullb0","direct":true,"queues":2}'
vm_start n
vm_up n
_geometry() { con "$1" 20 'cd /sys/block/vda && cat size queue/logical_block_size queue/physical_block_size vda1/start' | tr -d '\r' | tr '\n' ' '; }
[ "$(_geometry n)" = "2097152 512 512 63 " ] || die "the guest sees $(_geometry n)"
[ "$(con n 10 'head -c 16 /dev/vda1')" = "in the partition" ] || die "the partition has something else"
# Sectors alone and in odd places, from two processes at a time.
_each='i=$first; while [ $i -lt 200 ]; do
dd if=/tmp/r of=/dev/vda1 bs=512 skip=$i seek=$((i + 100)) count=1 oflag=direct 2>/dev/null || exit; i=$((i + 2)); done'
con n 60 "$(echo "dd if=/dev/urandom of=/tmp/r bs=1k count=200 2>/dev/null; for first in 0 1; do ( $_each ) & done; wait" |
	tr '\n' ' ')" || die "writing"
there=$(con n 20 'head -c 102400 /tmp/r | md5sum')
_sectors() { dd if="$1" bs=512 skip=163 count=200 status=none | md5sum; }
[ "$(_sectors /dev/nullb0)" = "$there" ] || die "the host's disk has something else"
pass "a disk whose host has blocks of 4096 bytes: 512 in the guest, whose sectors are all written"
# What a guest makes of its disk does not keep it from being restored, but from being started from it.
con n 10 "printf 'QFI\\373' | dd of=/dev/vda bs=4 conv=notrunc 2>/dev/null; sync"
ctl n stop >/dev/null
ctl n snapshot-save directory=/tmp/snap >/tmp/saved || die "$(cat /tmp/saved)"
truncate -s 1G /tmp/copy.img
dd if=/dev/nullb0 of=/tmp/copy.img bs=1M count=2 conv=notrunc status=none
vm_kill n
rm -f "$VMS/n/ctl"
vm_restore n /tmp/snap --map devices.disk0.file=/tmp/copy.img
vm_is n paused 60
ctl n cont >/dev/null
[ "$(_geometry n)" = "2097152 512 512 63 " ] || die "after the restore the guest sees $(_geometry n)"
[ "$(con n 20 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda1 bs=512 skip=100 count=200 iflag=direct 2>/dev/null | md5sum')" = "$there" ] ||
	die "the guest reads something else"
pass "and goes on with a file in its place"
vm_quit n
expect_fail "is a qcow2 image, and a disk has to be raw" godwit run "$VMS/n/config.json" --control /tmp/x
pass "an image that is not raw is refused by name"
rmmod null_blk

# ---- console and balloon ----
vm_config c '{"id":"con0","type":"virtio-console","socket":"/tmp/hvc"}' '{"id":"bal0","type":"virtio-balloon"}'
vm_start c
vm_up c
con c 10 'ls /dev/hvc0' >/dev/null || die "no console"
socat -u UNIX-CONNECT:/tmp/hvc OPEN:/tmp/hvc.out,create,trunc &
reader=$!
# It makes the file when it is connected.
wait_for 10 test -e /tmp/hvc.out || die "no socat"
con c 10 'seq 1 600 >/dev/hvc0'
seq 1 600 | md5sum >/tmp/want
_all() { [ "$(tr -d '\r' </tmp/hvc.out | md5sum)" = "$(cat /tmp/want)" ]; }
wait_for 20 _all || die "the console lost something: $(wc -l </tmp/hvc.out) lines"
kill $reader
pass "console: 600 lines in order"

free_kib() { con c 10 "sed -n 's/MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"; }
pss() { sed -n 's/^Pss: *\([0-9]*\).*/\1/p' "/proc/$(cat "$VMS/c/pid")/smaps_rollup"; }
before=$(free_kib)
ctl c balloon value=$((160 << 20)) >/dev/null
_small() { [ "$(ctl c query-balloon | field actual)" -le $((160 << 20)) ]; }
wait_for 30 _small || die "the balloon does not grow: $(ctl c query-balloon)"
[ "$(free_kib)" -lt $((before - 120000)) ] || die "the guest has as much as before: $before, $(free_kib)"
ctl c balloon value=$((320 << 20)) >/dev/null
_large() { [ "$(free_kib)" -gt $((before - 20000)) ]; }
wait_for 30 _large || die "the balloon does not shrink: $before, $(free_kib)"
pass "balloon: grows and shrinks"

con c 30 'dd if=/dev/zero of=/tmp/fill bs=1M count=120 2>/dev/null'
full=$(pss)
con c 10 'rm /tmp/fill'
_reported() { [ "$(pss)" -lt $((full - 80000)) ]; }
wait_for 30 _reported || die "freed pages stay: $full KiB, $(pss) KiB"
pass "balloon: pages that the guest has freed go back to the host"
vm_quit c

# ---- vsock, by UNIX sockets and by the kernel ----
load vhost_vsock
vsocktest=$LAB/bin/vsocktest
vm_config v '{"id":"vs0","type":"virtio-vsock","cid":42,"socket":"/tmp/vs","vhost":"off"}'
vm_start v
vm_up v
socat UNIX-LISTEN:/tmp/vs_700,fork EXEC:cat &
echoes=$!
wait_for 10 test -S /tmp/vs_700 || die "no socat"
con v 30 vsocktest call 2 700 || die "from the guest to a UNIX socket"
con v 10 'vsocktest echo 701 >/tmp/echo 2>&1 &'
_echoes() { con "$1" 10 grep -q listening /tmp/echo; }
wait_for 10 _echoes v || die "$(con v 10 cat /tmp/echo)"
_heard() {
	: >/tmp/heard
	{
		echo "CONNECT 701"
		wait_for 5 grep -q '^OK' /tmp/heard && echo hello && wait_for 5 grep -q hello /tmp/heard
	} | socat - UNIX-CONNECT:/tmp/vs >/tmp/heard || :
	[ "$(tail -n 1 /tmp/heard)" = hello ]
}
wait_for 10 _heard || die "from a UNIX socket to the guest"
con v 10 vsocktest call 2 999 2>&1 | grep -q reset || die "a port on which nobody listens"
pass "vsock by UNIX sockets, both ways"
vm_quit v
kill $echoes
vm_config w '{"id":"vs0","type":"virtio-vsock","cid":43,"vhost":"on"}'
vm_start w
vm_up w
"$vsocktest" echo 702 >/tmp/echo &
echoes=$!
wait_for 10 grep -q listening /tmp/echo || die "no echo"
con w 30 vsocktest call 2 702 || die "from the guest to the host"
con w 10 'vsocktest echo 703 >/tmp/echo 2>&1 &'
wait_for 10 _echoes w || die "$(con w 10 cat /tmp/echo)"
"$vsocktest" call 43 703 || die "from the host to the guest"
kill $echoes
vm_incoming x unix:/tmp/mig.x --map devices.vs0.cid=44
ctl w migrate uri=unix:/tmp/mig.x >/dev/null
vm_moved w x 60
"$vsocktest" call 44 703 || die "from the host to the guest, which has moved"
pass "vsock by the kernel, both ways, and after a move to another CID"
vm_quit x

# ---- every type comes and goes ----
vm_config e
vm_start e
vm_up e
pci_count() { con e 10 'ls /sys/bus/pci/devices | wc -l'; }
base=$(pci_count)
ip tuntap add tap1 mode tap vnet_hdr
comes_and_goes() { # TYPE ARGS...
	_type=$1
	shift
	ctl e device_add "driver=$_type" id=hot0 "$@" >/dev/null || die "$_type: device_add"
	_came() { [ "$(pci_count)" = $((base + 1)) ]; }
	wait_for 15 _came || die "$_type: the guest does not see it"
	expect_event e DEVICE_DELETED device=hot0
	ctl e device_del id=hot0 >/dev/null || die "$_type: device_del"
	event_came e DEVICE_DELETED
	_went() { [ "$(pci_count)" = "$base" ]; }
	wait_for 15 _went || die "$_type: the guest still sees it"
}
for _ in 1 2; do
	comes_and_goes virtio-blk file=/tmp/disk.img queues=2
	comes_and_goes virtio-net tap=tap1
	comes_and_goes virtio-rng
	comes_and_goes virtio-console socket=/tmp/hot.sock
	# Linux 6.12 falls over when it removes a balloon that has a reporting queue and none for
	# hints (vp_del_vqs looks the queues up by another index than it stored them by).
	comes_and_goes virtio-balloon free-page-reporting=false
	comes_and_goes virtio-vsock cid=7 vhost=off socket=/tmp/hot.vsock
	comes_and_goes pvpanic
	comes_and_goes i6300esb
done
comes_and_goes virtio-rng-pci bus=pcie.0 addr=0x1a disable-legacy=on packed=on
comes_and_goes virtio-blk-pci file=/tmp/disk.img num-queues=2 write-cache=on
comes_and_goes virtio-net-pci tap=tap1 mq=on vectors=4
comes_and_goes pvpanic-pci
expect_fail '"drive": d0' ctl e device_add driver=virtio-blk-pci id=x drive=d0
no_complaint e
[ "$(find /tmp -name 'hot.*sock*' | wc -l)" = 0 ] || die "sockets are left: $(find /tmp -name 'hot.*sock*')"
pass "every type of device comes and goes at run time, twice, and by QEMU's names"
vm_quit e

# ---- the guest's end ----
vm_config d '{"id":"panic0","type":"pvpanic"}' '{"id":"dog0","type":"i6300esb","action":"none"}'
vm_start d
vm_up d
expect_fail 'not offered' ctl d set-action panic=none reboot=shutdown
ctl d set-action panic=pause watchdog=reset reboot=reset >/dev/null
ctl d query-config | tr -d ' \n\t' | grep -q '"action":"pause".*"action":"reset"' || die "$(ctl d query-config)"
[ "$(con d 10 cat /sys/class/watchdog/watchdog0/identity)" = "i6300ESB timer" ] || die "no watchdog"
expect_event d WATCHDOG action=reset
# Opened once, told 4 s, never fed again. There may be no time left for an answer.
con d 20 -s 'watchdog -T 4 -t 60 /dev/watchdog0'
event_came d WATCHDOG
_twice() { [ "$(grep -c 'GUEST READY' "$VMS/d/con.log")" -ge 2 ]; }
wait_for 40 _twice || die "the guest did not come up again"
pass "a watchdog that is not fed resets the machine"

expect_event d GUEST_PANICKED action=pause
con d 10 -s 'echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger' || :
event_came d GUEST_PANICKED
vm_is d paused
pass "a panic is told, and the machine pauses"
ctl d dump-guest-memory paging=false protocol=file:/tmp/core >/dev/null
[ "$(dd if=/tmp/core bs=1 skip=1 count=3 status=none)" = ELF ] || die "no core file"
readelf -hl /tmp/core | grep -q CORE || die "$(readelf -h /tmp/core)"
strings -n 20 /tmp/core | grep -q 'sysrq: Trigger a crash' || die "the guest's last words are not in it"
pass "a dump of it is an ELF core with the kernel's log"
vm_quit d
