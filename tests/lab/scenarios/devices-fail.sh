#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 500
# long: 1 600
#
# usage: devices-fail.sh [EVERY]      (6: every sixth message, and each arc fails in one way; 1 tries all)
#
# Four VFIO devices of different kinds in one guest: an mtty of the kernel's, and of the device
# server's one that speaks migration v2, one that speaks v1, and a disk. The second of them fails at
# each arc in turn, where the guest is and where it goes; its server dies at one message after
# another. Each time the guest runs on at exactly one of the two, and the other devices with it. What
# is started anew speaks as our servers do and as libvfio-user does, by turns.
set -eu
. "$ROOT/tests/lab/vm.sh"

EVERY=${1:-6}
pass() { echo "PASS devices-fail $*"; }
MEMORY=160M
MTTY2=$(make_mtty 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002)
DISK=/tmp/fail.img
truncate -s 8M "$DISK"

user() { echo "{\"id\":\"$1\",\"type\":\"vfio-user-pci\",\"socket\":\"/tmp/$1.a.sock\",\"timeout\":$(patience 5000)}"; }

# The servers where the guest is (a) and where it goes (b).
for h in a b; do
	serve "bad.$h" ballast --size 1M --pre-copy
	serve "old.$h" ballast --size 1M --migration v1 --v1-data mixed
	serve "disk.$h" virtio-blk --disk "$DISK"
done
vm_config a "tty0=$MTTY@5" "$(user bad)" "$(user old)" "$(user disk)"
vm_start a
vm_up a
con a 30 worker start 8 2
con a 20 ttytest fill 0 7 1

_devices() { ctl a query-devices | tr -d ' \n' | sed 's/{"id":"/\n&/g'; }
_connected() { _devices | grep -q "\"/tmp/$1.sock\",\"connected\":$2"; }
# bad_a ARGS...: the second device's server where the guest is, anew; the device is set up again.
bad_a() {
	unserve bad.a
	wait_for 20 _connected bad.a false || die "nobody notices that the server is gone"
	other_manner
	serve bad.a ballast --size 1M --pre-copy "$@"
}
incoming() {
	vm_incoming b unix:/tmp/mig --map "devices.tty0.host=$MTTY2" \
		--map devices.bad.socket=/tmp/bad.b.sock --map devices.old.socket=/tmp/old.b.sock \
		--map devices.disk.socket=/tmp/disk.b.sock
}
unhurt() {
	vm_is a running 10
	verify a
	con a 20 ttytest check 0 7 1 # reading takes it away
	con a 20 ttytest fill 0 7 1 >/dev/null
	con a 20 'dd if=/dev/urandom of=/dev/vda bs=4k count=16 oflag=direct 2>/dev/null'
}
# All but the second.
all_run() {
	for _d in tty0 old disk; do
		_devices | grep "^{\"id\":\"$_d\"" | grep -q '"now":"running"' || return 1
	done
}
ctl a migrate-set-parameters downtime-limit=2000 max-bandwidth=100000000000 >/dev/null

# fails TEXT: a migration that has to fail and say TEXT, and leaves all as it was.
fails() {
	incoming
	ctl a migrate uri=unix:/tmp/mig >/dev/null
	if ctl a wait-migration --timeout 60 >/tmp/migration 2>&1; then die "it was to fail: $1"; fi
	grep -q -e "$1" /tmp/migration || die "it does not say '$1' but: $(cat /tmp/migration)"
	unhurt
	wait_for 10 all_run || die "not all devices run: $(_devices)"
	[ "$(vm_status b)" != running ] || die "two guests"
	vm_kill b
	log "$(tail -n 1 /tmp/migration)"
}

# ---- the guest's host ----
# With and without the error state.
ways="EIO EBUSY EIO:error"
for arc in RUNNING-PRE_COPY PRE_COPY-PRE_COPY_P2P PRE_COPY_P2P-STOP_COPY; do
	now=$ways
	if [ "$EVERY" -gt 1 ]; then
		now=${ways%% *} ways=${ways#* }
	fi
	for how in $now; do
		bad_a --fail "$arc:$how"
		wait_for 30 _connected bad.a true || die "the second device is not set up again"
		case $how in EBUSY) words="Device or resource busy" ;; *) words="Input/output error" ;; esac
		fails "bad: .*from $(echo "${arc%-*}" | tr A-Z_ a-z-) to $(echo "${arc#*-}" | tr A-Z_ a-z-).*$words"
	done
	pass "$arc of the second device fails ($now): all others run on"
done
bad_a
wait_for 30 _connected bad.a true || die "the second device is not set up again"

# ---- the host where it goes ----
for arc in STOP-RESUMING RESUMING-STOP; do
	unserve bad.b
	other_manner
	serve bad.b ballast --size 1M --pre-copy --fail "$arc:EIO"
	fails "destination: .*bad: .*Input/output error"
	pass "$arc of the second device fails at the destination: the guest runs on where it was"
done

# back FROM TO: the guest goes where it was before, with servers that do not fail.
back() {
	vm_quit "$2"
	for d in bad old disk; do unserve "$d.$2"; done
	other_manner
	serve "bad.$2" ballast --size 1M --pre-copy
	serve "old.$2" ballast --size 1M --migration v1 --v1-data mixed
	serve "disk.$2" virtio-blk --disk "$DISK"
	rm -f "$VMS/$2/con.log"
	vm_incoming "$2" unix:/tmp/back --map "devices.tty0.host=$MTTY" \
		--map "devices.bad.socket=/tmp/bad.$2.sock" --map "devices.old.socket=/tmp/old.$2.sock" \
		--map "devices.disk.socket=/tmp/disk.$2.sock"
	ctl "$1" migrate-set-parameters downtime-limit=2000 max-bandwidth=100000000000 >/dev/null
	ctl "$1" migrate uri=unix:/tmp/back >/dev/null
	vm_moved "$1" "$2" 60
	rm -f "$VMS/$1/con.log"
	for d in bad old disk; do unserve "$d.$1"; done
	serve "old.$1" ballast --size 1M --migration v1 --v1-data mixed
	serve "disk.$1" virtio-blk --disk "$DISK"
	serve "bad.$1" ballast --size 1M --pre-copy
	ctl "$2" migrate-set-parameters downtime-limit=2000 max-bandwidth=100000000000 >/dev/null
	unhurt
}

# Here the source has let go already: the device is reset, and the guest is told by an event.
for arc in STOP-RUNNING_P2P RUNNING_P2P-RUNNING; do
	unserve bad.b
	serve bad.b ballast --size 1M --pre-copy --fail "$arc:EIO"
	incoming
	expect_event b DEVICE_DEGRADED device=bad
	ctl a migrate uri=unix:/tmp/mig >/dev/null
	ctl a wait-migration --timeout 60 >/tmp/migration || die "not completed: $(cat /tmp/migration)"
	event_came b DEVICE_DEGRADED
	grep -q '"degraded-devices":\["destination: device bad was reset' /tmp/migration ||
		die "the source does not know of it: $(cat /tmp/migration)"
	vm_is b running
	back b a
	pass "$arc fails at the destination: the guest runs there, the device was reset, and the source knows"
done

# ---- the server dies at one message after another ----
# Either the guest has gone (then _done is 1), or it runs where it was; and never at both. _begun: not
# refused because the server was gone already.
one_guest() {
	_done='' _begun=1
	if ! ctl a migrate uri=unix:/tmp/mig >/tmp/migration 2>&1; then
		grep -q 'its server is gone' /tmp/migration || die "refused: $(cat /tmp/migration)"
		_begun=
	elif ctl a wait-migration --timeout 90 >/tmp/migration 2>&1; then
		_done=1
	else
		grep -q 'was not completed but failed' /tmp/migration || die "no end: $(cat /tmp/migration)"
	fi
	if [ -n "$_done" ]; then
		vm_is b running
	else
		vm_is a running
		[ "$(vm_status b 2>/dev/null)" != running ] || die "two guests: $(cat /tmp/migration)"
	fi
}

deaths=0
for command in DEVICE_FEATURE MIG_DATA_READ; do
	n=1
	while :; do
		bad_a --die-at "$command:$n"
		_set_up() { _connected bad.a true || server_gone bad.a; }
		wait_for 30 _set_up || die "the second device is not set up again"
		n=$((n + EVERY))
		server_gone bad.a && continue
		unserve bad.b
		other_manner
		serve bad.b ballast --size 1M --pre-copy
		incoming
		one_guest
		[ -z "$_done" ] || break
		[ -z "$_begun" ] || deaths=$((deaths + 1))
		log "$command $((n - EVERY)): $(tail -n 1 /tmp/migration)"
		unhurt
		vm_kill b
	done
	back b a
done
[ "$deaths" -ge 2 ] || die "the server died in $deaths migrations only"
pass "its server dies at one message of a migration after another ($deaths): one guest, unharmed"

deaths=0
for command in DEVICE_FEATURE MIG_DATA_WRITE; do
	n=1
	while :; do
		unserve bad.b
		other_manner
		serve bad.b ballast --size 1M --pre-copy --die-at "$command:$n"
		n=$((n + EVERY))
		incoming
		one_guest
		server_gone bad.b || break
		deaths=$((deaths + 1))
		log "$command $((n - EVERY)) at the destination: $(tail -n 1 /tmp/migration)"
		[ -z "$_done" ] || break
		unhurt
		vm_kill b
	done
	[ -z "$_done" ] || break
done
[ "$deaths" -ge 2 ] || die "the server died in $deaths migrations only"
pass "the same where it goes ($deaths)"
