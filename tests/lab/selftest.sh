#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks the lab itself. On the machine:  tests/lab/selftest.sh [PART...]
# The same file is what runs in the lab's hosts; there its argument names the part.
set -eu

# ---- in a lab host

in_host() { # devices, NIC, mtty
	[ -c /dev/kvm ] || die "no /dev/kvm"
	[ -c "/dev/vfio/$(iommu_group "/sys/bus/pci/devices/$NIC")" ] || die "the NIC has no VFIO group"
	case $(readlink "/sys/bus/pci/devices/$NIC/driver") in
	*/vfio-pci) ;;
	*) die "the NIC is not bound to vfio-pci" ;;
	esac
	[ -c "/dev/vfio/$(iommu_group "$MTTY")" ] || die "the mtty has no VFIO group"
	[ "$(df /tmp | awk 'NR == 2 { print $1 }')" = tmp ] || die "/tmp is not this host's own"
	[ "$*" = "two words|" ] || die "arguments did not arrive: $*"
	echo "from $LAB_HOST" >"$LAB_OUT/made-here"
}

in_l2() { # the guest's image, on QEMU's own KVM machine
	local s=/tmp/con.sock l=/tmp/con.log q
	g() { con "$s" "$l" 60 "$@" || die "in the guest: $*"; }
	mkfifo /tmp/monitor
	exec 3<>/tmp/monitor
	qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 384 -nodefaults -no-user-config -no-reboot \
		-display none -monitor stdio <&3 \
		-chardev "socket,id=c,path=$s,server=on,wait=off,logfile=$l,logappend=on" -serial chardev:c \
		-device "vfio-pci,host=$NIC" -device "vfio-pci,sysfsdev=$MTTY" \
		-kernel "$LAB/vmlinuz" -initrd "$LAB/guest.cpio.gz" \
		-append "console=ttyS0 quiet panic=-1 8250.nr_uarts=8" >/tmp/qemu.log 2>&1 &
	q=$!
	con "$s" "$l" 60 -w "GUEST READY" || { cat /tmp/qemu.log; die "the guest does not come up"; }
	log "$(grep -a 'GUEST READY' "$l" | tr -d '\r') s"
	local rc=0
	con "$s" "$l" 60 'echo one; echo two; exit 7' >/tmp/said || rc=$?
	[ "$rc" = 7 ] || die "con's exit status is $rc, not 7"
	[ "$(cat /tmp/said)" = "one
two" ] || die "con printed: $(cat /tmp/said)"
	g lspci
	g nic 10.78.0.101/24
	nettest serve "$PEER_ADDR" 5001 1 &
	g "for i in 1 2 3 4 5 6 7 8; do ping -c1 -W1 -q $PEER_ADDR >/dev/null && break; done"
	g nettest "$PEER_ADDR" 5001
	g ttytest ports
	g ttytest talk 0 0.5
	g ttytest fill 1 15 42
	g ttytest check 1 15 42
	! con "$s" "$l" 60 ttytest check 1 3 9 >/dev/null || die "ttytest check cannot fail"
	g worker start 128 20
	counts() { [ "$(con "$s" "$l" 10 worker status | sed -n 's/.*writes=\([0-9]*\).*/\1/p')" -ge 5000 ]; }
	wait_for 30 counts || die "the worker stands still"
	g worker verify
	g worker gaps
	echo system_powerdown >&3
	wait_for 15 gone "$q" || die "the guest does not power off when its button is pressed"
	con "$s" "$l" 5 -w "GUEST POWERBUTTON"
}

in_two() { # two hosts
	local other=b
	[ "$LAB_HOST" = a ] || other=a
	lab_mark "hello-$LAB_HOST" "from $LAB_HOST"
	[ "$(lab_await "hello-$other")" = "from $other" ] || die "no hello"
	wait_for 10 ping -c1 -W1 -q "$OTHER_MGMT_ADDR" >/dev/null || die "no way to $OTHER_MGMT_ADDR"
	wait_for 10 ping -c1 -W1 -q "$OTHER_PEER_ADDR" >/dev/null || die "no way to $OTHER_PEER_ADDR"
	lab_mark "pinged-$LAB_HOST"
	lab_await "pinged-$other"
	if [ "$LAB_HOST" = a ]; then
		lab_die b
		wait_for 10 test -e "$LAB_RUN/b/ended" || die "b lives"
		! lab_await never 30 2>/dev/null || die "lab_await waits for the dead"
		! ping -c1 -W1 -q "$OTHER_MGMT_ADDR" >/dev/null || die "the dead answers"
	else
		sleep 1000
		die "still here"
	fi
}

in_fail() { exit 7; }
in_panic() { echo c >/proc/sysrq-trigger; }
in_off() { echo o >/proc/sysrq-trigger && sleep 10; }
in_hang() { sleep 1000; }
in_still() { monitor stop; }

if [ -n "${LAB_HOST:-}" ]; then
	# shellcheck source=tests/lab/lib.sh
	. "$ROOT/tests/lab/lib.sh"
	part=$1
	shift
	"in_$part" "$@"
	exit 0
fi

# ---- on the machine

here=$(cd "$(dirname "$0")" && pwd -P)
self=$here/selftest.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/lab-selftest.XXXXXX")
failures=0

bad() {
	echo "selftest: $part: FAILED: $*" >&2
	failures=$((failures + 1))
}
# Processes that still speak of this run.
left() {
	local p words
	for p in /proc/[0-9]*; do
		[ "${p#/proc/}" != $$ ] || continue
		{ mapfile -d '' -t words <"$p/cmdline"; } 2>/dev/null || continue
		case "${words[*]} " in *qemu*"$work/$part"[,/\ ]*) echo "${p#/proc/}" ;; esac
	done
}
# lab STATUS TEXT ARGS...: runs the lab with ARGS; it must end with STATUS and say TEXT.
lab() {
	local status=$1 text=$2 rc=0 t=$SECONDS
	shift 2
	"$here/lab" -o "$work/$part" "$@" >"$work/$part.log" 2>&1 || rc=$?
	[ "$rc" = "$status" ] || bad "exit status $rc, not $status"
	grep -q -e "$text" "$work/$part.log" || bad "does not say '$text'"
	[ -z "$(left)" ] || bad "processes left: $(left)"
	echo "selftest: $part: $((SECONDS - t)) s"
}
# killed SIGNAL: the runner gets SIGNAL while its hosts run.
killed() {
	local p
	"$here/lab" -o "$work/$part" -n 2 -t 100 "$self" -- hang >"$work/$part.log" 2>&1 &
	p=$!
	for _ in $(seq 1200); do
		[ ! -e "$work/$part/a/up" ] || break
		sleep 0.1
	done
	[ "$(left | wc -l)" -ge 2 ] || bad "the hosts did not start"
	kill "-$1" "$p"
	for _ in $(seq 100); do
		[ -n "$(left)" ] || break
		sleep 0.1
	done
	! { wait "$p"; } 2>/dev/null || bad "exit status 0"
	[ -z "$(left)" ] || bad "processes left: $(left)"
	echo "selftest: $part: done"
}

part_host() {
	lab 0 'host a: ok' -t 60 "$self" -- host 'two words|'
	[ "$(cat "$work/$part/a/made-here")" = "from a" ] || bad "the host's file did not arrive"
}
part_l2() {
	lab 0 'host a: ok' -t 120 "$self" -- l2
	cat "$work/$part/a/script.log"
}
part_two() { lab 0 'host b: died, as it was asked to' -n 2 -t 90 "$self" -- two; }
part_fail() { lab 1 'host a: exit status 7' -t 60 "$self" -- fail; }
part_panic() { lab 1 'host a: kernel panic: Kernel panic' -t 60 "$self" -- panic; }
part_off() { lab 1 'host a: ended without a word' -t 60 "$self" -- off; }
part_hang() { lab 1 'host a: time limit of 8 s is over' -T 8 "$self" -- hang; }
# It has no time limit of its own to come to, as its clock does not go on.
part_still() {
	lab 1 'host a: stands still for [0-9]* s' -t 1000 "$self" -- still
	grep -q '^VM status: paused' "$work/$part/a/qemu.hang.log" || bad "qemu.hang.log does not say so"
}
# The limit that scales with what a host's start took, and that of the start.
part_limit() {
	lab 1 'host a: time limit of [0-9]* s (2, times [0-9]*) is over' -t 2 "$self" -- hang
	grep -qF "time limit of $((2 * $(cat "$work/$part/a/patience"))) s " "$work/$part.log" || bad "another limit"
	grep -q 'sleep 1000' "$work/$part/a/hang.log" || bad "hang.log does not say what it did"
}
part_boot() { LAB_QEMU=-S lab 1 'host a: not all hosts were up within 5 s' -b 5 "$self" -- host; }
part_term() { killed TERM; }
part_kill() { killed KILL; }
# A job of a script ignores SIGINT, unless it has job control.
part_int() { set -m; killed INT; set +m; }

[ $# -gt 0 ] || set -- host l2 two fail panic off hang still limit boot term int kill
for part; do
	before=$failures
	"part_$part"
	[ "$failures" = "$before" ] || [ ! -e "$work/$part.log" ] || tail -n 40 "$work/$part.log" >&2
done
if [ "$failures" -gt 0 ]; then
	echo "selftest: $failures failures; see $work" >&2
	exit 1
fi
rm -rf "$work"
echo "selftest: ok"
