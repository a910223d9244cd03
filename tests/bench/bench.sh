#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Live migration over a UNIX socket on this machine's own KVM, godwit and QEMU in turn, with the same
# guest (tests/guests/dirtier.S: writes 64 MiB over and over) and the same downtime limit. Prints the
# medians and QEMU's as ratios to godwit's. Numbers, not a test: they depend on the machine.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
ROUNDS=${ROUNDS:-5}
MEMORY=${MEMORY:-512}
LIMIT=1000
[ -c /dev/kvm ] || { echo "bench: no /dev/kvm on this machine"; exit 1; }
scripts/packages.sh build
make -s -j2 all tests
tests/lab/setup.sh >/dev/null
godwit=$PWD/$BUILD/godwit qemu=$PWD/$BUILD/lab/bin/qemu-system-x86_64
guest=$PWD/$BUILD/tests/guests/dirtier.elf
work=$(mktemp -d /tmp/godwit-bench.XXXXXX)
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done
	rm -rf "$work"
}
trap cleanup EXIT

ctl() { "$godwit" ctl "$work/$1" "${@:2}" --timeout 20; }

start_godwit() { # NAME [incoming]
	if [ $# -gt 1 ]; then
		"$godwit" run -q --incoming "unix:$work/mig" --control "$work/$1" &
	else
		echo "{\"memory\":\"${MEMORY}M\",\"boot\":{\"kernel\":\"$guest\"},\"serial\":{\"log\":\"$work/src.out\"}}" >"$work/config"
		"$godwit" run -q "$work/config" --control "$work/$1" &
	fi
	pids+=($!)
}
start_qemu() {
	"$qemu" -M microvm,isa-serial=on -accel kvm -cpu host,arch-capabilities=off -m "$MEMORY" -smp 1 -nodefaults -no-user-config \
		-display none -serial "file:$work/$1.out" -kernel "$guest" -qmp "unix:$work/$1,server=on,wait=off" \
		${2:+-incoming "unix:$work/mig"} &
	pids+=($!)
}

migrate() { # start_godwit|start_qemu: prints total and downtime, ms
	rm -f "$work"/*
	"$1" src
	"$1" dst incoming
	ctl src query-status >/dev/null
	ctl dst query-status >/dev/null
	until grep -qs S "$work/src.out"; do sleep 0.01; done
	sleep 0.2
	ctl src migrate-set-parameters downtime-limit=$LIMIT >/dev/null
	ctl src migrate "uri=unix:$work/mig" >/dev/null
	ctl src wait-migration >"$work/result"
	ctl src quit >/dev/null
	ctl dst quit >/dev/null
	wait
	pids=()
	sed -n 's/.*"total-time": *\([0-9]*\).*/\1/p' "$work/result" | tr '\n' ' '
	sed -n 's/.*"downtime": *\([0-9]*\).*/\1/p' "$work/result"
}

median() { sort -n | sed -n "$((ROUNDS / 2 + 1))p"; }

for vmm in godwit qemu; do
	for _ in $(seq "$ROUNDS"); do migrate "start_$vmm"; done >"/tmp/bench.$$.$vmm"
done
for what in "1 total ms" "2 downtime ms"; do
	column=${what%% *}
	g=$(cut -d' ' -f"$column" "/tmp/bench.$$.godwit" | median)
	q=$(cut -d' ' -f"$column" "/tmp/bench.$$.qemu" | median)
	printf 'live migration, unix, %s MiB, %-12s godwit %6s   qemu %6s   qemu/godwit %s\n' "$MEMORY" \
		"${what#* }" "$g" "$q" "$(awk "BEGIN { printf \"%.2f\", $q / ($g ? $g : 1) }")"
done
rm -f "/tmp/bench.$$."*
