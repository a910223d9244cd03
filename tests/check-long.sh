#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What takes too long for "make check", one after the other: all units under the thread sanitizer, those that gcc builds
# with the address sanitizer and that clang builds without; the scenarios that say in their first lines "# long: ROUNDS SECONDS", with
# that many rounds of so many seconds at most; those that say "# long-arm64: CPU ROUNDS SECONDS", on arm64's hosts with
# that CPU, and the demo there. With ARCH=x86 or ARCH=arm64 one of the two. Ends in what each took, and
# "N passed, N failed".
#
# usage: tests/check-long.sh [ROUNDS [NAME...]]    NAME: a scenario, unit-tsan, unit-gcc-asan,
#                                                  unit-clang, unit-arm64-long or demo-arm64
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check-long
rounds=${1:-}
[ $# -eq 0 ] || shift
names=("$@")
rm -rf "$OUT"
mkdir -p "$OUT"
# shellcheck source=tests/runner/parts.sh
. tests/runner/parts.sh

# wanted NAME: is it, or everything, asked for?
wanted() { [ ${#names[@]} -eq 0 ] || [[ " ${names[*]} " == *" $1 "* ]]; }

# long ARCH SCRIPT CPU ROUNDS SECONDS: the scenario, its rounds being its argument.
long() {
	local name
	name=$(basename "$2" .sh)
	wanted "$name" || return 0
	[ "$1" = x86 ] || name=$name-$1
	job "$name" "$slots" "$(lab_needs "$1" "$2")" lab on "$1" lab_run "$name" $(($4 * $5)) "$2" "$3" "$4"
}

# units NAME BEFORE ARG...: the unit tests, built with these arguments of make; the array that BEFORE names is put
# before the program.
units() {
	local name=$1
	local -n before=$2
	shift 2
	wanted "unit-$name" || return 0
	job "build-$name" "$slots" - one make -s -j"$slots" VARIANT="-$name" "$@" "$BUILD/tests/unit-$name"
	job "unit-$name" "$slots" "build-$name" suite "${before[@]}" "$BUILD/tests/unit-$name" -j$((2 * slots))
}

long_x86() {
	local script default seconds
	prepare_x86
	job build "$slots" - one make -s -j"$slots" all tests examples
	units tsan tsan "${thread_sanitized[@]:2}"
	units gcc-asan asan PLAIN=1 CFLAGS="-O1 -g" SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
	units clang asan CC=clang
	for script in tests/lab/scenarios/*.sh; do
		read -r default seconds <<<"$(header "$script" long "")"
		[ -z "${default:-}" ] || long x86 "$script" "" "${rounds:-$default}" "$seconds"
	done
}

long_arm64() {
	local script cpu default seconds
	prepare_arm64
	for script in tests/lab/scenarios/*.sh; do
		read -r cpu default seconds <<<"$(header "$script" long-arm64 "")"
		[ -z "${cpu:-}" ] || long arm64 "$script" "$cpu" "${rounds:-$default}" "$seconds"
	done
	! wanted unit-arm64-long || job unit-arm64-long 1 build-arm64,make-lab-arm64 suite \
		"$BUILD/arm64/lab/bin/qemu-aarch64" -L "$BUILD/arm64/sysroot" "$BUILD/arm64/tests/unit" -j2 --verbose --only tests/emulated/long
	! wanted demo-arm64 || job demo-arm64 "$slots" build-arm64,make-lab-arm64 one on arm64 demo/demo.sh
}

verdicts_begin
scripts/packages.sh check || { bad packages; verdicts_end; exit 1; }
case ${ARCH:-both} in
x86) long_x86 ;;
arm64) long_arm64 ;;
both) long_x86 && long_arm64 ;;
*) bad "ARCH=$ARCH: there are x86 and arm64" ;;
esac
jobs_run "$slots"
jobs_times
verdicts_end
