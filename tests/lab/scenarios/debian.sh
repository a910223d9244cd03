#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 420
# memory: 3072
# disk: debian.img
# long: 20 60
#
# usage: debian.sh [ROUNDS]      (2; tests/check-long.sh has it do 20)
#
# A Debian system on virtio-blk and virtio-net: systemd to a login on the serial console, the network
# by tap. Under disk, network and memory load it is saved, killed and restored, and migrated live to
# another process, in turn. One TCP connection lives through all of it. At the end every byte of disk,
# connection and memory has been checked, and nothing complains.
set -eu
. "$ROOT/tests/lab/debian-vm.sh"

ROUNDS=${1:-2}
pass() { echo "PASS debian $*"; }

load_start() {
	stream_start a "$HOST_ADDR" 256
	con a 60 disktest start /root/data 32 2048
	con a 60 worker start 32 2
	# Two that nobody here wrote, each held to a part of the CPU: both check what they read. When it
	# is told to end, fio's status is 128.
	con a 20 "systemd-run -q --unit=load-stress -p CPUQuota=10% -p RemainAfterExit=yes stress-ng --quiet \
--vm 1 --vm-bytes 16M --vm-keep --verify --timeout 0"
	con a 20 "systemd-run -q --unit=load-fio -p CPUQuota=20% -p RemainAfterExit=yes \
-p SuccessExitStatus=128 fio --name=v --filename=/root/fio --size=8M --rw=randwrite --bs=4k --rate=1m --direct=1 \
--ioengine=libaio --iodepth=8 --verify=crc32c --loops=1000000 --minimal --output=/run/fio.out"
}

# Bytes that the guest's stream has sent and received, and its disk writes.
progress() { con "$1" 20 'streamtest status && disktest status' >/tmp/progress; }
counts() { sed -n 's/sent=\([0-9]*\) received=\([0-9]*\).*/\1 \2/p; s/^writes=\([0-9]*\).*/\1/p' /tmp/progress | tr '\n' ' '; }
_more() {
	progress "$1" || die "$(cat /tmp/progress)"
	# shellcheck disable=SC2046,SC2086 # six numbers
	set -- $was $(counts)
	[ "$4" -gt "$1" ] && [ "$5" -gt "$2" ] && [ "$6" -gt "$3" ]
}
# alive NAME: stream both ways and disk go on, memory is whole, both services run.
alive() {
	progress "$1" || die "$(cat /tmp/progress)"
	was=$(counts)
	wait_for 30 _more "$1" || die "stands still: was $was, is $(counts)"
	verify "$1"
	con "$1" 20 systemctl is-active -q load-stress load-fio || die "a service has ended"
	! grep -aE "$COMPLAINTS" "$VMS"/*/con.log || die "the console complains"
}

# The disk is no part of what is saved, so the guest must not go on when it has been.
save_restore() {
	ctl "$1" stop >/dev/null
	ctl "$1" snapshot-save directory=/tmp/snap --timeout 120 >/tmp/saved || die "$(cat /tmp/saved)"
	vm_kill "$1"
	rm -f "$VMS/$1/ctl"
	# shellcheck disable=SC2046 # a list
	vm_restore "$1" /tmp/snap $(debian_map "$1")
	vm_is "$1" paused 60
	rm -r /tmp/snap
	ctl "$1" cont >/dev/null
	vm_is "$1" running
}

move() {
	# shellcheck disable=SC2046
	vm_incoming "$2" unix:/tmp/mig $(debian_map "$2")
	ctl "$1" migrate-set-parameters max-bandwidth=100000000000 downtime-limit=1000 >/dev/null
	ctl "$1" migrate uri=unix:/tmp/mig >/dev/null
	vm_moved "$1" "$2" 120
	log "downtime $(field downtime "$(cat /tmp/migration)") ms, in all $(field total-time "$(cat /tmp/migration)") ms"
}

debian_config b
debian_config a
vm_start a
debian_login a
log "logged in; $(grep -a 'GUEST READY' "$VMS/a/con.log" | tr -d '\r') s"
pass "boots to a login on the serial console, which takes the password"

state=$(con a 90 systemctl is-system-running --wait) || {
	con a 20 systemctl --failed >&2 || :
	die "the system is $state"
}
[ "$state" = running ] || die "the system is $state"
log "$(con a 20 systemd-analyze | head -n 1)"
pass "systemd has all units running"

wait_for 20 ping -c1 -W1 -q "$GUEST_ADDR" >/dev/null || die "the guest does not answer"
nettest serve "$HOST_ADDR" 5001 1 >/tmp/served 2>&1 &
peer=$!
con a 120 nettest "$HOST_ADDR" 5001 16
wait "$peer"
pass "ping, and 16 MiB each way by TCP, every word as it should be"

load_start
alive a
pass "a Debian system under load"

at=a to=b
for round in $(seq "$ROUNDS"); do
	if [ $((round % 2)) = 1 ]; then
		save_restore $at
		log "round $round: saved, killed, restored"
	else
		move $at $to
		log "round $round: moved from $at to $to"
		x=$at at=$to to=$x
	fi
	alive $at
	log "$(tr '\n' ' ' </tmp/progress)$(cat /tmp/verify)"
done
pass "$ROUNDS times saved and restored or moved live, the load going on after each"

stream_end $at
pass "the TCP connection lived through it, no byte lost, doubled or changed"

con $at 90 disktest finish >/tmp/disk || die "$(cat /tmp/disk)"
log "$(cat /tmp/disk)"
pass "every block of the disk is of the generation that was written last"

verify $at
con $at 30 systemctl stop load-stress load-fio
for unit in load-stress load-fio; do
	[ "$(con $at 20 systemctl show -P Result $unit)" = success ] || {
		con $at 20 "journalctl -u $unit -n 20 --no-pager" >&2
		die "$unit found something"
	}
done
log "$(cat /tmp/verify)"
pass "memory is as it was written; stress-ng and fio found nothing"

debian_clean $at
pass "neither console nor kernel log have a complaint"

debian_off $at
mkdir -p /tmp/disk0
mount -o ro /dev/vda /tmp/disk0
[ "$(disktest digest /tmp/disk0/root/data)" = "$(grep -o 'digest=[0-9a-f]*' /tmp/disk)" ] ||
	die "the file is another one"
umount /tmp/disk0
pass "the power button ends systemd, the machine and godwit with status 0, fsck finds nothing, and the host finds on the disk what the guest wrote"
