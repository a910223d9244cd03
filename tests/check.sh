#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every test: builds, unit tests (also under ASan and UBSan, and built by clang), tests on the
# machine's own /dev/kvm where it has one, then the lab, then the same for arm64, emulated; with
# ARCH=x86 or ARCH=arm64 one of the two. Ends in "N passed, N failed[, N skipped]".
# What may be skipped, and why, stands in tests/skips.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check
passed=0 failed=0 skipped=0
began=$SECONDS
rm -rf "$OUT"
mkdir -p "$OUT"
failures=$OUT/failures # what failed and the last words of it: said once more at the end
: >"$failures"

say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - began)); }

ok() {
	passed=$((passed + 1))
	echo "ok: $1"
}

bad() {
	failed=$((failed + 1))
	echo "failed: $1" >>"$failures"
	echo "FAILED: $1"
}

# details: prints what standard input tells of the failure told last, and keeps the end of it.
details() {
	local text
	text=$(cat)
	printf '%s\n' "$text"
	printf '%s\n' "$text" | cut -c1-300 | tail -n 12 | sed 's/^/    /' >>"$failures"
}

# skip NAME WHY: allowed only by a line in tests/skips.
skip() {
	if grep -q "^$1[[:space:]]" tests/skips; then
		skipped=$((skipped + 1))
		echo "skipped: $1: $2"
	else
		bad "$1: skipped without leave: $2"
	fi
}

# one NAME COMMAND...: one test, its output in a file.
one() {
	local name=$1
	shift
	if "$@" >"$OUT/$name.log" 2>&1; then
		ok "$name"
	else
		bad "$name"
		tail -n 30 "$OUT/$name.log" | details
	fi
}

# verdicts: of a Criterion binary's output what it says of tests that failed.
verdicts() { sed 's/\x1b\[[0-9;]*m//g' | grep -aE '^ *\[(FAIL|CRASH|----)\]' | head -n 60; }

# suite NAME COMMAND...: a Criterion binary; counts its tests.
suite() {
	local name=$1 status=0 line n p f c
	shift
	"$@" >"$OUT/$name.log" 2>&1 || status=$?
	line=$(sed 's/\x1b\[[0-9;]*m//g' "$OUT/$name.log" | grep 'Synthesis:' | tail -1)
	n=$(sed -n 's/.*Tested: \([0-9]*\).*/\1/p' <<<"$line")
	p=$(sed -n 's/.*Passing: \([0-9]*\).*/\1/p' <<<"$line")
	f=$(sed -n 's/.*Failing: \([0-9]*\).*/\1/p' <<<"$line")
	c=$(sed -n 's/.*Crashing: \([0-9]*\).*/\1/p' <<<"$line")
	if [ -z "$line" ] || [ "${n:-0}" -eq 0 ]; then
		bad "$name: ran no test"
		tail -n 30 "$OUT/$name.log" | details
		return
	fi
	passed=$((passed + p))
	failed=$((failed + f + c))
	echo "$name: $p of $n passed"
	if [ $((f + c)) -gt 0 ]; then
		echo "failed: $name: $((f + c)) of $n" >>"$failures"
		verdicts <"$OUT/$name.log" | details
	elif [ "$status" -ne 0 ]; then
		bad "$name: ended with status $status"
		tail -n 30 "$OUT/$name.log" | details
	fi
}

# lines NAME COMMAND...: a program that prints "PASS what", "FAIL what" or "SKIP what: why" for each test.
lines() {
	local name=$1 status=0 verdict what
	shift
	"$@" >"$OUT/$name.log" 2>&1 || status=$?
	grep -qE '^(PASS|FAIL) ' "$OUT/$name.log" || bad "$name: ran no test"
	[ "$status" -eq 0 ] || grep -q '^FAIL ' "$OUT/$name.log" || bad "$name: ended with status $status"
	while read -r verdict what; do
		case $verdict in
		PASS) ok "$name: $what" ;;
		FAIL) bad "$name: $what" ;;
		SKIP) skip "$name-${what%%:*}" "${what#*: }" ;;
		esac
	done < <(grep -E '^(PASS|FAIL|SKIP) ' "$OUT/$name.log")
	! grep -q '^FAIL ' "$OUT/$name.log" || tail -n 60 "$OUT/$name.log" | details
}

# shellcheck source=tests/lab/scenario.sh
. tests/lab/scenario.sh

# for_arch SCRIPT ARCH: is it for hosts of that architecture? "# arch: x86 arm64" says so; x86 without a word.
for_arch() {
	case " $(header "$1" arch x86) " in *" $2 "*) return 0 ;; esac
	return 1
}

# lab_run NAME SCRIPT: a lab run, of which lab_tell NAME tells.
lab_run() {
	local status=0
	scenario "$OUT/$1" 0 "$2" || status=$?
	echo "$status" >"$OUT/$1.status"
}

# Each line "PASS name" in a script's log is a test; what ends a script early is one that failed.
lab_tell() {
	local name=$1 n
	n=$(passes "$OUT/$name" | wc -l)
	passed=$((passed + n))
	echo "$name: $n passed"
	passes "$OUT/$name" | sed 's/^/  /'
	if [ "$(cat "$OUT/$name.status")" != 0 ] || [ "$n" -eq 0 ]; then
		bad "$name: $(grep -ah 'FAILED' "$OUT/$name"/?/script.log 2>/dev/null | tail -1)"
		{
			cat "$OUT/$name"/?/script.log | verdicts
			tail -n 40 "$OUT/$name.log"
		} | details
	fi
}

lab() {
	lab_run "$@"
	lab_tell "$1"
}

# Builds, units, this machine's own /dev/kvm, the lab of x86-64 hosts.
check_x86() {
	say "build: gcc"
	one build make -s -j2 all tests examples
	say "build: gcc with ASan and UBSan"
	one build-sanitized make -s -j2 VARIANT=-asan CFLAGS="-O1 -g" \
		SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" tests
	say "build: clang"
	one build-clang make -s -j2 VARIANT=-clang CC=clang "$BUILD/tests/unit-clang"
	one abi tests/abi/check.sh
	one cxx "$BUILD/tests/cxx"
	one install make -s install DESTDIR="$OUT/root" PREFIX=/usr

	local script name
	export GODWIT_GUESTS=$PWD/$BUILD/tests/guests
	say "unit tests"
	suite unit "$BUILD/tests/unit" -j2
	suite unit-sanitized env ASAN_OPTIONS=detect_leaks=0 "$BUILD/tests/unit-asan" -j2
	suite unit-clang "$BUILD/tests/unit-clang" -j2

	say "the control socket under clients that were not written here"
	lines control tests/control/run.sh

	say "tests on this machine's /dev/kvm"
	if [ -c /dev/kvm ]; then
		suite kvm "$BUILD/tests/kvm" -j1
		one example-embed timeout 300 "$BUILD/examples/embed" "$GODWIT_GUESTS/mixer.elf"
		one example-own-device timeout 300 "$BUILD/examples/own_device" \
			"$GODWIT_GUESTS/doorbell.elf"
		suite kvm-sanitized env ASAN_OPTIONS=detect_leaks=0 "$BUILD/tests/kvm-asan" -j1
	else
		skip kvm "this machine has no /dev/kvm; the lab runs the same tests"
	fi

	say "lab"
	if one lab-setup tests/lab/setup.sh && [ "$failed" -eq 0 ] || [ -f "$BUILD/lab/guest.cpio.gz" ]; then
		one lab-debian tests/lab/debian.sh
		one lab-kernel tests/lab/kernel.sh
		one lab-qemu-client-setup tests/lab/qemu-client.sh
		for script in tests/lab/scenarios/*.sh; do
			for_arch "$script" x86 || continue
			name=$(basename "$script" .sh)
			# A scenario whose program the archive lacks has left word why.
			if [ -e "$BUILD/lab/$name.why" ]; then
				skip "lab-$name" "$(cat "$BUILD/lab/$name.why")"
				continue
			fi
			say "lab: $name"
			lab "lab-$name" "$script"
		done
		say "demo"
		one demo demo/demo.sh
	fi
}

# arm64_runs HOSTS: a line "NAME CPU SCRIPT" for each arm64 scenario with so many hosts and each CPU that it names.
arm64_runs() {
	local script cpu
	for script in tests/lab/scenarios/*.sh; do
		for_arch "$script" arm64 && [ "$(header "$script" hosts 1)" = "$1" ] || continue
		for cpu in $(header "$script" cpus neoverse-n1); do
			echo "lab-$(basename "$script" .sh)-$cpu $cpu $script"
		done
	done
}

# side_by_side RUN...: two at a time, as an emulated host has one CPU.
side_by_side() {
	local run name cpu script
	for run; do
		read -r name cpu script <<<"$run"
		[ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
		LAB_CPU=$cpu lab_run "$name" "$script" &
	done
	wait
	for run; do lab_tell "${run%% *}"; done
}

# The same on arm64: unit tests by an emulator of user programs, but for those that it cannot run, which
# the scenario unit-arm64 runs on an emulated host's own kernel.
check_arm64() {
	local runs name cpu script
	say "arm64: build, lab"
	one build-arm64 make -s -j2 ARCH="$ARCH" BUILD="$BUILD" all tests examples
	one lab-setup-arm64 tests/lab/setup.sh
	say "arm64: unit tests"
	suite unit-arm64 "$BUILD/lab/bin/qemu-aarch64" -L "$BUILD/sysroot" "$BUILD/tests/unit" -j2 \
		--except tests/emulated/skips
	say "arm64: scenarios with one host, two at a time"
	mapfile -t runs < <(arm64_runs 1)
	side_by_side "${runs[@]}"
	while read -r name cpu script; do
		say "arm64: $(basename "$script" .sh), $cpu"
		LAB_CPU=$cpu lab "$name" "$script" </dev/null
	done < <(arm64_runs 2)
}

say "packages"
scripts/packages.sh check || { bad packages; echo "$passed passed, $failed failed"; exit 1; }

case ${ARCH:-} in
x86) check_x86 ;;
arm64) BUILD=$BUILD/arm64 check_arm64 ;;
"")
	ARCH=x86 check_x86
	ARCH=arm64 BUILD=$BUILD/arm64 check_arm64
	;;
*) bad "ARCH=$ARCH: there are x86 and arm64" ;;
esac

say "done"
cat "$failures"
line="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" -eq 0 ]
