#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 400
# long: 1 400
#
# usage: midway.sh [ROUNDS]      with ROUNDS, each mask; without, that of both features at once
#
# What a guest does to its devices, and its owner to the machine, in the middle of a migration; and
# an mtty whose features are masked, each set of them.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS midway $*"; }
MEMORY=256M
MTTY2=$(make_mtty 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002)

# A device with pre-copy data, anew: from one server to one that speaks as libvfio-user does, and back.
serve_load() {
	unserve "$1"
	other_manner
	serve "$1" ballast --size 4M --pre-copy --dirty-rate 64K
}
serve_load a
vm_config a "{\"id\":\"tty0\",\"type\":\"vfio-pci\",\"host\":\"$MTTY\",\"slot\":5}" \
	"{\"id\":\"load\",\"type\":\"vfio-user-pci\",\"socket\":\"/tmp/a.sock\",\"slot\":6,\"timeout\":$(patience 20000)}"
vm_start a
vm_up a
con a 30 worker start 16 4

# With a byte a second to reckon with the switchover never fits its limit, however little is left (the
# mtty's final state is): the middle lasts until it is to be fast.
limits() {
	ctl "$1" migrate-set-parameters "max-bandwidth=$2" "avail-switchover-bandwidth=$3" downtime-limit=500 >/dev/null
}
fast() { limits "$1" 100000000000 200000000; }
slow() { limits "$1" 20000000 1; }
# Its second look at memory: devices copy as well by then.
_copying() { ctl "$1" query-migrate >/tmp/progress && grep -q '"dirty-sync-count": *\([2-9]\|[1-9][0-9]\)' /tmp/progress; }

# Where the guest is, and where it goes next.
from=a to=b
# maps VM: which devices of the host it has
maps() {
	case $1 in a) _card=$MTTY ;; *) _card=$MTTY2 ;; esac
	echo "--map devices.tty0.host=$_card --map devices.load.socket=/tmp/$1.sock"
}
# expect [OPTION...]: somebody waits for it where it goes.
# shellcheck disable=SC2046
expect() {
	serve_load $to
	vm_incoming $to unix:/tmp/mig $(maps $to) "$@"
}
# begin: a migration is in the middle of pre-copy when this returns.
begin() {
	expect
	slow $from
	ctl $from migrate uri=unix:/tmp/mig >/dev/null
	wait_for 60 _copying $from || die "it does not come that far: $(cat /tmp/progress)"
}
# arrive: it is done, and the guest runs at its new place.
arrive() {
	fast $from
	vm_moved $from $to 90
	rm -f "$VMS/$from/con.log"
	x=$from from=$to to=$x
}
talks() { con $from 20 ttytest talk 1 0.3 >/dev/null || die "the mtty is silent"; }

begin
arrive
verify $from
talks
pass "undisturbed"

# ---- the guest ----
card_in_guest='for d in /sys/bus/pci/devices/*; do [ $(cat $d/vendor) != 0x4348 ] || basename $d; done'
begin
con $from 20 "cd /sys/bus/pci/drivers/serial; $card_in_guest >unbind" || die "the guest cannot take the driver off"
arrive
verify $from
con $from 20 "cd /sys/bus/pci/drivers/serial; $card_in_guest >bind" || die "the guest cannot put the driver back"
talks
pass "the guest takes a driver off its device, and puts it back where it arrives"

# The ballast has no driver: its registers (src/vfio/user/ballast.h) are reached by hand. Guest memory
# that Linux keeps away from is what it writes to.
LOAD=/sys/bus/pci/devices/0000:00:06.0
FREE=0x50000
# load OFFSET WIDTH [VALUE]: a register in its first BAR, read or written by the guest
load() { con $from 30 "read b rest <$LOAD/resource; devmem \$((b + $1)) $2 ${3-}" | grep -o '0x[0-9A-F]*' || :; }
_load_sent() {
	ctl $from query-migrate | tr -d ' \n' | grep -o '"id":"load","transferred":[0-9]*' >/tmp/sent &&
		[ "$(sed 's/.*://' /tmp/sent)" -gt 1000000 ]
}
_begun_again() { grep -q "device load: it was reset while its state was copied" "$VMS/$from/log"; }
con $from 30 "grep -q af_flr $LOAD/reset_method && echo 1 >$LOAD/enable" || die "the guest cannot reset it"
loads=$(load 0x40 64)
con $from 30 devmem $FREE 64 0 || die "no such memory"
begin
wait_for 60 _load_sent || die "its state is not copied: $(cat /tmp/sent)"
# It alone writes to memory that has been sent, and is reset before anybody has asked it for that.
load 0x1000 64 0x1122334455667788
load 0x20 64 $FREE
load 0x28 32 8
con $from 30 "read b rest <$LOAD/resource; devmem \$((b + 0x2c)) 32 2; echo 1 >$LOAD/reset" ||
	die "the reset fails"
[ "$(load 0x1000 64)" = 0x0000000000000000 ] || die "it was not reset"
load 0x1000 64 0x99AABBCCDDEEFF00
[ "$(ctl $from query-migrate | field status)" = active ] || die "the reset has ended the migration"
wait_for 60 _begun_again || die "nobody has noticed the reset"
arrive
verify $from
talks
[ "$(load 0x1000 64)" = 0x99AABBCCDDEEFF00 ] || die "it is not as it was after the reset"
[ $(($(load 0x40 64))) = $((loads + 1)) ] || die "its state was loaded $(load 0x40 64) times, not once more than $loads"
con $from 30 devmem $FREE 64 | grep -q 0x1122334455667788 || die "what it wrote before the reset is lost"
pass "the guest resets a device whose state is being copied: that begins again, and nothing is lost"

begin
ready=$(grep -c 'GUEST READY' "$VMS/$from/con.log" || :)
con $from 10 -s reboot -f || :
if ctl $from wait-migration --timeout 60 >/tmp/migration 2>&1; then die "it was to end: $(cat /tmp/migration)"; fi
grep -q "the guest was reset" /tmp/migration || die "$(cat /tmp/migration)"
vm_kill $to
_restarted() { [ "$(grep -c 'GUEST READY' "$VMS/$from/con.log")" -ge $((ready + 1)) ]; }
wait_for 60 _restarted || die "the guest does not start again"
con $from 30 worker start 16 4
talks
begin
arrive
verify $from
pass "a guest that restarts ends the migration, starts, and moves the next time"

# ---- its owner ----
begin
expect_fail "migrat" ctl $from device_del id=load
expect_fail "migrat" ctl $from device_add id=more type=virtio-rng
arrive
verify $from
talks
pass "devices do not come and go meanwhile"

begin
ctl $from migrate_cancel >/dev/null
if ctl $from wait-migration --timeout 40 >/tmp/migration 2>&1; then die "it was to be cancelled"; fi
grep -q 'not completed but cancelled' /tmp/migration || die "$(cat /tmp/migration)"
vm_is $from running
vm_kill $to
verify $from
talks
begin
arrive
verify $from
talks
pass "cancelled in the middle, and begun again"

# ---- masks ----
for without in ${1:+pre-copy p2p} pre-copy,p2p; do
	rm -rf /tmp/snap
	con $from 10 ttytest fill 0 9 3
	ctl $from snapshot-save directory=/tmp/snap --timeout 60 >/dev/null
	vm_kill $from
	rm -f "$VMS/$from/ctl" "$VMS/$from/con.log"
	serve_load $from
	# The device's own features come back with the next configuration.
	# shellcheck disable=SC2046
	vm_restore $from /tmp/snap $(maps $from) --map "devices.tty0.migration.without=$without"
	vm_is $from running
	con $from 10 ttytest check 0 9 3
	listen $from /tmp/events
	expect --map devices.tty0.migration.without=p2p
	fast $from
	ctl $from migrate uri=unix:/tmp/mig >/dev/null
	arrive
	wait "$listener" || : # it ends with the VM
	grep '"tty0"' /tmp/events >/tmp/states || die "no state of the mtty: $(cat /tmp/events)"
	case $without in *pre-copy*) ! grep -q pre-copy /tmp/states || die "not masked: $(cat /tmp/states)" ;; esac
	case $without in *p2p*) ! grep -q p2p /tmp/states || die "not masked: $(cat /tmp/states)" ;; esac
	verify $from
	talks
	pass "an mtty without $without"
done
