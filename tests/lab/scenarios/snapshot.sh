#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: x86 arm64
# hosts: 1
# together: cards
# seconds: 300
# long-arm64: cortex-a72 1 60
#
# Save and restore of a guest with an mtty card, and what goes wrong with it.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS snapshot $*"; }
MEMORY=256M

vm_config a "tty0=$MTTY@5"
vm_start a
vm_up a
con a 30 worker start 32 4
con a 10 ttytest fill 0 11 42
ctl a snapshot-save directory=/tmp/one --timeout 60 >/dev/null
[ "$(vm_status a)" = running ] || die "after saving: $(vm_status a)"
verify a
con a 20 ttytest talk 1 0.5
pass "a saved guest goes on, its card too"

expect_fail "exists" ctl a snapshot-save directory=/tmp/one --timeout 60
pass "an existing directory is left alone"

mkdir /tmp/small
mount -t tmpfs -o size=48m small /tmp/small
expect_fail "No space left" ctl a snapshot-save directory=/tmp/small/s --timeout 60
[ -z "$(ls -A /tmp/small)" ] || die "left behind: $(ls -A /tmp/small)"
[ "$(vm_status a)" = running ] || die "after a full disk: $(vm_status a)"
con a 20 ttytest talk 1 0.5
verify a
umount /tmp/small
pass "disk full while saving: nothing is left, the guest and its card go on"

vm_kill a
rm -f "$VMS/a/ctl"
expect_fail "no such device" godwit restore /tmp/one --control /tmp/x --map devices.tty0.host=/sys/bus/mdev/devices/none
expect_fail "the machine has no such device" godwit restore /tmp/one --control /tmp/x --map devices.tty9.host=/x
pass "a missing device is named when restoring"

for _ in 1 2 3; do
	vm_restore a /tmp/one
	vm_is a running
	verify a
	con a 10 ttytest check 0 11 42
	con a 20 ttytest talk 1 0.3
	vm_kill a
	rm -f "$VMS/a/ctl"
done
pass "restored three times: patterns, registers and FIFO as they were"

godwit inspect /tmp/one >/tmp/inspect.json || die "inspect"
grep -q '"whole":[[:space:]]*true' /tmp/inspect.json || die "inspect says it is not whole"
for file in manifest.json state memory memory.sums; do
	cp -r --sparse=always /tmp/one /tmp/bad
	size=$(stat -c %s "/tmp/bad/$file")
	# In the middle of data; in memory, where the first data is.
	at=$((size / 2))
	[ "$file" != memory ] || at=$((0x20000))
	byte_at() { od -An -tu1 -j "$1" -N1 "/tmp/bad/$file" | tr -d ' '; }
	# White space is no part of what the manifest's sum is of.
	while [ "$file" = manifest.json ] && [ "$(byte_at "$at")" -le 32 ]; do at=$((at + 1)); done
	byte=$(byte_at "$at")
	# shellcheck disable=SC2059
	printf "\\$(printf %o $(((byte + 1) % 256)))" |
		dd of="/tmp/bad/$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
	expect_fail "$file" godwit restore /tmp/bad --control /tmp/x
	expect_fail "$file" godwit inspect /tmp/bad
	truncate -s $((size - 1)) "/tmp/bad/$file"
	expect_fail "$file" godwit restore /tmp/bad --control /tmp/x
	rm -r /tmp/bad
	pass "a changed byte and a missing one in $file are caught and named"
done

vm_incoming b defer
for file in manifest.json state memory memory.sums; do
	cp -r --sparse=always /tmp/one /tmp/bad
	rm "/tmp/bad/$file"
	mkfifo "/tmp/bad/$file"
	expect_fail "$file is a FIFO, not a file" godwit restore /tmp/bad --control /tmp/x
	expect_fail "$file is a FIFO, not a file" godwit inspect /tmp/bad
	expect_fail "$file is a FIFO, not a file" ctl b snapshot-load directory=/tmp/bad
	rm -r /tmp/bad
done
vm_quit b
pass "a FIFO in place of a file is named and not waited for"
