#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: machines
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

# run FILE CMDLINE ARGS...: the console goes to a socket, so that it can be asked. The kernel's log, which is most of the
# time, is not printed.
run() {
	_f=$1 _cmdline=$2
	shift 2
	mkdir -p "$VMS/x"
	rm -f "$VMS/x/con.log"
	godwit run "$@" --set serial.stdio=false --set "serial.socket=$VMS/x/con" \
		--set "serial.log=$VMS/x/con.log" --set "boot.cmdline=$_cmdline $QUICK" \
		--control "$VMS/x/ctl" >"$VMS/x/log" 2>&1 &
	echo $! >"$VMS/x/pid"
	vm_up x
	con x 10 true
	cp "$VMS/x/log" "$LAB_OUT/$_f.log"
	vm_quit x
}

for file in "$ROOT"/configs/*.json; do
	name=$(basename "$file" .json)
	[ "$name" != schema ] || continue
	godwit config --check "$file" --host || die "$name"
	cmdline=$(sed -n 's/.*"cmdline": "\([^"]*\)".*/\1/p' "$file")
	[ -n "$cmdline" ] || die "$name has no command line"
	run "$name" "$cmdline" "$file"
	pass "$name.json boots"
done

run flags console=ttyS0 --kernel vmlinuz --initrd initrd --cmdline console=ttyS0 --memory 256M --cpus 1 \
	--disk disk.img --net tap0 --vfio "$NIC"
pass "a machine from flags alone"
