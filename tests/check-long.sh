#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What takes too long for "make check": scenarios of it, with more rounds. Ends in
# "N passed, N failed".
#
# usage: tests/check-long.sh [ROUNDS]        (20)
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
OUT=$PWD/$BUILD/check-long
ROUNDS=${1:-20}
passed=0 failed=0
rm -rf "$OUT"
mkdir -p "$OUT"

# long NAME SECONDS SCRIPT ARGS...: a scenario, with the memory and the disk that it asks for.
long() {
	local name=$1 limit=$2 script=$3 memory disk status=0 n
	shift 3
	memory=$(sed -n 's/^# memory: //p' "$script")
	disk=$(sed -n 's/^# disk: //p' "$script")
	tests/lab/lab -t "$limit" -m "${memory:-2048}" ${disk:+-d "$disk"} -o "$OUT/$name" "$script" \
		-- "$@" >"$OUT/$name.log" 2>&1 || status=$?
	grep '^PASS ' "$OUT/$name/a/script.log"
	n=$(grep -c '^PASS ' "$OUT/$name/a/script.log")
	passed=$((passed + n))
	if [ "$status" -ne 0 ] || [ "$n" -eq 0 ]; then
		failed=$((failed + 1))
		tail -n 40 "$OUT/$name.log"
	fi
}

{ make -s -j2 all && tests/lab/debian.sh; } || exit 1
long debian-load $((300 + 60 * ROUNDS)) tests/lab/scenarios/debian-load.sh "$ROUNDS"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
