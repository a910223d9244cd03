#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: machines
# seconds: 300
#
# CPUs, memory and time as Linux sees them.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS platform $*"; }
flags() { con "$1" 10 "sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -n 1"; }

# ---- CPUs ----
CPUS=6
vm_config a
vm_start a --set cpu.sockets=1 --set cpu.cores=3 --set cpu.threads=2 --set 'cpu.affinity=["0"]' --set cpu.model=x86-64-v3
vm_up a
[ "$(con a 10 'grep -c ^processor /proc/cpuinfo')" = 6 ] || die "not six CPUs"
[ "$(con a 10 'cat /sys/devices/system/cpu/cpu1/topology/thread_siblings_list')" = 0-1 ] || die "siblings: $(con a 10 'cat /sys/devices/system/cpu/cpu1/topology/thread_siblings_list')"
[ "$(con a 10 "sed -n 's/^cpu cores.*: //p' /proc/cpuinfo | head -n 1")" = 3 ] || die "cores"
case " $(flags a) " in
*" avx2 "*) ;;
*) die "x86-64-v3 has no avx2: $(flags a)" ;;
esac
case " $(flags a) " in *" sha_ni "* | *" svm "*) die "x86-64-v3 has more than it should: $(flags a)" ;; esac
pass "topology, x86-64-v3"
vm_quit a
# ---- nodes ----
CPUS=2
NUMA='[{"cpus":"0","memory":"192M","distances":[10,21]},{"cpus":"1","memory":"128M","distances":[21,10]}]'
CMDLINE=memhp_default_state=online_movable
vm_config b '{"id":"mem0","type":"virtio-mem","size":"256M","requested":"128M","node":1}'
unset NUMA CMDLINE
vm_start b --set cpu.model=x86-64-v2
vm_up b
node_kib() { con "$1" 10 "sed -n 's/.*MemTotal: *\\([0-9]*\\).*/\\1/p' /sys/devices/system/node/node$2/meminfo"; }
# Its 128 MiB, less what the kernel takes, 64 MiB of it for bounce buffers; and 128 MiB.
_grown() { [ "$(node_kib "$1" 1)" -ge 180000 ]; }
two_nodes() {
	[ "$(con "$1" 10 'cat /sys/devices/system/node/node*/cpulist' | tr '\n' ' ')" = "0 1 " ] || die "CPUs of the nodes"
	[ "$(con "$1" 10 'cat /sys/devices/system/node/node*/distance' | tr '\n' ' ')" = "10 21 21 10 " ] || die "distances"
	[ "$(node_kib "$1" 0)" -le 196608 ] || die "the first node has $(node_kib "$1" 0) KiB"
	wait_for 20 _grown "$1" || die "the second node has $(node_kib "$1" 1) KiB: $(con "$1" 10 'dmesg | tail')"
	[ "$(node_kib "$1" 1)" -le 262144 ] || die "the second node has $(node_kib "$1" 1) KiB"
}
two_nodes b
[ "$(con b 10 'cat /sys/devices/system/cpu/cpu*/topology/physical_package_id' | tr '\n' ' ')" = "0 1 " ] || die "both in one socket"
[ "$(con b 10 'cat /sys/bus/pci/devices/0000:00:01.0/numa_node')" = 0 ] || die "PCI is in no node"
no_complaint b 'SRAT: .*(not|inval|fail)|[Nn]ode .* overlap|sched: CPU'
ctl b query-cpus-fast | tr -d ' \n' | grep -q '"node-id":1,"socket-id":1,"die-id":0,"core-id":0,"thread-id":0' || die "$(ctl b query-cpus-fast)"
pass "NUMA nodes with memory, CPUs, distances; memory that comes, and PCI"
ctl b snapshot-save directory=/tmp/snap >/dev/null
vm_kill b
vm_restore n /tmp/snap --map numa.1.host-nodes=0
vm_ready n
vm_is n running
two_nodes n
ctl n query-config | tr -d ' \n' | grep -q '"host-nodes":"0","distances":\[21,10\]' || die "$(ctl n query-config)"
vm_quit n
expect_fail "map numa.1.memory: no such path" godwit restore /tmp/snap --map numa.1.memory=1G --control /tmp/x
rm -rf /tmp/snap
pass "they travel with the guest"

CPUS=1
vm_config b
vm_start b --set cpu.model=x86-64-v2
vm_up b
case " $(flags b) " in *" avx "*) die "x86-64-v2 has avx" ;; esac
pass "x86-64-v2"
vm_quit b

# ---- memory ----
echo 200 >/proc/sys/vm/nr_hugepages
vm_config c
vm_start c --set backing.pages=2M --set 'backing.nodes="0"'
vm_up c
[ "$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)" -lt 100 ] || die "no huge pages are used"
con c 10 true
pass "huge pages of a node"
vm_quit c
expect_fail "backing.pages" godwit run "$VMS/c/config.json" --set backing.pages=2M --set memory=1G --control /tmp/x
echo 0 >/proc/sys/vm/nr_hugepages
vm_config l
vm_start l --set backing.lock=true --set backing.prealloc=true --set backing.pages=4K
vm_up l
[ "$(sed -n 's/^VmLck:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$(cat "$VMS/l/pid")/status")" -ge 327680 ] || die "memory is not locked"
pass "locked and preallocated memory"
expect_fail "backing.prealloc: 65536 MiB of this host's memory are needed, and" \
	godwit run "$VMS/l/config.json" --set memory=64G --set serial.socket=null --set backing.prealloc=true --set backing.pages=4K --control /tmp/x
pass "memory that the host has not is refused before it is taken"
vm_quit l

# ---- time, and the generation ----
uptime_s() { con "$1" 10 'cut -d. -f1 /proc/uptime'; }
# However long the rest takes, the two clocks differ by what it was away.
AWAY=25
for clock in continue realtime; do
	vm_config "$clock"
	vm_start "$clock" --set "clock=$clock"
	vm_up "$clock"
	host=$(cut -d. -f1 /proc/uptime)
	eval "host_$clock=$host guest_$clock=$(uptime_s "$clock")"
	ctl "$clock" stop >/dev/null
	ctl "$clock" snapshot-save "directory=/tmp/snap.$clock" --timeout 60 >/dev/null
	vm_kill "$clock"
done
sleep $AWAY
for clock in continue realtime; do
	vm_restore "r$clock" "/tmp/snap.$clock"
	vm_is "r$clock" paused
	ctl "r$clock" cont >/dev/null
	# shellcheck disable=SC2034 # used by eval
	guest=$(uptime_s "r$clock")
	host=$(cut -d. -f1 /proc/uptime)
	eval "up_$clock=\$((guest - guest_$clock)) host=\$((host - host_$clock))"
	# shellcheck disable=SC2154 # set by eval
	if [ "$clock" = continue ] && [ "$up_continue" -gt $((host - AWAY + 1)) ]; then
		die "continue: its time has gone on by $up_continue s of $host s"
	fi
	con "r$clock" 30 "dmesg | grep -q 'crng reseeded due to virtual machine fork'" || die "the generation id is as it was"
	no_complaint "r$clock" '[Hh]ung task|[Uu]nstable'
	vm_quit "r$clock"
	rm -r "/tmp/snap.$clock"
done
# shellcheck disable=SC2154 # set by eval
[ "$up_realtime" -ge $AWAY ] || die "realtime: its time has gone on by $up_realtime s only"
pass "time goes on from where it stood ($up_continue s), or by the wall clock ($up_realtime s); no lock-up is seen"
pass "a restored guest knows that it is another"
