# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo's steps, told as they go and kept for the table (demo/demo.sh prints it).
#
#   step N TEXT                 a step begins
#   step_done RESULT [downtime=MS] [bytes=N] [rounds=N]
#   slots_are_hot               can a card come and go? Otherwise (arm64) it moves with the guest, by its state
#   movable_nic                 makes this host's card one that can
#   cards                       the options by which an incoming guest gets this host's cards

now() {
	read -r _u _ </proc/uptime
	echo "${_u%.*}${_u#*.}0"
}

# sent FILE: the bytes that query-migrate says were sent
sent() { sed -n 's/.*"ram": *{"transferred": *\([0-9]*\).*/\1/p' "$1"; }

step() {
	_number=$1 _what=$2 _begun=$(now)
	log "step $1: $2"
}

step_done() {
	_result=$1 downtime=- bytes=- rounds=-
	shift
	for _kv; do
		case $_kv in downtime=*) downtime=${_kv#*=} ;; bytes=*) bytes=${_kv#*=} ;; rounds=*) rounds=${_kv#*=} ;; esac
	done
	log "step $_number: ok: $_result"
	printf '%s|%s|%s|%s|%s|%s|%s\n' "$_number" "$_what" "$_result" "$(($(now) - _begun))" \
		"$downtime" "$bytes" "$rounds" >>"$LAB_OUT/table"
}

slots_are_hot() { [ "$(uname -m)" = x86_64 ]; }

# The emulated card drops what is sent from a buffer that is not in one piece in the host's memory; in huge
# pages every buffer is.
movable_nic() {
	echo 180 >/proc/sys/vm/nr_hugepages
	bind_movable "$NIC"
}

cards() {
	echo "--map devices.tty0.host=$MTTY"
	slots_are_hot || echo "--map devices.net0.host=$NIC"
}
