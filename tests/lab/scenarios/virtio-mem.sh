#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 400
# memory: 3072
#
# Memory that is given to a running Linux guest and taken from it again: plugged at start and later, used,
# saved and restored, moved, dumped, gone after a reset; with the device plugged in at run time as well.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS virtio-mem $*"; }

MIB=1048576
MEMORY=256M
# Movable, so that what is free can go again.
CMDLINE=memhp_default_state=online_movable

total_kib() { con "$1" 10 "sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"; }
plugged() { ctl "$1" query-memory-size-summary | field plugged-memory; }
_plugged() { [ "$(plugged "$1")" = "$2" ]; }
request() { ctl "$1" device-command "id=$2" command=requested-size "arguments={\"size\":$(($3 * MIB))}" >/dev/null; }
await_plugged() {
	wait_for "${3:-30}" _plugged "$1" $(($2 * MIB)) || die "$1 has $(plugged "$1") plugged, not $2 MiB: $(ctl "$1" query-devices; con "$1" 10 'dmesg | tail -n 20')"
}

# ---- at start, and more while it runs ----
vm_config a '{"id":"mem0","type":"virtio-mem","size":"1G","requested":"128M"}'
vm_start a
vm_up a
await_plugged a 128
base=$(total_kib a)
# 256 MiB, less what the kernel takes, 64 MiB of it for bounce buffers; and 128 MiB.
[ "$base" -gt 270000 ] || die "the guest does not use what it was given: $base KiB"
pass "plugged at start"

expect_event a MEMORY_DEVICE_SIZE_CHANGE id=mem0
request a mem0 512
event_came a MEMORY_DEVICE_SIZE_CHANGE
await_plugged a 512
[ "$(total_kib a)" -gt $((base + 380000)) ] || die "the guest has $(total_kib a) KiB, and had $base"
expect_fail "multiple of" ctl a device-command id=mem0 command=requested-size 'arguments={"size":1000000}'
expect_fail "up to" ctl a device-command id=mem0 command=requested-size 'arguments={"size":2147483648}'
expect_fail "has to be 0 first" ctl a device_del id=mem0
pass "grows while the guest runs"

# More than the guest had without.
con a 60 worker start 300 4 || die "worker"
verify a
pss() { sed -n 's/^Pss: *\([0-9]*\).*/\1/p' "/proc/$(cat "$VMS/$1/pid")/smaps_rollup"; }
full=$(pss a)
[ "$full" -gt 300000 ] || die "300 MiB do not fit into $full KiB"

# ---- a dump has it ----
ctl a dump-guest-memory paging=false protocol=file:/tmp/core >/dev/null
readelf -lW /tmp/core | grep -q '0x0*100000000 ' || die "the dump: $(readelf -lW /tmp/core)"
rm /tmp/core
pass "dumped"

# ---- saved, killed, restored ----
ctl a snapshot-save directory=/tmp/snap >/dev/null
vm_kill a
vm_restore b /tmp/snap
vm_ready b
vm_is b running
await_plugged b 512
verify b
[ "$(du -k /tmp/snap/memory | cut -f1)" -lt 900000 ] || die "what is not plugged was saved: $(du -k /tmp/snap/memory)"
pass "saved, killed, restored"
request b mem0 640
await_plugged b 640
verify b
pass "grows where it was restored"

# ---- moved while it is asked to grow: it is put off, and grows there ----
# With a byte a second to reckon with it does not switch over before that has been asked.
ctl b migrate-set-parameters max-bandwidth=$((40 * MIB)) avail-switchover-bandwidth=1 >/dev/null
vm_incoming c unix:/tmp/mig.c
ctl b migrate uri=unix:/tmp/mig.c >/dev/null
_under_way() { [ "$(ctl b query-migrate | field status)" = active ]; }
wait_for 20 _under_way || die "it does not begin: $(ctl b query-migrate)"
expect_fail "under way" ctl b device-command id=mem0 command=requested-size 'arguments={"size":0}'
con b 10 'worker rate 1' >/dev/null
ctl b migrate-set-parameters max-bandwidth=$((2000 * MIB)) avail-switchover-bandwidth=$((200 * MIB)) >/dev/null
vm_moved b c 90
rm -rf /tmp/snap
await_plugged c 640
verify c
pass "moved live"
request c mem0 768
await_plugged c 768
verify c

# ---- smaller ----
con c 10 worker stop >/dev/null
big=$(pss c)
request c mem0 128
await_plugged c 128 60
[ "$(total_kib c)" -lt $((base + 20000)) ] || die "the guest has $(total_kib c) KiB, and began with $base"
[ "$(pss c)" -lt $((big - 150000)) ] || die "the host has not got it back: $big KiB, $(pss c) KiB"
pass "shrinks; the host has its memory again"

# ---- a reset takes all of it, and the guest plugs what is requested anew ----
con c 10 -s 'reboot -f' || :
_twice() { [ "$(grep -c 'GUEST READY' "$VMS/c/con.log")" -ge 1 ] && con c 5 true >/dev/null 2>&1; }
wait_for 60 _twice || die "the guest did not come up again"
await_plugged c 128
[ "$(total_kib c)" -lt $((base + 20000)) ] || die "after the reset: $(total_kib c) KiB"
pass "reset"

# ---- the device itself comes and goes ----
ctl c device_add driver=virtio-mem id=mem1 size=256M requested=128M >/dev/null
await_plugged c 256
expect_fail "has to be 0 first" ctl c device_del id=mem1
request c mem1 0
await_plugged c 128
ctl c device_del id=mem1 >/dev/null
_gone() { ctl c query-devices >/tmp/devices && ! grep -q mem1 /tmp/devices; }
wait_for 20 _gone || die "mem1 stays: $(con c 10 'dmesg | tail -n 20')"
ctl c device_add driver=virtio-mem id=mem1 size=256M requested=256M >/dev/null
await_plugged c 384
con c 60 worker start 150 4 || die "worker"
vm_incoming d unix:/tmp/mig.d
ctl c migrate uri=unix:/tmp/mig.d >/dev/null
ctl c wait-migration --timeout 90 >/dev/null || die "migration: $(ctl c query-migrate)"
vm_is d running
await_plugged d 384
verify d
pass "a second device, plugged in at run time, unplugged, plugged in again, moved"
no_complaint d '[Ww]arn'
vm_quit c
vm_quit d

# ---- with devices that reach memory by themselves: a mediated one that moves along, a card behind the IOMMU ----
second=$(make_mtty 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002)
vm_config e "tty0=$MTTY@5" '{"id":"mem0","type":"virtio-mem","size":"1G","requested":"128M"}'
vm_start e
vm_up e
await_plugged e 128
con e 60 worker start 64 4 || die "worker"
vm_incoming f unix:/tmp/mig.f --map "devices.tty0.host=$second"
ctl e migrate uri=unix:/tmp/mig.f >/dev/null
ctl e wait-migration --timeout 90 >/dev/null || die "migration: $(ctl e query-migrate)"
vm_is f running
verify f
request f mem0 256
await_plugged f 256
verify f
vm_quit e
vm_quit f
pass "moved with a passthrough device"

load vhost_vsock
dmesg -c >/dev/null
vm_config g "nic0=$NIC@16" '{"id":"vsock0","type":"virtio-vsock","cid":7,"vhost":"on"}' \
	'{"id":"mem0","type":"virtio-mem","size":"1G","requested":"128M"}'
vm_start g
vm_up g
con g 10 nic 10.7.0.2/24
await_plugged g 128
locked() { sed -n 's/^VmLck:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$(cat "$VMS/g/pid")/status"; }
[ "$(locked)" -gt 370000 ] || die "what was plugged is not pinned: $(locked) KiB"
request g mem0 512
await_plugged g 512
[ "$(locked)" -gt 760000 ] || die "what was plugged is not pinned: $(locked) KiB"
request g mem0 0
await_plugged g 0 60
[ "$(locked)" -lt 290000 ] || die "it is still pinned: $(locked) KiB"
[ "$(pss g)" -lt 400000 ] || die "the host has not got it back: $(pss g) KiB"
ctl g device_del id=nic0 >/dev/null
_unplugged() { ctl g query-devices >/tmp/devices && ! grep -q nic0 /tmp/devices; }
wait_for 20 _unplugged || die "the card stays"
request g mem0 128
await_plugged g 128
ctl g device_add driver=vfio-pci id=nic1 host="$NIC" >/dev/null
_nic() { con g 5 nic 10.7.0.3/24 >/dev/null 2>&1; }
wait_for 20 _nic || die "the card does not come again"
[ "$(locked)" -gt 370000 ] || die "what was plugged before the card came is not pinned: $(locked) KiB"
ctl g device_add driver=virtio-mem id=mem1 size=256M requested=128M >/dev/null
await_plugged g 256
dmesg | grep -E 'IO_PAGE_FAULT|vfio_pin|WARN' && die "the host's kernel complains"
no_complaint g '[Ww]arn'
vm_quit g
pass "a card behind the IOMMU: pinned with what is plugged, and no longer than that"

# ---- reserved huge pages: taken when a block comes, and asked for again when there are too few ----
MEMORY=128M
echo 96 >/proc/sys/vm/nr_hugepages
vm_config h '{"id":"mem0","type":"virtio-mem","size":"1G"}'
vm_start h --set backing.pages=2M
vm_up h
request h mem0 128
_short() { grep -q 'no more memory is plugged' "$VMS/h/log"; }
wait_for 20 _short || die "32 huge pages were enough for 128 MiB"
[ "$(plugged h)" -lt $((128 * MIB)) ] || die "plugged: $(plugged h)"
echo 160 >/proc/sys/vm/nr_hugepages
request h mem0 130
request h mem0 128
await_plugged h 128
con h 60 worker start 90 4 || die "worker"
verify h
con h 10 worker stop >/dev/null
request h mem0 0
await_plugged h 0 60
free=$(sed -n 's/HugePages_Free: *//p' /proc/meminfo)
[ "$free" -ge 96 ] || die "$free huge pages are free"
vm_quit h
echo 0 >/proc/sys/vm/nr_hugepages
pass "reserved huge pages"
