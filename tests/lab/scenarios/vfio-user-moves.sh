#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: moves
# seconds: 300
# long: 50 20
# long-arm64: neoverse-n1 8 40
#
# usage: vfio-user-moves.sh [ROUNDS]      (2; tests/check-long.sh has it do 50)
#
# A guest whose network card and disk are served by other processes moves, ROUNDS times in a row, each
# time to servers of its own there, which speak as ours do and as those made with libvfio-user do, by
# turns. One TCP connection carries data both ways meanwhile, disk and
# memory are written and read, and every byte of all three is checked.
set -eu
. "$ROOT/tests/lab/vm.sh"

ROUNDS=${1:-2}
MEMORY=192M
RATE=512
HOST_ADDR=10.9.0.1
GUEST_ADDR=10.9.0.2
MAC=52:54:00:09:00:02
DISK=/tmp/user.img
pass() { echo "PASS vfio-user-moves $*"; }

truncate -s 16M "$DISK"
bridge_taps $HOST_ADDR/24 tap-a tap-b

# servers VM: of the card and the disk
servers() {
	other_manner
	serve "net.$1" virtio-net --tap "tap-$1" --mac $MAC
	serve "blk.$1" virtio-blk --disk "$DISK"
}
user() { echo "{\"id\":\"$1\",\"type\":\"vfio-user-pci\",\"socket\":\"/tmp/$1.a.sock\",\"timeout\":$(patience 20000)}"; }

progress() {
	con "$1" 30 'streamtest status && disktest status' >/tmp/progress || die "$(cat /tmp/progress)"
	sed -n 's/.*sent=\([0-9]*\) received=\([0-9]*\).*/\1 \2/p; s/.*writes=\([0-9]*\).*/\1/p' /tmp/progress | tr '\n' ' '
}
_more() {
	# shellcheck disable=SC2046,SC2086 # six numbers
	set -- $was $(progress "$1")
	[ $# = 6 ] && [ "$4" -gt "$1" ] && [ "$5" -gt "$2" ] && [ "$6" -gt "$3" ]
}
# alive VM: data go both ways and to the disk, memory is whole.
alive() {
	was=$(progress "$1")
	wait_for 60 _more "$1" || die "it stands still at $was"
	verify "$1"
}

move() {
	servers "$2"
	vm_incoming "$2" unix:/tmp/mig --map "devices.net.socket=/tmp/net.$2.sock" --map "devices.blk.socket=/tmp/blk.$2.sock"
	ctl "$1" migrate-set-parameters max-bandwidth=100000000000 downtime-limit=500 >/dev/null
	ctl "$1" migrate uri=unix:/tmp/mig >/dev/null
	vm_moved "$1" "$2" 120
	rm -f "$VMS/$1/con.log"
	unserve "net.$1"
	unserve "blk.$1"
	alive "$2"
	field downtime "$(cat /tmp/migration)" >>/tmp/downtimes
}

servers a
vm_config a "$(user net)" "$(user blk)"
vm_start a
vm_up a
con a 20 "ip addr add $GUEST_ADDR/24 dev eth0 && ip link set eth0 up"
wait_for 30 ping -c1 -W1 -q $GUEST_ADDR >/dev/null || die "the guest does not answer"
stream_start a $HOST_ADDR $RATE
con a 60 disktest start /dev/vda 16 1024
con a 30 worker start 16 4
alive a
pass "a guest's stream by a served card, its writes to a served disk"

at=a to=b
for round in $(seq "$ROUNDS"); do
	move $at $to
	log "round $round: downtime $(tail -n 1 /tmp/downtimes) ms; $(tr '\n' ' ' </tmp/progress)"
	x=$at at=$to to=$x
done
log "downtimes in ms: $(spread /tmp/downtimes)"
pass "$ROUNDS live migrations in a row, each to other servers"

stream_end $at
pass "the TCP connection lived through it, no byte lost, doubled or changed"

con $at 90 disktest finish >/tmp/disk || die "$(cat /tmp/disk)"
[ "$(disktest digest "$DISK")" = "$(grep -o 'digest=[0-9a-f]*' /tmp/disk)" ] || die "the host has another disk: $(cat /tmp/disk)"
verify $at
no_complaint $at 'I/O error|timed out'
log "$(cat /tmp/disk) $(cat /tmp/verify)"
pass "every block of the disk is of the generation that was written last, on both sides; memory is whole"
ctl $at system_powerdown >/dev/null
vm_gone $at
