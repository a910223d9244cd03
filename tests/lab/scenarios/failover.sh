#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 2
# seconds: 300
# long: 50 30
# long-arm64: neoverse-n1 4 40
# nic: one address
#
# usage: failover.sh [ROUNDS]      (2; tests/check-long.sh has it do 50)
#
# A guest with an 82574L, which cannot migrate, and a virtio-net of the same address that stands in
# for it, is moved back and forth between two hosts. One TCP connection to host a lives through all
# of it, every byte checked. Migrations that fail, or are cancelled, give the card back. On arm64 the
# card is behind a root port.
set -eu
. "$ROOT/tests/lab/vm.sh"
PLAIN_TCP=1

ROUNDS=${1:-2}
MAC=52:54:00:79:00:01
GUEST_ADDR=10.78.0.100
PORT=4444
pass() { echo "PASS failover $*"; }
case $(uname -m) in aarch64) PLACE=',"port":2' ;; *) PLACE= ;; esac
case $LAB_HOST in a) own=1 SERVER=$PEER_ADDR ;; b) own=2 SERVER=$OTHER_PEER_ADDR ;; esac

# The stand-in reaches the segment that the card is on by a bridge.
load tun bridge || die "no modules"
ip link add br0 address 52:54:00:7b:00:0$own type bridge forward_delay 0
ip tuntap add tap0 mode tap
ip addr flush dev peer
ip link set peer master br0
ip link set tap0 master br0 up
ip addr add "$PEER_ADDR/24" dev br0
ip link set br0 up

# ---- the guest ------------------------------------------------------------------------------

# The card is there and its driver has sent by it.
_has_card() { con g 20 lspci | grep -q '8086:10d3 e1000e'; }
_carried() { con g 20 'cat /sys/bus/pci/drivers/e1000e/0000:*/net/*/statistics/tx_packets'; }
_carries() {
	_now_sent=$(_carried) && [ "$_now_sent" -gt "$sent" ]
}
carries() {
	wait_for 60 _has_card || die "the guest has no card"
	sent=$(_carried) || sent=0
	wait_for 60 _carries || die "the card carries nothing: $(con g 20 'ip addr; lspci')"
}

# ---- events ---------------------------------------------------------------------------------

# events_of FILE: each as a word, with status or device behind a colon.
events_of() {
	sed -n 's/.*"event": *"\([A-Z_]*\)".*"\(status\|device-id\)": *"\([^"]*\)".*/\1:\3/p;t
		s/.*"event": *"\([A-Z_]*\)".*/\1/p' "$1" | grep -v MIGRATION_PASS | tr '\n' ' '
}
_seen() { grep -q "$2" "/tmp/$1"; }
# came FILE EVENT SECONDS: waits for it, and ends the listening.
came() {
	wait_for "$3" _seen "$1" "\"$2\"" || die "no $2, but $(events_of "/tmp/$1")"
	kill $listener
	log "events: $(events_of "/tmp/$1")"
}
# in_order FILE WORD...: in that order, whatever is between them.
in_order() {
	_words=$(events_of "/tmp/$1")
	_rest=" $_words"
	shift
	for _w; do
		case $_rest in
		*" $_w "*) _rest=" ${_rest#*" $_w "}" ;;
		*) die "no $_w at its place: $_words" ;;
		esac
	done
}

# ---- moving ---------------------------------------------------------------------------------

send() {
	lab_await "ready-$1" 90
	listen g "/tmp/events-$1"
	ctl g migrate-set-parameters "unplug-timeout=$(patience 120000)" >/dev/null
	ctl g migrate "uri=tcp:$OTHER_MGMT_ADDR:$PORT" >/dev/null
	ctl g wait-migration --timeout 180 >/tmp/migration || die "$(cat /tmp/migration)"
	came "events-$1" completed 20
	in_order "events-$1" MIGRATION:setup UNPLUG_PRIMARY:nic0 MIGRATION:wait-unplug \
		MIGRATION:active MIGRATION:device STOP MIGRATION:completed
	log "round $1: downtime $(field downtime "$(cat /tmp/migration)") ms, in all $(field total-time "$(cat /tmp/migration)") ms"
	vm_quit g
	lab_mark "sent-$1"
}

receive() {
	rm -rf "$VMS/g"
	vm_incoming g "tcp:0.0.0.0:$PORT" "--map" "devices.nic0.host=$NIC"
	listen g "/tmp/events-$1"
	lab_mark "ready-$1"
	came "events-$1" PLUG_PRIMARY 240
	in_order "events-$1" MIGRATION:active MIGRATION:device FAILOVER_NEGOTIATED:net0 \
		PLUG_PRIMARY:nic0
	lab_await "sent-$1" 60
	carries
	stream_alive g
	log "round $1: $(cat /tmp/progress)"
}

# ---- those that fail ------------------------------------------------------------------------

# It refuses the configuration, which it gets when the card has left.
refuse() {
	vm_incoming x "tcp:0.0.0.0:$PORT" --map devices.net0.fd=nothing
	lab_mark "refusing"
	lab_await refused 120
	vm_quit x
	vm_incoming y "tcp:0.0.0.0:$PORT"
	lab_mark waiting
	lab_await cancelled 120
	vm_quit y
	vm_incoming z "tcp:0.0.0.0:$PORT"
	lab_mark watching
	lab_await kept 120
	vm_quit z
}

_card_is() { ctl g query-devices | grep -q '"id":"nic0","type":"vfio-pci","slot"'; }
fail_here() {
	lab_await refusing 60
	listen g /tmp/events-refused
	ctl g migrate "uri=tcp:$OTHER_MGMT_ADDR:$PORT" >/dev/null
	ctl g wait-migration --timeout 120 >/tmp/migration 2>&1 && die "it was not refused"
	came events-refused PLUG_PRIMARY 60
	in_order events-refused UNPLUG_PRIMARY:nic0 MIGRATION:wait-unplug MIGRATION:failed \
		PLUG_PRIMARY:nic0
	ctl g query-migrate | grep -q "destination: .*tap: either tap or fd" || die "$(ctl g query-migrate)"
	carries
	stream_alive g
	lab_mark refused
	pass "refused by the destination after the card had left: the guest has it back, its stream goes on"

	lab_await waiting 60
	listen g /tmp/events-cancelled
	ctl g migrate-set-parameters max-bandwidth=100000 >/dev/null
	ctl g migrate "uri=tcp:$OTHER_MGMT_ADDR:$PORT" >/dev/null
	wait_for 60 _seen events-cancelled '"active"' || die "$(events_of /tmp/events-cancelled)"
	ctl g migrate_cancel >/dev/null
	came events-cancelled PLUG_PRIMARY 60
	in_order events-cancelled UNPLUG_PRIMARY:nic0 MIGRATION:active MIGRATION:cancelled \
		PLUG_PRIMARY:nic0
	ctl g migrate-set-parameters max-bandwidth=0 >/dev/null
	carries
	stream_alive g
	lab_mark cancelled
	pass "cancelled while memory was sent: the guest has its card back, its stream goes on"

	lab_await watching 60
	listen g /tmp/events-kept
	ctl g migrate-set-parameters unplug-timeout=1 >/dev/null
	ctl g migrate "uri=tcp:$OTHER_MGMT_ADDR:$PORT" >/dev/null
	ctl g wait-migration --timeout 60 >/tmp/migration 2>&1 && die "the guest let go within 1 ms"
	ctl g query-migrate | grep -q "not let go within 1 ms; device nic0" || die "$(ctl g query-migrate)"
	# It may have begun to let go, and gets the card again then.
	carries
	kill $listener
	log "events: $(events_of /tmp/events-kept)"
	in_order events-kept UNPLUG_PRIMARY:nic0 MIGRATION:wait-unplug MIGRATION:failed
	ctl g migrate-set-parameters "unplug-timeout=$(patience 60000)" >/dev/null
	stream_alive g
	lab_mark kept
	pass "not let go of in time: the guest keeps its card, or gets it again, and goes on"
}

# ---- all of it ------------------------------------------------------------------------------

start_guest() {
	vm_config g "{\"id\":\"net0\",\"type\":\"virtio-net\",\"tap\":\"tap0\",\"mac\":\"$MAC\",\"standby\":true}" \
		"{\"id\":\"nic0\",\"type\":\"vfio-pci\",\"host\":\"$NIC\",\"failover\":\"net0\"$PLACE}"
	vm_start g
	vm_up g
	wait_for 30 _card_is || die "the card was not plugged in"
	[ -z "$PLACE" ] || ctl g query-devices | grep -q '"id":"nic0",.*"port":2' || die "the card is elsewhere: $(ctl g query-devices)"
	wait_for 30 _has_card || die "the guest has no card"
	nic=$(con g 20 nic "$GUEST_ADDR/24") || die "$nic"
	con g 20 "ls -1d /sys/class/net/$nic/lower_*" >/tmp/lower || die "$nic has no two below it"
	[ "$(wc -l </tmp/lower)" -eq 2 ] || die "$nic has below it: $(cat /tmp/lower)"
	wait_for 30 ping -c1 -W1 -q "$GUEST_ADDR" >/dev/null || die "the guest does not answer"
	stream_start g "$SERVER" 256
	carries
	stream_alive g
	pass "the guest's net_failover sends by the card"
}

case $LAB_HOST in
a)
	start_guest
	fail_here
	;;
b) refuse ;;
esac
for round in $(seq "$ROUNDS"); do
	case $LAB_HOST$((round % 2)) in
	a1 | b0) send "$round" ;;
	*) receive "$round" ;;
	esac
done

# It ends where the last round has left it; the other end of the stream is in a.
case $LAB_HOST$((ROUNDS % 2)) in
b1 | a0)
	con g 60 streamtest finish >/tmp/stream || die "$(cat /tmp/stream)"
	log "guest: $(cat /tmp/stream)"
	ctl g system_powerdown >/dev/null
	vm_gone g 30
	;;
esac
if [ "$LAB_HOST" = a ]; then
	wait "$stream" || die "$(cat /tmp/stream.host)"
	log "host: $(cat /tmp/stream.host)"
	pass "$ROUNDS times moved with a card that cannot migrate, and no byte of the stream lost, doubled or changed"
fi
