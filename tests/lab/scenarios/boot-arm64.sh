#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: arm64
# hosts: 1
# seconds: 300
# long-arm64: cortex-a72 1 60
#
# A guest's life on arm64: two vCPUs, stop and cont, reset and power from both sides, and the 82574L by
# VFIO with its messages through the ITS. Run on a core with VHE and on one without.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS boot-arm64 $*"; }

_times() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge "$1" ]; }
_nic() { con a 10 nic "$1/24" >/dev/null; }
# traffic ADDRESS: 2 MiB both ways through the card that has no address yet.
traffic() {
	nettest serve "$PEER_ADDR" 5001 1 >/tmp/served 2>&1 &
	_peer=$!
	wait_for 30 _nic "$1" || die "the guest has no card"
	wait_for 30 ping -c1 -W1 -q "$1" >/dev/null || die "the guest does not answer"
	con a 120 nettest "$PEER_ADDR" 5001 2
	wait "$_peer"
}

CPUS=2
vm_config a "net0=$NIC@16"
tree_holds a
# tree NAME CPUS MEMORY [MORE]: that of a machine without devices and initrd.
tree() {
	mkdir -p "$VMS/$1"
	echo "{\"cpus\": $2, \"memory\": \"$3\", \"boot\": {\"kernel\": \"/tmp/vmlinuz\"}${4-}}" >"$VMS/$1/config.json"
	tree_holds "$1"
}
tree small 1 64M
tree wide 12 256M ', "cpu": {"pmu": true, "sockets": 2, "cores": 3, "threads": 2}'
tree large 2 300G
NODES='{"cpus":"0","memory":"192M","distances":[10,21]},{"cpus":"1","memory":"128M","distances":[21,10]}'
tree nodes 2 320M ", \"numa\": [$NODES]"
pass "device trees of several machines have all that bindings require, and dtc has nothing to say of them"

head -c 1000000 "$LAB/vmlinuz.zst" >/tmp/cut.zst
mkdir -p "$VMS/cut"
sed 's,/tmp/vmlinuz,/tmp/cut.zst,' "$VMS/a/config.json" >"$VMS/cut/config.json"
expect_fail "boot.kernel: /tmp/cut.zst: zstd: damaged or cut off, at byte 1000000 of 1000000" \
	godwit run "$VMS/cut/config.json"
pass "a packed kernel that is cut off is refused"

vm_start a
vm_up a
[ "$(con a 10 'grep -c ^processor /proc/cpuinfo')" = 2 ] || die "not two CPUs"
if con a 10 "dmesg | grep -E 'BUG:|WARNING:|Call trace|soft lockup|OF: .*(error|fail)'"; then
	die "the guest's kernel complains"
fi
pass "Image boots with two vCPUs, and the guest's kernel has no complaint"

# told WHAT REGEX: its kernel has said so.
told() { con a 10 "dmesg | grep -qE '$2'" || die "the guest has no $1: $(con a 10 dmesg)"; }
told "PSCI" 'psci: PSCIv1\.[0-9]+ detected'
told "seed of its own for addresses" 'KASLR enabled'
told "stolen time" 'arm-pv: using stolen time PV'
[ "$(con a 10 'cat /sys/class/rtc/rtc0/name')" = "rtc-pl031 9010000.rtc" ] || die "no PL031"
_here=$(date +%s)
_there=$(con a 10 'cat /sys/class/rtc/rtc0/since_epoch')
if [ "$_there" -lt "$_here" ] || [ "$_there" -gt $(($(date +%s) + 1)) ]; then
	die "the clock says $_there, not $_here"
fi
[ "$(con a 10 'cat /sys/devices/system/cpu/cpu*/topology/core_id' | tr '\n' ' ')" = "0 1 " ] || die "other cores"
[ "$(con a 10 'cat /sys/devices/system/cpu/cpu*/topology/physical_package_id' | tr '\n' ' ')" = "0 0 " ] || die "other sockets"
pass "it finds PSCI, its seeds, stolen time, the clock with a battery and its cores"

traffic 10.78.0.101
[ "$(con a 10 'grep -c "ITS.*MSI.*eth0" /proc/interrupts')" -ge 3 ] || die "no MSI-X"
pass "the guest's e1000e carries traffic with MSI-X through the ITS"

expect_fail "net0" ctl a snapshot-save directory=/tmp/no
[ ! -e /tmp/no ] || die "something was saved"
pass "saving is refused by the card's name"

con a 30 worker start 16 2
vm_rests a 3
gap=$(con a 30 worker status | sed -n 's/.*max_gap_ms=\([0-9]*\).*/\1/p')
pass "guest time stands still while it is stopped (gap $gap ms)"

con a 10 -s reboot -f || :
wait_for 60 _times 2 || die "the guest did not come up again"
traffic 10.78.0.102
pass "the guest reboots, and the card works again"

ctl a system_reset >/dev/null
wait_for 60 _times 3 || die "the guest did not come up after system_reset"
pass "system_reset"

ctl a system_powerdown >/dev/null
vm_gone a || die "exit status $?"
pass "the power button"

rm -f "$VMS/a/con.log"
cp "$LAB/vmlinuz.zst" /tmp/
sed -i 's/quiet panic/pci=nomsi quiet panic/; s,/tmp/vmlinuz,/tmp/vmlinuz.zst,' "$VMS/a/config.json"
vm_start a --set "numa=[$NODES]"
vm_up a 120
traffic 10.78.0.103
con a 10 'grep "GICv3.*Level.*eth0" /proc/interrupts' || die "not by INTx: $(con a 10 cat /proc/interrupts)"
pass "an Image in zstd boots; with INTx alone, resampled in the kernel, the card carries traffic too"
node() { con a 10 "cat /sys/devices/system/node/node*/$1" | tr '\n' ' '; }
node_kib() { con a 10 "sed -n 's/.*MemTotal: *\\([0-9]*\\).*/\\1/p' /sys/devices/system/node/node$1/meminfo"; }
[ "$(node cpulist)" = "0 1 " ] || die "CPUs of the nodes: $(node cpulist)"
[ "$(node distance)" = "10 21 21 10 " ] || die "distances: $(node distance)"
first=$(node_kib 0) second=$(node_kib 1)
if [ "$first" -lt 132000 ] || [ "$first" -gt 196608 ] || [ "$second" -gt 131072 ] || [ $((first + second)) -lt 260000 ]; then
	die "the nodes have $first and $second KiB"
fi
[ "$(con a 10 'cat /sys/bus/pci/devices/0000:00:10.0/numa_node')" = 0 ] || die "the card is in no node"
no_complaint a 'NUMA: .*(inval|fail|[Ww]arn)|sched: CPU'
pass "two NUMA nodes with a CPU, memory and a distance each"
con a 10 -s poweroff -f || :
vm_gone a || die "exit status $?"
pass "the guest powers off"
