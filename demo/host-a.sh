#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo on host A: steps 1 to 4; then it is the host that dies in step 6.
set -eu
. "$ROOT/tests/lab/vm.sh"
PLAIN_TCP=1
. "$ROOT/demo/steps.sh"

step 1 "boot Debian's kernel with the 82574L and an mtty card"
if slots_are_hot; then
	vm_config vm "net0=$NIC@16" "tty0=$MTTY@5"
else
	movable_nic
	vm_config vm "{\"id\":\"net0\",\"type\":\"vfio-pci\",\"host\":\"$NIC\",\"slot\":16,\"dirty-tracking\":\"none-ok\"}" \
		"tty0=$MTTY@5"
	sed -i 's/"memory"/"backing": {"pages": "2M"}, "memory"/' "$VMS/vm/config.json"
fi
vm_start vm
vm_up vm
con vm 10 lspci | grep -E '8086:10d3|4348:3253'
step_done "guest up with both cards"

step 1 "ping and 16 MiB each way through the passthrough NIC"
nettest serve "$PEER_ADDR" 5001 1 &
peer=$!
con vm 10 nic 10.78.0.101/24
wait_for 10 ping -c1 -W1 -q 10.78.0.101 >/dev/null || die "the guest does not answer"
wait_for 20 listening 5001 || die "no peer"
moved=$(con vm 60 nettest "$PEER_ADDR" 5001)
wait "$peer"
log "$moved"
irqs=$(con vm 10 "grep -E 'eth|enp' /proc/interrupts | grep -c MSI")
[ "$irqs" -ge 2 ] || die "no MSI-X interrupts in the guest"
step_done "16 MiB both ways, checked; $irqs MSI-X vectors" bytes=33554432

if slots_are_hot; then
	step 2 "unplug the NIC over the socket"
	expect_fail net0 ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:4444"
	ctl vm query-migrate | grep -q blocked-reasons || die "query-migrate gives no blocked-reasons"
	expect_event vm DEVICE_DELETED
	ctl vm device_del id=net0 >/dev/null
	event_came vm DEVICE_DELETED
	con vm 10 '! lspci | grep 8086:10d3' || die "the guest still has the NIC"
	step_done "the guest has let go of it; the host has it back"
fi

step 2 "a worker writes patterns over 112 MiB, another talks through the mtty"
con vm 30 worker start 112 20
con vm 20 ttytest talk 1 0.5
con vm 10 ttytest fill 0 12 77
step_done "$(con vm 10 worker status)"

step 3 "save to disk, kill, restore"
ctl vm snapshot-save directory=/tmp/snap --timeout 60 >/dev/null
vm_kill vm
rm -f "$VMS/vm/ctl"
bytes=$(du -s -B1 /tmp/snap | cut -f1)
godwit inspect /tmp/snap >"$LAB_OUT/inspect.json"
restored=$(now)
vm_restore vm /tmp/snap
vm_is vm running
con vm 20 worker status >/dev/null
up=$(($(now) - restored))
verify vm
con vm 10 ttytest check 0 12 77
step_done "counter, patterns, mtty registers and FIFO as they were; answers ${up} ms after restore began" "bytes=$bytes"

step 4 "live-migrate to host B while memory is being written"
con vm 10 ttytest fill 0 9 5
con vm 10 worker reset
lab_await listening 60
if slots_are_hot; then limit=500; else limit=30000; fi
ctl vm migrate-set-parameters downtime-limit=$limit >/dev/null
ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:4444" >/dev/null
ctl vm wait-migration --timeout 60 >/tmp/migration || { cat /tmp/migration; die "migration failed"; }
cp /tmp/migration "$LAB_OUT/migration.json"
[ "$(vm_status vm)" = postmigrate ] || die "the source is $(vm_status vm)"
expect_fail "handed over" ctl vm cont
step_done "the guest runs on host B" "downtime=$(field downtime "$(cat /tmp/migration)")" \
	"bytes=$(sent /tmp/migration)" \
	"rounds=$(field dirty-sync-count "$(cat /tmp/migration)")"
vm_quit vm
lab_mark moved

# Host A's part in step 6: to take in a guest, and to lose its power half-way.
# shellcheck disable=SC2046 # words
vm_incoming back "tcp:0.0.0.0:4445" $(cards)
lab_mark back-listening
lab_await finished 90
