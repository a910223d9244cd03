#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: x86 arm64
# hosts: 2
# seconds: 420
# long: 50 30
#
# usage: nic-moves.sh [ROUNDS]      (2; tests/check-long.sh has it do 50)
#
# A guest whose only network card is a real one, by VFIO, moves with it: saved and restored, held
# back as its destination dies, then from host to host and back, ROUNDS times. One TCP connection through the card, data both ways and
# every byte checked, lives through all of it; the other end is a program on host a, by a card of
# its own on the same segment. The guest's driver notices nothing. On arm64 the card is behind a
# root port.
set -eu
. "$ROOT/tests/lab/vm.sh"
PLAIN_TCP=1

ROUNDS=${1:-2}
case $(uname -m) in
aarch64) PLACE='"port":2' ;;
*) PLACE='"slot":16' ;;
esac
MEMORY=192M
RATE=256
GUEST_ADDR=10.78.0.101
pass() { echo "PASS nic-moves $*"; }

COMPLAINTS='Reset adapter|Hardware Unit Hang|Link is Down|NETDEV WATCHDOG|timed out'

# What must not change: the address, how often the link changed, and what the driver said of it.
seen_by_driver() {
	con vm 20 'cat /sys/class/net/eth0/address /sys/class/net/eth0/carrier_changes; dmesg | grep -c e1000e'
}

# alive WHERE: data goes both ways, the driver has seen nothing.
alive() {
	stream_alive vm
	[ "$(seen_by_driver)" = "$(cat "$LAB_RUN/seen")" ] ||
		die "$1: the driver saw $(seen_by_driver), not $(cat "$LAB_RUN/seen")"
	no_complaint vm "$COMPLAINTS"
	verify vm
}

# All memory is sent while the card stands still, and the lab's link is slow.
parameters() {
	ctl vm migrate-set-parameters max-bandwidth=100000000000 downtime-limit=30000 >/dev/null
}

incoming() {
	rm -f "$VMS/vm/ctl"
	vm_incoming vm "tcp:0.0.0.0:$((4400 + $1))" --map "devices.nic0.host=$NIC"
	lab_mark "listening-$1"
	lab_await "moved-$1" 120 >/tmp/moved
	vm_is vm running
	alive "round $1"
	log "round $1: $(cat /tmp/moved); $(cat /tmp/progress)"
}

# The destination dies while the card stands still, and nearly all memory has yet to be sent.
lose_destination() {
	lab_await listening-0 120
	parameters
	expect_event vm VFIO_MIGRATION
	ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:4400" >/dev/null
	event_came vm VFIO_MIGRATION
	lab_mark kill-0
	if ctl vm wait-migration --timeout 120 >/tmp/migration 2>&1; then die "it went to a dead one"; fi
	[ "$(vm_status vm)" = running ] || die "the guest is $(vm_status vm)"
	alive "rolled back"
	pass "the destination dies while the card stands still: it runs on here, the stream too"
}
dying_destination() {
	vm_incoming vm tcp:0.0.0.0:4400 --map "devices.nic0.host=$NIC"
	lab_mark listening-0
	lab_await kill-0 180
	vm_kill vm
}

outgoing() {
	lab_await "listening-$1" 120
	parameters
	ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:$((4400 + $1))" >/dev/null
	ctl vm wait-migration --timeout 120 >/tmp/migration || die "round $1: $(cat /tmp/migration)"
	field downtime "$(cat /tmp/migration)" >>/tmp/downtimes
	lab_mark "moved-$1" "downtime $(field downtime "$(cat /tmp/migration)") ms, in all $(
		field total-time "$(cat /tmp/migration)") ms"
	vm_quit vm
}

begin() {
	godwit devices >/tmp/devices
	grep -A9 "^$NIC" /tmp/devices | grep -q 'migration: stop-copy p2p' || die "$(cat /tmp/devices)"
	streamtest serve "$PEER_ADDR" 6000 $RATE >/tmp/stream.host 2>&1 &
	stream=$!
	vm_config vm "{\"id\":\"nic0\",\"type\":\"vfio-pci\",\"host\":\"$NIC\",$PLACE,\"dirty-tracking\":\"none-ok\"}"
	sed -i 's/"memory"/"backing": {"pages": "2M"}, "memory"/' "$VMS/vm/config.json"
	vm_start vm
	vm_up vm
	con vm 20 nic $GUEST_ADDR/24 >/dev/null
	wait_for 20 ping -c1 -W1 -q $GUEST_ADDR >/dev/null || die "the guest does not answer"
	con vm 20 streamtest start "$PEER_ADDR" 6000 $RATE
	con vm 30 worker start 16 2
	seen_by_driver >"$LAB_RUN/seen"
	grep -q "52:54:00:79:00:01" "$LAB_RUN/seen" || die "not host a's card: $(cat "$LAB_RUN/seen")"
	alive "at first"
	pass "a guest's stream through the card"
}

save_restore() {
	ctl vm stop >/dev/null
	ctl vm snapshot-save directory=/tmp/snap --timeout 120 >/tmp/saved || die "$(cat /tmp/saved)"
	vm_kill vm
	rm -f "$VMS/vm/ctl"
	vm_restore vm /tmp/snap
	vm_is vm paused 60
	rm -r /tmp/snap
	ctl vm cont >/dev/null
	vm_is vm running
	alive "restored"
	pass "saved, killed, restored in a new process: the stream goes on"
}

# The emulated card drops what is sent from a buffer that is not in one piece in the host's memory; a
# real one does not. In huge pages every buffer is.
echo 100 >/proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" = 100 ] || die "no huge pages"
bind_movable "$NIC" || die "not bound"
if [ "$LAB_HOST" = a ]; then
	begin
	save_restore
	lose_destination
else
	dying_destination
fi
mine=a
for round in $(seq "$ROUNDS"); do
	if [ "$LAB_HOST" = $mine ]; then outgoing "$round"; else incoming "$round"; fi
	case $mine in a) mine=b ;; *) mine=a ;; esac
done
[ ! -e /tmp/downtimes ] || log "downtimes in ms from here: $(spread /tmp/downtimes)"

if [ "$LAB_HOST" = $mine ]; then
	con vm 60 streamtest finish >/tmp/stream || die "$(cat /tmp/stream)"
	log "the guest's end: $(cat /tmp/stream)"
	verify vm
	lab_mark finished
	ctl vm system_powerdown >/dev/null
	vm_gone vm
	pass "$ROUNDS times from host to host, its address, link and driver as they were"
fi
[ "$LAB_HOST" = a ] || exit 0
lab_await finished 120
wait "$stream" || die "the host's end: $(cat /tmp/stream.host)"
log "$(cat /tmp/stream.host)"
pass "the TCP connection lived through it, no byte lost, doubled or changed"
