#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: none
# hosts: 1
# seconds: 300
# long-arm64: neoverse-n1 1 360
# qemu: -machine gic-version=2
#
# A host whose interrupt controller is a GICv2: its guest has one too, devices interrupt by their
# pins, which they may share, also behind root ports, and it is reset, saved, restored and moved with
# what it has pending.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS gicv2-arm64 $*"; }
MEMORY=256M
CPUS=2
DISK=/tmp/disk.img
truncate -s 16M "$DISK"

disk() { echo "{\"id\":\"disk0\",\"type\":\"virtio-blk\",\"file\":\"$DISK\"}"; }
_times() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge "$1" ]; }
# alive VM: disk and memory go on, and no interrupt of the disk is lost.
alive() {
	con "$1" 60 disktest status >/tmp/disk || die "$(cat /tmp/disk)"
	verify "$1"
}

CPUS=9
vm_config many "$(disk)"
expect_fail "cpus: 9, and this host's KVM takes 8" godwit run "$VMS/many/config.json"
CPUS=2
pass "more vCPUs than it serves are refused"

vm_config a "$(disk)"
tree_holds a
vm_start a
vm_up a
[ "$(con a 10 'grep -c ^processor /proc/cpuinfo')" = 2 ] || die "not two CPUs"
con a 10 'cat /proc/interrupts' >/tmp/interrupts
grep -q 'GIC-0.*virtio' /tmp/interrupts || die "no GICv2, or no pin: $(cat /tmp/interrupts)"
if grep -q MSI /tmp/interrupts; then die "MSIs: $(cat /tmp/interrupts)"; fi
pass "two vCPUs, and a disk that interrupts by its pin"

ctl a system_reset >/dev/null
wait_for 90 _times 2 || die "the guest did not come up after system_reset"
con a 60 disktest start /dev/vda 16 512
con a 30 worker start 32 8
alive a
pass "system_reset"

# Paused, as the disk is not saved with it.
ctl a stop >/dev/null
ctl a snapshot-save directory=/tmp/one --timeout 60 >/dev/null
vm_kill a
vm_restore b /tmp/one
vm_is b paused
ctl b cont >/dev/null
alive b
con b 30 "dmesg | grep -q 'crng reseeded due to virtual machine fork'" || die "the generation id is as it was"
pass "saved and restored while disk and memory are written"

vm_incoming c unix:/tmp/mig
ctl b migrate-set-parameters downtime-limit=500 >/dev/null
ctl b migrate uri=unix:/tmp/mig >/dev/null
ctl b wait-migration --timeout 120 >/tmp/migration || die "$(cat /tmp/migration)"
vm_is c running
vm_quit b
alive c
con c 90 disktest finish >/tmp/disk || die "$(cat /tmp/disk)"
no_complaint c 'I/O error|timed out'
pass "moved live, likewise; every block of the disk is right"
ctl c system_powerdown >/dev/null
vm_gone c
pass "the power button"

# Slots 5 and 13 have one pin. Of many reads at once some end while the guest deals with the pin: it is
# to be raised again when it is through.
truncate -s 64M "$DISK"
vm_config s "tty0=$MTTY@5" "{\"id\":\"disk0\",\"type\":\"virtio-blk\",\"file\":\"$DISK\",\"slot\":13}"
vm_start s
vm_up s
con s 30 ttytest talk 1 0.5
con s 10 ': >/tmp/read'
for i in 0 1 2 3 4 5 6 7; do
	con s 10 -s "{ dd if=/dev/vda of=/dev/null bs=4k skip=$((i * 2000)) count=2000 iflag=direct && echo >>/tmp/read; } 2>/dev/null &"
done
_all_read() { con s 10 '[ "$(wc -l </tmp/read)" = 8 ]'; }
wait_for 120 _all_read || die "reads hang: $(con s 10 'cat /sys/block/vda/stat; grep virtio /proc/interrupts')"
con s 30 ttytest talk 1 0.5
pass "a disk and a passthrough card share a pin"
vm_quit s

# ---- behind root ports: all devices in their slots share a pin ----
truncate -s 16M /tmp/own.img /tmp/user.img
serve user virtio-blk --disk /tmp/user.img
vm_config d
vm_start d
vm_up d
_has() { con d 20 "test -b /dev/$1"; }
ctl d device_add id=own type=virtio-blk file=/tmp/own.img port=1 >/dev/null
wait_for 40 _has vda || die "no disk behind port 1: $(con d 20 'lspci; cat /proc/interrupts')"
ctl d device_add id=user type=vfio-user-pci socket=/tmp/user.sock port=2 "timeout=$(patience 20000)" >/dev/null
wait_for 40 _has vdb || die "no disk behind port 2: $(con d 20 'lspci; cat /proc/interrupts')"
con d 10 'cat /proc/interrupts' >/tmp/interrupts
grep -q 'GIC-0.*pciehp' /tmp/interrupts || die "no pin of the ports: $(cat /tmp/interrupts)"
grep -q 'GIC-0.* virtio0, virtio1' /tmp/interrupts || die "they do not share: $(cat /tmp/interrupts)"
pass "disks come behind root ports, one of them of another process"

# Whatever the one acknowledges, what the other has raised stays: after each read of the one the other is
# written to without a further interrupt of the first.
con d 60 disktest start /dev/vda 16 8192
cat >/tmp/probe <<-'END'
	written() { awk '{ print $5 }' /sys/block/vda/stat; };
	goes_on() { w=$(written); for i in $(seq TRIES); do [ $(written) -lt $((w + 3)) ] || return 0; sleep 0.2; done; return 1; };
	for n in $(seq 30); do
	dd if=/dev/vdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && goes_on || { echo "after $n"; exit 1; };
	done
END
con d 120 "( $(sed "s/TRIES/$(patience 100)/" /tmp/probe | tr '\n' ' ') )" >/tmp/probed ||
	die "the disk stands still $(cat /tmp/probed): $(con d 20 'cat /proc/interrupts /sys/block/vda/inflight')"
con d 90 disktest finish >/tmp/disk || die "$(cat /tmp/disk)"
log "$(con d 10 'grep virtio /proc/interrupts'); $(cat /tmp/disk)"
pass "devices that share a pin lose no interrupt of each other"

for id in own user; do
	expect_event d DEVICE_DELETED
	ctl d device_del id=$id >/dev/null
	event_came d DEVICE_DELETED
done
con d 20 '! ls /sys/block | grep vd' || die "a disk is still there"
no_complaint d 'I/O error|timed out|nobody cared'
pass "and go"
vm_quit d
unserve user
