#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every test: builds, unit tests (also under the address, undefined-behaviour and thread sanitizers), tests
# on the machine's own /dev/kvm where it has one, then the lab, then the same for arm64, emulated; with
# ARCH=x86 or ARCH=arm64 one of the two. This file is the schedule; tests/runner/jobs.sh runs it, as many jobs
# side by side as there are processors. Ends in what each took, and "N passed, N failed[, N skipped]".
# What may be skipped, and why, stands in tests/skips.
#
# usage: tests/check.sh           all
#        tests/check.sh --fast    gcc's build, its unit tests, lint's quick parts
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check
rm -rf "$OUT"
mkdir -p "$OUT"
# shellcheck source=tests/runner/parts.sh
. tests/runner/parts.sh

# build_x86 SLOTS: what the first test waits for. Unit tests wait most of the time, so three run in a slot.
build_x86() {
	job build "$1" - one make -s -j"$1" all tests examples
	job unit "$1" build suite "$BUILD/tests/unit" -j$((3 * $1))
}

# Tests on this machine's own /dev/kvm.
kvm_x86() {
	if [ ! -c /dev/kvm ]; then
		skip kvm "this machine has no /dev/kvm; the lab runs the same tests"
		return
	fi
	job kvm 1 build suite "$BUILD/tests/kvm" -j1
	job kvm-sanitized 1 build-asan suite "${asan[@]}" "$BUILD/tests/kvm-asan" -j1 --verbose
	job example-embed 1 build one timeout 300 "$BUILD/examples/embed" "$GODWIT_GUESTS/mixer.elf"
	job example-own-device 1 build one timeout 300 "$BUILD/examples/own_device" "$GODWIT_GUESTS/doorbell.elf"
}

# scenario_jobs ARCH HOSTS: each scenario with so many hosts; those that can share one are one job.
scenario_jobs() {
	local script name group
	local -A groups=()
	for script in tests/lab/scenarios/*.sh; do
		for_arch "$script" "$1" && [ "$(header "$script" hosts 1)" = "$2" ] || continue
		group=$(header "$script" together "")
		if [ -n "$group" ] && [ "$1" = x86 ]; then
			groups[$group]+=" $script"
			continue
		fi
		name=lab-$(basename "$script" .sh)
		[ "$1" = x86 ] || name=${name%"-$1"}-$1
		job "$name" 1 "$(lab_needs "$1" "$script")" lab on "$1" lab_run "$name" 0 "$script" ""
	done
	for group in "${!groups[@]}"; do
		# shellcheck disable=SC2086 # a list
		job "lab-$group" 1 build,make-lab lab on "$1" scenarios "$OUT/lab-$group" ${groups[$group]}
	done
}

check_x86() {
	build_x86 1
	prepare_x86
	job build-asan 1 - one "${address_sanitized[@]}" "$BUILD/tests/unit-asan" "$BUILD/tests/kvm-asan"
	job build-tsan 1 - one "${thread_sanitized[@]}" "$BUILD/tests/unit-tsan"
	job unit-asan 1 build-asan suite "${asan[@]}" "$BUILD/tests/unit-asan" -j3 --verbose
	job unit-tsan 1 build-tsan suite "${tsan[@]}" "$BUILD/tests/unit-tsan" -j3 --verbose --except tests/runner/tsan_skips
	job abi 1 build one tests/abi/check.sh
	job cxx 1 build one "$BUILD/tests/cxx"
	job install 1 build one make -s install DESTDIR="$OUT/root" PREFIX=/usr
	job control 1 build lines tests/control/run.sh
	kvm_x86
	scenario_jobs x86 1
}

# Unit tests run by an emulator of user programs, but for those that take long there, and those that it cannot
# run, which the scenario unit-arm64 runs on an emulated host's own kernel.
check_arm64() {
	prepare_arm64
	job unit-arm64 1 build-arm64,make-lab-arm64 suite "$BUILD/arm64/lab/bin/qemu-aarch64" -L "$BUILD/arm64/sysroot" \
		"$BUILD/arm64/tests/unit" -j2 --verbose --except tests/emulated/skips --except tests/emulated/long
	scenario_jobs arm64 1
}

# Two hosts take a third more than one processor, each waiting for the other: side by side, with what is left of the
# others, they keep all busy. The scenario "local" runs the demo as well, in the same folder.
two_hosts_x86() {
	scenario_jobs x86 2
	job demo 1 build,make-lab,lab-local one on x86 demo/demo.sh
}
two_hosts_arm64() { scenario_jobs arm64 2; }

check_fast() {
	build_x86 "$slots"
	job lint-quick 1 - one scripts/lint.sh --quick
}

parts=check
[ "${1:-}" != --fast ] || parts="build fast"
verdicts_begin
# shellcheck disable=SC2086 # a list
scripts/packages.sh $parts || { bad packages; verdicts_end; exit 1; }
case ${1:-}${ARCH:-both} in
--fast*) check_fast ;;
x86) check_x86 && two_hosts_x86 ;;
arm64) check_arm64 && two_hosts_arm64 ;;
both) check_x86 && two_hosts_x86 && check_arm64 && two_hosts_arm64 ;;
*) bad "ARCH=$ARCH: there are x86 and arm64" ;;
esac
jobs_run "$slots"
jobs_times
verdicts_end
