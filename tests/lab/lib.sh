# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What scripts in a lab host (L1) call:  . "$ROOT/tests/lab/lib.sh"
#
# The environment there:
#   ROOT, LAB            the project's folder, and build/lab
#   LAB_MODULES          the tree of modules for the kernel that runs here
#   LAB_HOST             a or b
#   LAB_OUT              this host's output folder on the machine; LAB_RUN is the run's, above it
#   NIC                  the 82574L's address, bound to vfio-pci
#   MTTY                 sysfs folder of an mtty mediated device
#   LAB_PATIENCE         what time limits are multiplied by here: 3 on a quiet machine, more on a busy one
#   MGMT_ADDR, OTHER_MGMT_ADDR   management network: this host's address, the other's
#   PEER_ADDR, OTHER_PEER_ADDR   the same on the segment that the passthrough NICs are on
#
#   log TEXT...                  a line with host and time since L1's start
#   die TEXT...                  says so and ends the script with status 1
#   patience N                   prints N, a time limit on a quiet machine, times LAB_PATIENCE
#   wait_for SECONDS COMMAND...  until COMMAND succeeds; fails when that time, times LAB_PATIENCE, is over
#   load MODULE...               loads modules
#   bind_vfio ADDRESS [DRIVER]   gives a PCI device to vfio-pci, or to a variant of it
#   bind_movable ADDRESS         gives an 82574L to the driver by which its state moves
#   make_mtty [UUID]             makes a two-port mtty, prints its sysfs folder
#   iommu_group DEVICE_FOLDER    prints the number of its IOMMU group
#   net_up ADDRESS NAME CIDR     names and starts the network interface of a PCI device
#   listening PORT               does a program here listen on that TCP port?
#   gone PID                     has the process ended? (also when nobody has waited for it yet)
#   monitor COMMAND...           asks the monitor of this host's QEMU, prints its answer; no quotes
#   lab_mark NAME [TEXT]         tells the other host that NAME is reached
#   lab_await NAME [SECONDS]     waits for it (60 s, times the larger LAB_PATIENCE of the two), prints its
#                                text; fails at once when the other host has ended without it
#   lab_die [HOST]               HOST (this one) loses its power, at once

log() {
	_up=
	read -r _up _ </proc/uptime
	echo "[$LAB_HOST $_up] $*"
}

die() {
	log "FAILED: $*" >&2
	exit 1
}

patience() { echo $(($1 * ${LAB_PATIENCE:-1})); }

# What is waited for runs on the same CPU: looking for it must not take most of that. What does not come within the
# first tries is not that near.
wait_for() {
	_now
	_end=$((_now + $1 * ${LAB_PATIENCE:-1})) _tries=0
	shift
	until "$@"; do
		_now
		[ "$_now" -lt "$_end" ] || return 1
		_tries=$((_tries + 1))
		if [ $_tries -lt 8 ]; then sleep 0.1; else sleep 0.3; fi
	done
}

# Sets _now: seconds since this host's start.
_now() {
	read -r _now _ </proc/uptime
	_now=${_now%.*}
}

gone() {
	# In brackets its name; its state is behind that.
	{ read -r _stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	case ${_stat##*) } in [ZX]*) return 0 ;; esac
	return 1
}

load() {
	for _m; do modprobe -d "$LAB_MODULES" "$_m" || return 1; done
}

bind_vfio() {
	_d=/sys/bus/pci/devices/$1 _to=${2:-vfio-pci}
	[ -d "$_d" ] || { echo "no PCI device $1" >&2; return 1; }
	echo "$_to" >"$_d/driver_override" || return 1
	if [ -e "$_d/driver" ]; then
		case $(readlink "$_d/driver") in */"$_to") return 0 ;; esac
		echo "$1" >"$_d/driver/unbind" || return 1
	fi
	echo "$1" >/sys/bus/pci/drivers_probe || return 1
	case $(readlink "$_d/driver") in */"$_to") return 0 ;; esac
	echo "$1 was not taken by $_to" >&2
	return 1
}

bind_movable() {
	load godwit_e1000e_vfio_pci && bind_vfio "$1" godwit-e1000e-vfio-pci
}

make_mtty() {
	_u=${1:-83b8f4f2-509f-382f-3c1e-e6bfe0fa1001}
	_d=/sys/bus/mdev/devices/$_u
	if [ ! -d "$_d" ]; then
		echo "$_u" >/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2/create || return 1
	fi
	[ -d "$_d" ] && echo "$_d"
}

iommu_group() {
	_g=$(readlink "$1/iommu_group") || return 1
	echo "${_g##*/}"
}

net_up() {
	wait_for 5 _has_net "$1" || return 1
	_i=$(_net "$1")
	ip link set "$_i" name "$2" && ip addr add "$3" dev "$2" && ip link set "$2" up
}
_net() {
	for _n in /sys/bus/pci/devices/"$1"/net/* /sys/bus/pci/devices/"$1"/virtio*/net/*; do
		[ ! -d "$_n" ] || echo "${_n##*/}"
	done
}
_has_net() { [ -n "$(_net "$1")" ]; }

listening() { grep -q ":$(printf %04X "$1") 00000000:0000 0A " /proc/net/tcp; }

monitor() {
	rm -f "$LAB_OUT/answer"
	printf '%s' "$*" >"$LAB_OUT/.ask"
	mv "$LAB_OUT/.ask" "$LAB_OUT/ask"
	wait_for 30 [ -e "$LAB_OUT/answer" ] || return 1
	grep -q '^{"return": ".*", "id": 1}' "$LAB_OUT/answer" || { cat "$LAB_OUT/answer" >&2; return 1; }
	printf '%b\n' "$(sed -n 's/^{"return": "\(.*\)", "id": 1}.*/\1/p' "$LAB_OUT/answer")" | tr -d '\r'
}

lab_mark() {
	echo "${2:-}" >"$LAB_RUN/sync/.$1.$LAB_HOST"
	mv "$LAB_RUN/sync/.$1.$LAB_HOST" "$LAB_RUN/sync/$1"
}

lab_await() {
	case $LAB_HOST in a) _other=b ;; *) _other=a ;; esac
	_end=
	until [ -e "$LAB_RUN/sync/$1" ]; do
		# Before the other host is up it has another limit (tests/lab/lab).
		if [ -z "$_end" ] && _theirs=$(grep . "$LAB_RUN/$_other/patience" 2>/dev/null); then
			[ "$_theirs" -gt "$LAB_PATIENCE" ] || _theirs=$LAB_PATIENCE
			_now
			_limit=$((${2:-60} * _theirs)) _end=$((_now + _limit))
		fi
		if [ -e "$LAB_RUN/$_other/ended" ] && [ ! -e "$LAB_RUN/sync/$1" ]; then
			echo "lab_await: host $_other has ended before '$1'" >&2
			return 1
		fi
		_now
		if [ -n "$_end" ] && [ "$_now" -ge "$_end" ]; then
			echo "lab_await: no '$1' within $_limit s" >&2
			return 1
		fi
		sleep 0.1
	done
	grep . "$LAB_RUN/sync/$1" || :
}

lab_die() {
	: >"$LAB_RUN/${1:-$LAB_HOST}/die"
	[ "${1:-$LAB_HOST}" != "$LAB_HOST" ] || while :; do sleep 1; done
}
