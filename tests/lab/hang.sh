#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the processes of a lab host do, for one that hangs: each with its parent, its command line, and for each of its
# threads the state, the system call and the stack in the kernel; then the kernel's log.
#
# usage: hang.sh >FILE
set -u

thread() {
	local t=$1 rest
	{ read -r rest <"$t/stat"; } 2>/dev/null || return
	rest=${rest##*) }
	echo "  thread ${t##*/} $(cat "$t/comm" 2>/dev/null), state ${rest%% *}, system call: $(cat "$t/syscall" 2>/dev/null)"
	sed 's/^/    /' "$t/stack" 2>/dev/null
}

for p in /proc/[0-9]*; do
	# The kernel's own threads have no command line.
	words=$(tr '\0' ' ' 2>/dev/null <"$p/cmdline")
	[ -n "$words" ] || continue
	echo "process ${p#/proc/}, child of $(sed -n 's/^PPid:[[:space:]]*//p' "$p/status" 2>/dev/null): $words"
	for t in "$p"/task/*; do thread "$t"; done
done
echo
dmesg
