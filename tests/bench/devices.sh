#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Downtime of a live migration with 1, 2 and 4 passthrough devices: vfio-user devices that other processes
# serve (godwit device-server ballast), of a given size of state, with and without PRE_COPY, on this
# machine's own KVM. Each device gives its state out at RATE, as hardware does, so that what is measured
# is whether devices take their time at once or one after the other. With rate 0 they are as fast as the
# machine's cores, which all of them share.
#
# usage: tests/bench/devices.sh [ROUNDS]        (3; the median counts; needs "make all tests" before)
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
ROUNDS=${1:-3}
RATES=${RATES:-64M 0}
SIZES=${SIZES:-1M 64M}
COUNTS=${COUNTS:-1 2 4}
PRE_COPY=${PRE_COPY:-no yes}
MEMORY=64M
godwit=$PWD/$BUILD/godwit
guest=$PWD/$BUILD/tests/guests/first.elf
work=$(mktemp -d /tmp/godwit-devices.XXXXXX)
servers=() vms=()
# The servers outlive their clients, which would speak of it otherwise.
end_all() {
	for p in "${vms[@]}"; do kill "$p" 2>/dev/null || :; done
	for p in "${vms[@]}"; do wait "$p" || :; done
	for p in "${servers[@]}"; do kill "$p" 2>/dev/null || :; done
	wait
	servers=() vms=()
}
cleanup() {
	end_all
	rm -rf "$work" "$work.ms"
}
trap cleanup EXIT

die() { echo "devices: $*" >&2; exit 1; }
ctl() { "$godwit" ctl "$work/$1" "${@:2}" --timeout 60; }

# until_there FILE: a socket that somebody has made
until_there() {
	for _ in $(seq 1000); do
		[ ! -S "$1" ] || return 0
		sleep 0.01
	done
	die "$1 did not come up"
}

serve() { # SIDE NUMBER OPTION...: one device, in a process of its own
	local socket=$work/$1.$2
	"$godwit" device-server ballast -q --socket "$socket" "${@:3}" &
	servers+=($!)
	until_there "$socket"
}

config() { # COUNT: a machine with so many of them, and the map for where it goes
	local device devices="" map="" i
	for i in $(seq "$1"); do
		device="{\"id\":\"dev$i\",\"type\":\"vfio-user-pci\",\"socket\":\"$work/src.$i\"}"
		devices+=${devices:+,}$device
		map+="${map:+,}\"devices.dev$i.socket\":\"$work/dst.$i\""
	done
	echo "{\"memory\":\"$MEMORY\",\"boot\":{\"kernel\":\"$guest\"},\"devices\":[$devices]}" >"$work/config"
	echo "{$map}" >"$work/map"
}

start_vms() {
	"$godwit" run -q "$work/config" --control "$work/src" &
	vms+=($!)
	"$godwit" run -q --incoming defer --control "$work/dst" &
	vms+=($!)
	until_there "$work/src"
	until_there "$work/dst"
	ctl dst migrate-incoming "uri=unix:$work/mig" "map=$(cat "$work/map")" >/dev/null
	ctl src migrate-set-parameters downtime-limit=2000000 >/dev/null
}

downtime() { # COUNT OPTION...: ms, into $work.ms
	local i
	rm -f "$work"/*
	config "$1"
	for i in $(seq "$1"); do
		serve src "$i" "${@:2}"
		serve dst "$i" "${@:2}"
	done
	start_vms
	ctl src migrate "uri=unix:$work/mig" >/dev/null
	ctl src wait-migration >"$work/result" || die "$(cat "$work/result")"
	end_all
	sed -n 's/.*"downtime": *\([0-9]*\).*/\1/p' "$work/result" >>"$work.ms"
}

median() { # COUNT OPTION...: into $ms
	: >"$work.ms"
	for _ in $(seq "$ROUNDS"); do downtime "$@"; done
	ms=$(sort -n "$work.ms" | sed -n "$((ROUNDS / 2 + 1))p")
}

printf '%-8s %-8s %-8s %8s %12s %8s\n' state rate PRE_COPY devices "downtime/ms" ratio
for rate in $RATES; do
	for size in $SIZES; do
		for precopy in $PRE_COPY; do
			one="" options=("--size=$size" "--rate=$rate")
			[ "$precopy" = no ] || options+=(--pre-copy)
			for count in $COUNTS; do
				median "$count" "${options[@]}"
				: "${one:=$ms}"
				printf '%-8s %-8s %-8s %8s %12s %8s\n' "$size" "$rate" "$precopy" "$count" "$ms" \
					"$(awk "BEGIN { printf \"%.2f\", $ms / ($one ? $one : 1) }")"
			done
		done
	done
done
