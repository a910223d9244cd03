#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arch: none
# hosts: 1
# seconds: 300
# long-arm64: neoverse-n1 1 300
# qemu: -machine gic-version=2
#
# A host whose interrupt controller is a GICv2: its guest has one too, devices interrupt by their
# pins, which they may share, and it is reset, saved, restored and moved with what it has pending.
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
