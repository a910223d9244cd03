#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 300
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
good() { con "$1" 60 worker verify | grep -q 'pages_bad=0 ' || die "memory of $1: $(con "$1" 10 worker status)"; }

# ---- at start, and more while it runs ----
vm_config a '{"id":"mem0","type":"virtio-mem","size":"1G","requested":"128M"}'
vm_start a
vm_up a
await_plugged a 128
base=$(total_kib a)
[ "$base" -gt 340000 ] || die "the guest does not use what it was given: $base KiB"
pass "plugged at start"

ctl a wait MEMORY_DEVICE_SIZE_CHANGE id=mem0 --timeout 30 >/tmp/event &
waiter=$!
sleep 0.3
request a mem0 512
wait "$waiter" || die "no event"
await_plugged a 512
[ "$(total_kib a)" -gt $((base + 380000)) ] || die "the guest has $(total_kib a) KiB, and had $base"
expect_fail "multiple of" ctl a device-command id=mem0 command=requested-size 'arguments={"size":1000000}'
expect_fail "up to" ctl a device-command id=mem0 command=requested-size 'arguments={"size":2147483648}'
expect_fail "has to be 0 first" ctl a device_del id=mem0
pass "grows while the guest runs"

# More than the guest had without.
con a 60 worker start 400 20 || die "worker"
good a
pss() { sed -n 's/^Pss: *\([0-9]*\).*/\1/p' "/proc/$(cat "$VMS/$1/pid")/smaps_rollup"; }
full=$(pss a)
[ "$full" -gt 400000 ] || die "400 MiB do not fit into $full KiB"

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
good b
[ "$(du -k /tmp/snap/memory | cut -f1)" -lt 900000 ] || die "what is not plugged was saved: $(du -k /tmp/snap/memory)"
pass "saved, killed, restored"
request b mem0 640
await_plugged b 640
good b
pass "grows where it was restored"

# ---- moved while it is asked to grow: it is put off, and grows there ----
ctl b migrate-set-parameters max-bandwidth=$((40 * MIB)) >/dev/null
vm_incoming c unix:/tmp/mig.c
ctl b migrate uri=unix:/tmp/mig.c >/dev/null
sleep 1
expect_fail "under way" ctl b device-command id=mem0 command=requested-size 'arguments={"size":0}'
con b 10 'worker rate 1' >/dev/null
ctl b migrate-set-parameters max-bandwidth=$((2000 * MIB)) >/dev/null
ctl b wait-migration --timeout 90 >/dev/null || die "migration: $(ctl b query-migrate)"
vm_is c running
vm_quit b
rm -rf /tmp/snap
await_plugged c 640
good c
pass "moved live"
request c mem0 768
await_plugged c 768
good c

# ---- smaller ----
con c 10 worker stop >/dev/null
big=$(pss c)
request c mem0 128
await_plugged c 128 60
[ "$(total_kib c)" -lt $((base + 20000)) ] || die "the guest has $(total_kib c) KiB, and began with $base"
[ "$(pss c)" -lt $((big - 200000)) ] || die "the host has not got it back: $big KiB, $(pss c) KiB"
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
_gone() { ! ctl c query-devices | grep -q mem1; }
wait_for 20 _gone || die "mem1 stays: $(con c 10 'dmesg | tail -n 20')"
ctl c device_add driver=virtio-mem id=mem1 size=256M requested=256M >/dev/null
await_plugged c 384
con c 60 worker start 300 10 || die "worker"
vm_incoming d unix:/tmp/mig.d
ctl c migrate uri=unix:/tmp/mig.d >/dev/null
ctl c wait-migration --timeout 90 >/dev/null || die "migration: $(ctl c query-migrate)"
vm_is d running
await_plugged d 384
good d
pass "a second device, plugged in at run time, unplugged, plugged in again, moved"
con d 10 dmesg | grep -iE 'warn|bug:|call trace' && die "the guest's kernel is not happy"
vm_quit c
vm_quit d
