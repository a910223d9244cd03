#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: arm64
# hosts: 2
# seconds: 240
# long-arm64: cortex-a72 1 60
#
# A guest with an mtty card, writing memory all the while, moves live from host to host and back.
set -eu
. "$ROOT/tests/lab/vm.sh"
PLAIN_TCP=1

pass() { echo "PASS live-arm64 $*"; }
MEMORY=256M

verify() {
	con vm 60 worker verify >/tmp/verify
	grep -q 'pages_bad=0' /tmp/verify || die "$(cat /tmp/verify)"
}

# take ROUND SEED: takes the guest in, and checks all that it brought.
take() {
	rm -f "$VMS/vm/ctl"
	vm_incoming vm "tcp:0.0.0.0:$((4400 + $1))" --map "devices.tty0.host=$MTTY"
	lab_mark "listening-$1"
	lab_await "moved-$1" 120 >/tmp/moved
	vm_is vm running
	verify
	con vm 20 ttytest check 0 9 "$2"
	con vm 20 ttytest talk 1 0.5
	pass "round $1: counter, patterns, the card's registers and FIFO as they were; $(cat /tmp/moved)"
}

# give ROUND SEED: leaves something in the card, and sends the guest on.
give() {
	con vm 20 ttytest fill 0 9 "$2"
	con vm 20 worker reset
	lab_await "listening-$1" 60
	ctl vm migrate-set-parameters downtime-limit=500 >/dev/null
	ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:$((4400 + $1))" >/dev/null
	ctl vm wait-migration --timeout 100 >/tmp/migration || die "round $1: $(cat /tmp/migration)"
	[ "$(vm_status vm)" = postmigrate ] || die "the source is $(vm_status vm)"
	lab_mark "moved-$1" "downtime $(field downtime "$(cat /tmp/migration)") ms, in all $(
		field total-time "$(cat /tmp/migration)") ms"
	vm_quit vm
}

if [ "$LAB_HOST" = a ]; then
	vm_config vm "tty0=$MTTY@5"
	vm_start vm
	vm_up vm
	con vm 30 worker start 32 4
	con vm 20 ttytest talk 1 0.5
	give 1 5
	take 2 6
	if con vm 10 "dmesg | grep -E 'BUG:|WARNING:|Call trace|soft lockup'"; then
		die "the guest's kernel complains"
	fi
	ctl vm system_powerdown >/dev/null
	vm_gone vm
	pass "and its kernel has no complaint"
else
	take 1 5
	give 2 6
fi
