#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A lab host (L1) after its initramfs, in a chroot of the machine: makes the host ready, runs its
# script, leaves the script's exit status in the output folder, and powers off.
set -u
ROOT=$1 LAB=$2 LAB_RUN=$3
export ROOT LAB LAB_RUN
LAB_HOST=
for w in $(cat /proc/cmdline); do
	case $w in
	lab.host=*) LAB_HOST=${w#*=} ;;
	lab.modules=*) LAB_MODULES=${w#*=} ;;
	lab.norm=*) norm=${w#*=} ;;
	esac
done
export LAB_MODULES
LAB_OUT=$LAB_RUN/$LAB_HOST
export LAB_HOST LAB_OUT
# $LAB is build/lab, and godwit is in build.
export PATH="${LAB%/lab}:$LAB/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$LAB/applets"
export HOME=/root TERM="${TERM:-vt100}"
# Until it is known; the runner ends a start that hangs.
LAB_PATIENCE=30
. "$ROOT/tests/lab/lib.sh"

off() {
	sync
	"$LAB/bin/busybox" poweroff -f
	sleep 60
}
fail() {
	echo "lab: host $LAB_HOST: $*" >&2
	echo "setup: $*" >"$LAB_OUT/status"
	off
}

hostname "host-$LAB_HOST"
# Where KVM is a module.
case $(uname -m) in
x86_64) load kvm-amd || fail "cannot load the modules" ;;
esac
load vfio-pci vfio_iommu_type1 mdev mtty virtio_net || fail "cannot load the modules"
echo 1 >/proc/sys/kernel/sysrq
# The emulated 82574L drops a frame whose buffer is not in one piece in the host's memory, which a
# real one does not mind. Huge pages make that rare enough to work with.
echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled

case $LAB_HOST in
a) own=1 other=2 ;;
b) own=2 other=1 ;;
*) fail "no name on the kernel's command line" ;;
esac
export NIC=0000:00:10.0
export MGMT_ADDR=10.77.0.$own OTHER_MGMT_ADDR=10.77.0.$other
export PEER_ADDR=10.78.0.$own OTHER_PEER_ADDR=10.78.0.$other
ip link set lo up
net_up 0000:00:08.0 mgmt "$MGMT_ADDR/24" || fail "no management NIC"
net_up 0000:00:09.0 peer "$PEER_ADDR/24" || fail "no peer NIC"
grep -q intel_iommu=off /proc/cmdline || bind_vfio "$NIC" || fail "cannot bind $NIC to vfio-pci"
MTTY=$(make_mtty) || fail "cannot make an mtty"
export MTTY

cd "$ROOT" || fail "no $ROOT"
# What time limits are multiplied by: three times what this start took, as a multiple of what it takes on
# a quiet machine. It may get three times as busy later. With more than 30 a hang would last for hours.
LAB_PATIENCE=$(awk -v norm="$norm" '{ p = 3 * $1 / norm; p = int(p) + (p > int(p)); print (p < 3 ? 3 : p > 30 ? 30 : p) }' /proc/uptime)
export LAB_PATIENCE GODWIT_PATIENCE="$LAB_PATIENCE"
echo "$LAB_PATIENCE" >"$LAB_OUT/patience"
echo "lab: host $LAB_HOST up after $(cut -d' ' -f1 /proc/uptime) s, patience $LAB_PATIENCE"
echo up >"$LAB_OUT/up"

if [ -e "$LAB_OUT/interactive" ]; then
	read -r rows cols <"$LAB_OUT/interactive"
	tty=/dev/$(cat /sys/class/tty/console/active)
	stty rows "$rows" cols "$cols" 2>/dev/null <"$tty"
	printf '\nA lab host: NIC %s on vfio-pci, mtty %s.\n' "$NIC" "$MTTY"
	printf 'godwit is on PATH when it is built; "exit" powers off.\n\n'
	setsid -c /bin/bash --rcfile "$ROOT/tests/lab/shellrc" -i <"$tty" >"$tty" 2>&1
	echo $? >"$LAB_OUT/status"
	off
fi

# A sign of life; and what this host does, when the time is over (tests/lab/lab).
tell() {
	while [ ! -e "$LAB_OUT/over" ]; do
		cat /proc/uptime >"$LAB_OUT/alive"
		sleep 5
	done
	"$ROOT/tests/lab/hang.sh" >"$LAB_OUT/.hang.log" 2>&1
	mv "$LAB_OUT/.hang.log" "$LAB_OUT/hang.log"
}
tell &

# One argument a line.
set --
while IFS= read -r w; do set -- "$@" "$w"; done <"$LAB_OUT/args"
script=$1
shift
setsid "$script" "$@" </dev/null >"$LAB_OUT/script.log" 2>&1
rc=$?
dmesg >"$LAB_OUT/dmesg.log" 2>/dev/null
sync
echo "$rc" >"$LAB_OUT/status"
off
