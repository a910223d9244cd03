#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs several scripts in one lab host, one after the other, whatever becomes of each. Before the next one the host is
# as it was: what a script has left running, in /tmp, plugged in or bound elsewhere is taken away.
#
# usage: tests/lab/lab tests/lab/together.sh -- SCRIPT...
#
# The output of SCRIPT goes to NAME.log in the host's output folder as well, and what the host's kernel has said
# meanwhile to NAME.dmesg.log.
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

result=0
for script; do
	name=$(basename "$script" .sh)
	log "$name begins"
	LAB_PART=$name setsid "$script" </dev/null >"$LAB_OUT/$name.log" 2>&1 &
	session=$!
	wait "$session"
	rc=$?
	cat "$LAB_OUT/$name.log"
	if [ $rc != 0 ]; then
		result=1
		log "FAILED: $name, with status $rc: $(grep -a FAILED "$LAB_OUT/$name.log" | tail -n 1)"
	fi
	end_session "$session"
	dmesg -c >"$LAB_OUT/$name.dmesg.log"
	wait_for 20 tidy || { log "FAILED: the host is not as it was after $name"; exit 1; }
done
exit $result
