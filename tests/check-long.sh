#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What takes too long for "make check": the scenarios that say in their first lines "# long: ROUNDS
# SECONDS", with that many rounds of so many seconds at most. Ends in "N passed, N failed".
#
# usage: tests/check-long.sh [ROUNDS [SCENARIO...]]
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check-long
rounds=${1:-}
[ $# -eq 0 ] || shift
passed=0 failed=0
rm -rf "$OUT"
mkdir -p "$OUT"

# header SCRIPT KEY DEFAULT: what a scenario says of itself in its first lines.
header() {
	local v
	v=$(sed -n "s/^# $2: //p" "$1")
	echo "${v:-$3}"
}

# long SCRIPT ROUNDS SECONDS: the scenario with what it asks for, its rounds being its argument.
long() {
	local script=$1 name disk status=0 n
	name=$(basename "$1" .sh)
	disk=$(header "$script" disk "")
	echo "== $name: $2 rounds"
	tests/lab/lab -n "$(header "$script" hosts 1)" -t $(($(header "$script" seconds 300) + $2 * $3)) \
		-m "$(header "$script" memory 2048)" ${disk:+-d "$disk"} -k "$(header "$script" kernel debian)" \
		-o "$OUT/$name" "$script" -- "$2" >"$OUT/$name.log" 2>&1 || status=$?
	cat "$OUT/$name"/?/script.log | grep '^PASS '
	n=$(cat "$OUT/$name"/?/script.log | grep -c '^PASS ')
	passed=$((passed + n))
	if [ "$status" -ne 0 ] || [ "$n" -eq 0 ]; then
		failed=$((failed + 1))
		tail -n 40 "$OUT/$name.log"
	fi
}

{ make -s -j2 all && tests/lab/setup.sh && tests/lab/debian.sh && tests/lab/kernel.sh; } || exit 1
for script in tests/lab/scenarios/*.sh; do
	[ $# -eq 0 ] || [[ " $* " == *" $(basename "$script" .sh) "* ]] || continue
	read -r default seconds <<<"$(header "$script" long "")"
	[ -z "${default:-}" ] || long "$script" "${rounds:-$default}" "$seconds"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
