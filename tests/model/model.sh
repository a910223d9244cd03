#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks tests/model/handover.pml exhaustively with spin, each claim in turn.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
command -v spin >/dev/null || scripts/packages.sh model
mkdir -p "$BUILD/model"
cp tests/model/handover.pml "$BUILD/model/"
cd "$BUILD/model"
claims=$(sed -n 's/^ltl \([a-z_]*\) .*/\1/p' handover.pml)
spin -a handover.pml >spin.log
gcc -O2 -w -DSAFETY -DNOCLAIM -o pan-deadlock pan.c
gcc -O2 -w -o pan pan.c
for claim in $claims; do
	./pan -a -N "$claim" >"$claim.log"
	grep -q 'errors: 0' "$claim.log" || { cat "$claim.log"; echo "model: $claim does not hold"; exit 1; }
	echo "model: $claim holds in $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$claim.log") states"
done
./pan-deadlock >deadlock.log
grep -q 'errors: 0' deadlock.log || { cat deadlock.log; echo "model: a side waits for ever"; exit 1; }
echo "model: no side waits for ever"
