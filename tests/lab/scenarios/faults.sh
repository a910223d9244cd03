#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: moves
# seconds: 300
# long: 20 10
#
# usage: faults.sh [ROUNDS]      (2; tests/check-long.sh has it do 20)
#
# Live migration within one host, an mtty card along, and everything that can end it early: after
# each the guest runs at its source, its card too, and can be migrated again.
set -eu
. "$ROOT/tests/lab/vm.sh"

ROUNDS=${1:-2}
pass() { echo "PASS faults $*"; }
MEMORY=256M
MTTY2=$(make_mtty 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002)

unhurt() {
	vm_is a running 10
	verify a
	con a 20 ttytest talk 1 0.3 >/dev/null
}
# With a byte a second to reckon with it does not switch over, however slowly the guest writes.
limits() { ctl a migrate-set-parameters "max-bandwidth=$1" "avail-switchover-bandwidth=$2" downtime-limit=500 >/dev/null; }
fast() { limits 100000000000 200000000; }
slow() { limits 20000000 1; }
sending() {
	ctl a query-migrate >/tmp/progress
	_sent=$(sed -n 's/.*"ram": *{"transferred": *\([0-9]*\).*/\1/p' /tmp/progress)
	[ "${_sent:-0}" -gt "$1" ]
}
# failed TEXT: the migration ends, not completed, saying TEXT.
failed() {
	if ctl a wait-migration --timeout 40 >/tmp/migration 2>&1; then die "it was to fail: $1"; fi
	grep -q -e "$1" /tmp/migration || die "it does not say '$1' but: $(cat /tmp/migration)"
	log "$(cat /tmp/migration)"
}

vm_config a "tty0=$MTTY@5"
vm_start a
vm_up a
con a 30 worker start 64 4
fast

expect_fail "neither tcp:" ctl a migrate uri=ftp:x
ctl a migrate uri=unix:/tmp/nobody >/dev/null
failed "No such file"
unhurt
pass "nobody listens"

vm_incoming b unix:/tmp/mig --map devices.tty0.host=/sys/bus/mdev/devices/none
ctl a migrate uri=unix:/tmp/mig >/dev/null
failed "destination: .*tty0.*no such device"
unhurt
[ "$(vm_status b)" = inmigrate ] || die "the destination is $(vm_status b)"
vm_kill b
pass "the destination has not the device: its words reach the source"

echo 83b8f4f2-509f-382f-3c1e-e6bfe0fa1003 >/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/create
vm_incoming b unix:/tmp/mig --map devices.tty0.host=/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1003
ctl a migrate uri=unix:/tmp/mig >/dev/null
failed "destination: .*tty0.*not compatible: BAR"
unhurt
vm_kill b
pass "another kind of card at the destination is refused before anything is loaded"

for point in 1000000 60000000; do
	vm_incoming b unix:/tmp/mig --map "devices.tty0.host=$MTTY2"
	slow
	ctl a migrate uri=unix:/tmp/mig >/dev/null
	wait_for 30 sending "$point" || die "nothing is sent"
	ctl a migrate_cancel >/dev/null
	failed cancelled
	unhurt
	[ "$(vm_status b)" = inmigrate ] || die "the destination is $(vm_status b)"
	vm_kill b
	pass "cancelled after $point bytes"

	vm_incoming b unix:/tmp/mig --map "devices.tty0.host=$MTTY2"
	ctl a migrate uri=unix:/tmp/mig >/dev/null
	wait_for 30 sending "$point" || die "nothing is sent"
	vm_kill b
	failed "connection lost"
	unhurt
	pass "the destination is killed after $point bytes"
done

vm_incoming b unix:/tmp/mig --map "devices.tty0.host=$MTTY2"
ctl a migrate uri=unix:/tmp/mig >/dev/null
wait_for 30 sending 1000000 || die "nothing is sent"
kill -STOP "$(cat "$VMS/b/pid")"
fast
failed "ms"
unhurt
losses() { grep -c 'migration: incoming: .*connection lost' "$VMS/b/log" || :; }
before=$(losses)
kill -CONT "$(cat "$VMS/b/pid")"
_awake() { [ "$(losses)" -gt "$before" ]; }
wait_for 20 _awake || die "the destination does not notice: $(tail -n 5 "$VMS/b/log")"
[ "$(vm_status b)" = inmigrate ] || die "the destination is $(vm_status b)"
vm_kill b
pass "a destination that falls silent is given up; awake again, it does not run"

ctl a stop >/dev/null
vm_incoming b unix:/tmp/mig --map "devices.tty0.host=$MTTY2"
ctl a migrate uri=unix:/tmp/mig >/dev/null
ctl a wait-migration --timeout 40 >/tmp/migration || die "not completed"
vm_is b paused
ctl b query-migrate >/tmp/arrived
for name in total normal duplicate; do
	[ "$(field $name <"/tmp/migration")" = "$(field $name <"/tmp/arrived")" ] ||
		die "$name: $(cat /tmp/migration), but $(cat /tmp/arrived)"
done
for side in migration arrived; do
	grep -q '"remaining":0,"total":268435456,' /tmp/$side || die "$side: $(cat /tmp/$side)"
done
expect_fail "handed over" ctl a cont
vm_quit a
pass "a stopped guest arrives stopped; its source does not run it any more"
ctl b cont >/dev/null

# Back and forth, under load.
from=b to=a
for round in $(seq "$ROUNDS"); do
	case $to in a) card=$MTTY ;; *) card=$MTTY2 ;; esac
	con $from 10 ttytest fill 0 7 "$round"
	vm_incoming $to unix:/tmp/mig --map "devices.tty0.host=$card"
	ctl $from migrate-set-parameters downtime-limit=500 >/dev/null
	ctl $from migrate uri=unix:/tmp/mig >/dev/null
	vm_moved $from $to 60
	rm -f "$VMS/$from/con.log"
	verify $to
	con $to 10 ttytest check 0 7 "$round"
	log "round $round: downtime $(field downtime "$(cat /tmp/migration)") ms; $(cat /tmp/verify)"
	x=$from from=$to to=$x
done
pass "$ROUNDS live migrations in a row, patterns and card as they were"
