#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# godwit beside QEMU, in the same run: medians, and their ratio. Numbers, not a test: they depend on the
# machine.
#
#   migrate   live migration over a UNIX socket on this machine's own KVM, with the same guest
#             (tests/guests/x86/dirtier.S: writes 64 MiB over and over) and the same downtime limit
#   first     time from exec to the guest's first instruction, there too
#   devices   godwit alone: downtime with 1, 2 and 4 passthrough devices (tests/bench/devices.sh)
#   vm        time to a kernel's init, memory, disk and network, in a lab host (tests/bench/vm.sh)
#
# usage: tests/bench/bench.sh [PART...]        (all)
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
ROUNDS=${ROUNDS:-5}
MEMORY=${MEMORY:-512}
LIMIT=1000
scripts/packages.sh build
make -s -j2 all tests
tests/lab/setup.sh >/dev/null
godwit=$PWD/$BUILD/godwit qemu=$PWD/$BUILD/lab/bin/qemu-system-x86_64
guest=$PWD/$BUILD/tests/guests/dirtier.elf
microvm=(-M "microvm,isa-serial=on" -accel kvm -cpu "host,arch-capabilities=off" -m "$MEMORY" -smp 1
	-nodefaults -no-user-config -display none)
mkdir -p "$BUILD/bench"
gcc -std=gnu17 -O2 -Wall -Wextra -Werror -o "$BUILD/bench/first" tests/bench/first.c
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
	"$qemu" "${microvm[@]}" -serial "file:$work/$1.out" -kernel "$guest" -qmp "unix:$work/$1,server=on,wait=off" \
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

median() { sort -g | sed -n "$((ROUNDS / 2 + 1))p"; }

# line TEXT UNIT GODWIT QEMU: above 1, godwit is the better one.
line() {
	local g=$3 q=$4 ratio=qemu/godwit
	case $2 in */s) ratio=godwit/qemu g=$4 q=$3 ;; esac
	printf '%-52s %-7s godwit %10s   qemu %10s   %s %s\n' "$1" "$2" "$3" "$4" "$ratio" \
		"$(awk "BEGIN { printf \"%.2f\", $q / ($g ? $g : 1) }")"
}

part_migrate() {
	local vmm
	for vmm in godwit qemu; do
		for _ in $(seq "$ROUNDS"); do migrate "start_$vmm"; done >"$numbers/migrate.$vmm"
	done
	line "live migration, unix, $MEMORY MiB, total" ms "$(cut -d' ' -f1 "$numbers/migrate.godwit" | median)" \
		"$(cut -d' ' -f1 "$numbers/migrate.qemu" | median)"
	line "live migration, unix, $MEMORY MiB, downtime" ms "$(cut -d' ' -f2 "$numbers/migrate.godwit" | median)" \
		"$(cut -d' ' -f2 "$numbers/migrate.qemu" | median)"
}

part_first() {
	local elf=$PWD/$BUILD/tests/guests/first.elf
	echo "{\"memory\":\"${MEMORY}M\",\"boot\":{\"kernel\":\"$elf\"},\"serial\":{\"stdio\":true}}" >"$work/config"
	for _ in $(seq "$ROUNDS"); do
		"$BUILD/bench/first" 20 F "$godwit" run -q "$work/config" --control "$work/ctl" >>"$numbers/first.godwit"
		"$BUILD/bench/first" 20 F /bin/sh "$qemu" "${microvm[@]}" -serial stdio -kernel "$elf" \
			>>"$numbers/first.qemu"
		rm -f "$work/ctl"
	done
	line "exec to the guest's first instruction" ms "$(median <"$numbers/first.godwit")" \
		"$(median <"$numbers/first.qemu")"
}

part_devices() { tests/bench/devices.sh; }

part_vm() {
	tests/lab/debian.sh >/dev/null
	tests/lab/lab -m 3072 -t 900 -d debian.img -o "$numbers/vm" tests/bench/vm.sh >"$numbers/vm.log" 2>&1 || {
		cat "$numbers/vm.log"
		return 1
	}
	while IFS=';' read -r what unit g q; do
		line "${what#BENCH }" "${unit# }" "${g# }" "${q# }"
	done < <(grep '^BENCH ' "$numbers/vm/a/script.log")
}

numbers=$PWD/$BUILD/bench/numbers
rm -rf "$numbers"
mkdir -p "$numbers"
[ $# -gt 0 ] || set -- migrate first devices vm
for part; do
	case $part in
	migrate | first | devices)
		[ -c /dev/kvm ] || { echo "no /dev/kvm on this machine: no part '$part'"; continue; }
		;;
	vm) ;;
	*) echo "bench: no part '$part'" >&2; exit 2 ;;
	esac
	"part_$part"
done
