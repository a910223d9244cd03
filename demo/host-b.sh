#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo on host B: takes the guest in, checks it, gives it a NIC of its own, and keeps it when
# the host that it was to move to dies.
set -eu
. "$ROOT/tests/lab/vm.sh"
PLAIN_TCP=1
. "$ROOT/demo/steps.sh"

slots_are_hot || movable_nic
# shellcheck disable=SC2046 # words
vm_incoming vm "tcp:0.0.0.0:4444" $(cards)
lab_mark listening
lab_await moved 180
step 4 "the guest on host B: counter, patterns, mtty"
vm_is vm running
verify vm
con vm 10 ttytest check 0 9 5
con vm 20 ttytest talk 1 0.5
step_done "all as they were; largest gap $(field max_gap_ms "$(tr ' ' ',' </tmp/verify | sed 's/=/":/g; s/,/,"/g')") ms as the guest saw it"

if slots_are_hot; then
	step 5 "plug in a NIC of host B and use it"
	ctl vm device_add id=net1 type=vfio-pci "host=$NIC" slot=17 >/dev/null
	nic() { con vm 10 nic 10.78.0.102/24; }
else
	step 5 "the NIC has come along, and is host B's now"
	nic() { con vm 10 ip addr add 10.78.0.102/24 dev eth0; }
fi
nettest serve "$PEER_ADDR" 5001 1 &
peer=$!
wait_for 15 nic >/dev/null || die "the guest does not see the NIC"
wait_for 10 ping -c1 -W1 -q 10.78.0.102 >/dev/null || die "the guest does not answer"
wait_for 20 listening 5001 || die "no peer"
con vm 60 nettest "$PEER_ADDR" 5001
wait "$peer"
step_done "16 MiB both ways, checked" bytes=33554432

step 6 "migrate to host A, which loses its power half-way"
if slots_are_hot; then
	expect_event vm DEVICE_DELETED
	ctl vm device_del id=net1 >/dev/null
	event_came vm DEVICE_DELETED
fi
con vm 10 worker reset
lab_await back-listening 60
ctl vm migrate-set-parameters max-bandwidth=20000000 avail-switchover-bandwidth=1 >/dev/null
ctl vm migrate "uri=tcp:$OTHER_MGMT_ADDR:4445" >/dev/null
half_way() {
	ctl vm query-migrate >/tmp/progress
	_sent=$(sent /tmp/progress)
	[ "${_sent:-0}" -gt 40000000 ]
}
wait_for 30 half_way || die "nothing is sent: $(ctl vm query-migrate)"
lab_die a
if ctl vm wait-migration --timeout 60 >/tmp/migration; then die "it went to a dead host"; fi
error=$(sed -n 's/.*"error-desc": *"\([^"]*\)".*/\1/p' /tmp/migration)
[ "$(vm_status vm)" = running ] || die "the guest is $(vm_status vm)"
verify vm
con vm 20 ttytest talk 1 0.5
step_done "the guest goes on at host B: $error" "bytes=$_sent"
ctl vm system_powerdown >/dev/null
vm_gone vm
log "the guest has powered off"
