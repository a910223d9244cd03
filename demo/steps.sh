# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo's steps, told as they go and kept for the table (demo/demo.sh prints it).
#
#   step N TEXT                 a step begins
#   step_done RESULT [downtime=MS] [bytes=N] [rounds=N]

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
