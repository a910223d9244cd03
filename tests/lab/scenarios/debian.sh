#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 300
# disk: debian.img
#
# A Debian system on virtio-blk and virtio-net: systemd to a login on the serial console, the network
# by tap, a clean end.
set -eu
. "$ROOT/tests/lab/debian-vm.sh"

pass() { echo "PASS debian $*"; }

debian_config a
vm_start a
debian_login a
log "logged in; $(grep -a 'GUEST READY' "$VMS/a/con.log" | tr -d '\r') s"
pass "boots to a login on the serial console, which takes the password"

state=$(con a 90 systemctl is-system-running --wait) || {
	con a 20 systemctl --failed >&2 || :
	die "the system is $state"
}
[ "$state" = running ] || die "the system is $state"
log "$(con a 20 systemd-analyze | head -n 1)"
pass "systemd has all units running"

wait_for 20 ping -c1 -W1 -q "$GUEST_ADDR" >/dev/null || die "the guest does not answer"
nettest serve "$HOST_ADDR" 5001 1 >/tmp/served 2>&1 &
peer=$!
con a 120 nettest "$HOST_ADDR" 5001 16
wait "$peer"
pass "ping, and 16 MiB each way by TCP, every word as it should be"

con a 60 disktest start /root/data 16 4096
_worked() { [ "$(con a 20 disktest status | sed -n 's/.* reads=\([0-9]*\).*/\1/p')" -ge 1500 ]; }
wait_for 60 _worked || die "the disk is slow: $(con a 20 disktest status)"
con a 90 disktest finish >/tmp/disk || die "$(cat /tmp/disk)"
log "$(cat /tmp/disk)"
fio='fio --name=v --filename=/root/fio --size=8M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --minimal'
con a 60 "$fio" >/tmp/fio || die "fio: status $?: $(cat /tmp/fio)"
pass "the disk gives back what was written, also to fio's verification"

debian_clean a
pass "neither console nor kernel log have a complaint"

debian_off a
pass "the power button ends systemd, the machine and godwit with status 0; fsck finds nothing"

mkdir -p /tmp/disk0
mount -o ro /dev/vda /tmp/disk0
[ "$(disktest digest /tmp/disk0/root/data)" = "$(grep -o 'digest=[0-9a-f]*' /tmp/disk)" ] ||
	die "the file is another one"
umount /tmp/disk0
pass "the host finds on the disk what the guest wrote"
