#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What takes too long for "make check": the scenarios that say in their first lines "# long: ROUNDS
# SECONDS", with that many rounds of so many seconds at most; then those that say "# long-arm64: CPU
# ROUNDS SECONDS", on arm64's hosts with that CPU, and the demo there; with ARCH=x86 or ARCH=arm64 one
# of the two. Ends in "N passed, N failed".
#
# usage: tests/check-long.sh [ROUNDS [SCENARIO...]]       (SCENARIO may be demo-arm64)
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check-long
rounds=${1:-}
[ $# -eq 0 ] || shift
names=("$@")
passed=0 failed=0
rm -rf "$OUT"
mkdir -p "$OUT"

# shellcheck source=tests/lab/scenario.sh
. tests/lab/scenario.sh

# long SCRIPT ROUNDS SECONDS: the scenario with what it asks for, its rounds being its argument.
long() {
	local name status=0 n
	name=$(basename "$1" .sh)
	echo "== $name: $2 rounds"
	scenario "$OUT/$name" $(($2 * $3)) "$1" "$2" || status=$?
	passes "$OUT/$name"
	n=$(passes "$OUT/$name" | wc -l)
	passed=$((passed + n))
	if [ "$status" -ne 0 ] || [ "$n" -eq 0 ]; then
		failed=$((failed + 1))
		tail -n 40 "$OUT/$name.log"
	fi
}

wanted() { [ ${#names[@]} -eq 0 ] || [[ " ${names[*]} " == *" $1 "* ]]; }

demo() {
	echo "== demo-$ARCH"
	if demo/demo.sh >"$OUT/demo.log" 2>&1; then
		passed=$((passed + 1))
		echo "PASS demo-$ARCH"
	else
		failed=$((failed + 1))
		tail -n 40 "$OUT/demo.log"
	fi
}

long_x86() {
	local script default seconds
	{ make -s -j2 all && tests/lab/setup.sh && tests/lab/debian.sh && tests/lab/kernel.sh; } || exit 1
	for script in tests/lab/scenarios/*.sh; do
		wanted "$(basename "$script" .sh)" || continue
		read -r default seconds <<<"$(header "$script" long "")"
		[ -z "${default:-}" ] || long "$script" "${rounds:-$default}" "$seconds"
	done
}

# The same on arm64's hosts.
long_arm64() {
	local script cpu default seconds
	mkdir -p "$OUT"
	{ make -s -j2 ARCH="$ARCH" BUILD="$BUILD" all tests examples && tests/lab/setup.sh; } || exit 1
	for script in tests/lab/scenarios/*.sh; do
		wanted "$(basename "$script" .sh)" || continue
		read -r cpu default seconds <<<"$(header "$script" long-arm64 "")"
		[ -z "${cpu:-}" ] || LAB_CPU=$cpu long "$script" "${rounds:-$default}" "$seconds"
	done
	! wanted demo-arm64 || demo
}

case ${ARCH:-} in
x86) long_x86 ;;
arm64) OUT=$OUT/arm64 BUILD=$BUILD/arm64 long_arm64 ;;
"")
	ARCH=x86 long_x86
	ARCH=arm64 OUT=$OUT/arm64 BUILD=$BUILD/arm64 long_arm64
	;;
*)
	echo "ARCH=$ARCH: there are x86 and arm64"
	failed=1
	;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
