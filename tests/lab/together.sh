#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs several scripts in one lab host, one after the other, whatever becomes of each. Before the next one the host is
# as it was: what a script has left running, in /tmp, plugged in or bound elsewhere is taken away.
#
# usage: tests/lab/lab tests/lab/together.sh -- SCRIPT SECONDS [SCRIPT SECONDS...]
#
# A script may take SECONDS, times the patience. What the host's kernel has said while it ran goes to NAME.dmesg.log in
# the host's output folder; what the host's processes did when the time was over, to NAME.hang.log.
set -u
. "$ROOT/tests/lab/lib.sh"

# end_session ID: all processes of that session.
end_session() {
	local stat rest
	for stat in /proc/[0-9]*/stat; do
		{ read -r rest <"$stat"; } 2>/dev/null || continue
		# After the name, in brackets: state, parent, group, session.
		rest=${rest##*) }
		read -r _ _ _ rest _ <<<"$rest"
		stat=${stat#/proc/}
		[ "$rest" != "$1" ] || kill -KILL "${stat%/stat}" 2>/dev/null
	done
}

links=$(ls /sys/class/net)
# shellcheck disable=SC2317 # called by wait_for
tidy() {
	local d
	for d in /sys/class/net/*; do
		grep -qx "${d##*/}" <<<"$links" || ip link del "${d##*/}"
	done
	for d in /sys/block/loop*/loop; do
		[ ! -d "$d" ] || losetup -d "/dev/$(basename "${d%/loop}")"
	done
	for d in /sys/bus/mdev/devices/*; do
		[ "$d" = "$MTTY" ] || [ ! -d "$d" ] || echo 1 >"$d/remove"
	done
	echo 0 >/proc/sys/vm/nr_hugepages
	bind_vfio "$NIC" || return 1
	# What is mounted there was there before.
	find /tmp -xdev -mindepth 1 -delete 2>/dev/null
	return 0
}

# shellcheck disable=SC2317 # called by a shell of its own
# limit SESSION SECONDS NAME: ends that session when the time is over.
limit() {
	sleep "$(patience "$2")"
	log "FAILED: $3: its time limit of $(patience "$2") s ($2, times $LAB_PATIENCE) is over"
	"$ROOT/tests/lab/hang.sh" >"$LAB_OUT/$3.hang.log" 2>&1
	end_session "$1"
}
export -f limit end_session log patience

# run SCRIPT SECONDS: returns its status.
run() {
	local name session watch rc
	name=$(basename "$1" .sh)
	log "$name begins"
	LAB_PART=$name setsid "$1" </dev/null &
	session=$!
	setsid bash -c 'limit "$@"' limit "$session" "$2" "$name" &
	watch=$!
	wait "$session"
	rc=$?
	end_session "$watch"
	wait "$watch" 2>/dev/null
	end_session "$session"
	dmesg -c >"$LAB_OUT/$name.dmesg.log"
	return $rc
}

result=0
while [ $# -gt 0 ]; do
	name=$(basename "$1" .sh)
	run "$1" "$2"
	rc=$?
	[ $rc = 0 ] || { result=1; log "FAILED: $name, with status $rc"; }
	wait_for 20 tidy || { log "FAILED: the host is not as it was after $name"; exit 1; }
	shift 2
done
exit $result
