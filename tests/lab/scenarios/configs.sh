#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 240
#
# Every example of configs/ boots as it stands, and the quick flags make a machine.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS configs $*"; }

mkdir -p /tmp/there
cd /tmp/there
ln -s /tmp/vmlinuz vmlinuz
ln -s /tmp/guest.cpio.gz initrd
truncate -s 16M disk.img
load tun
ip tuntap add tap0 mode tap vnet_hdr
ip link set tap0 up
godwit device-server ballast --socket user.sock >"$LAB_OUT/user.log" 2>&1 &
wait_for 10 test -S user.sock || die "no device server: $(cat "$LAB_OUT/user.log")"

# run FILE ARGS...: the console goes to a socket, so that it can be asked.
run() {
	_f=$1
	shift
	mkdir -p "$VMS/x"
	rm -f "$VMS/x/con.log"
	godwit run "$@" --set serial.stdio=false --set "serial.socket=$VMS/x/con" \
		--set "serial.log=$VMS/x/con.log" --control "$VMS/x/ctl" >"$VMS/x/log" 2>&1 &
	echo $! >"$VMS/x/pid"
	# Most of them are not quiet, and the kernel's log takes twice as long as all the rest.
	vm_up x 80
	con x 10 true
	cp "$VMS/x/log" "$LAB_OUT/$_f.log"
	vm_quit x
}

for file in "$ROOT"/configs/*.json; do
	name=$(basename "$file" .json)
	[ "$name" != schema ] || continue
	godwit config --check "$file" --host || die "$name"
	run "$name" "$file"
	pass "$name.json boots"
done

run flags --kernel vmlinuz --initrd initrd --cmdline console=ttyS0 --memory 256M --cpus 1 \
	--disk disk.img --net tap0 --vfio "$NIC"
pass "a machine from flags alone"
