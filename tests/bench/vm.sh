#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 600
# memory: 3072
# disk: debian.img
#
# godwit beside QEMU -M microvm, in turn, in a lab host: time to the guest's first instruction and to its
# init, memory beyond guest RAM, disk (null_blk, so that the VMM is what is measured) and network of a Debian guest. Started by
# tests/bench/bench.sh. Lines: "BENCH what; unit; godwit's median; QEMU's median".
#
# usage: vm.sh [ROUNDS [SECONDS]]        (3 rounds; 3 s for each measurement of disk and network)
set -eu
# shellcheck source=tests/lab/debian-vm.sh
. "$ROOT/tests/lab/debian-vm.sh"

ROUNDS=${1:-3}
TIME=${2:-3}
RESULTS=/tmp/results
mkdir -p "$RESULTS"
cp "$ROOT/build/bench/first" /tmp/bin/
cp "$ROOT/build/tests/guests/first.elf" /tmp/
load null_blk loop || die "no null_blk"
con=$VMS/a/con log=$VMS/a/con.log
qemu=(qemu-system-x86_64 -M "microvm,isa-serial=on,acpi=on,rtc=on" -accel kvm -cpu host -m "$MEMORY" -smp 1
	-nodefaults -no-user-config -display none -no-reboot -kernel /tmp/vmlinuz)
arguments="console=ttyS0 quiet panic=-1 mitigations=off"

# result VMM WHAT NUMBER
result() { echo "$3" >>"$RESULTS/$2.$1"; }
median() { sort -g "$RESULTS/$2.$1" | sed -n "$(((ROUNDS + 1) / 2))p"; }

# ---- to the guest's init: an init that only says so

config() { # CMDLINE INITRD
	cat <<-END
	{"memory": "$MEMORY", "serial": {"stdio": true},
	 "boot": {"kernel": "/tmp/vmlinuz", "initrd": "$2", "cmdline": "$1"}}
	END
}
init_time() { # godwit|qemu
	rm -f /tmp/init.ctl
	local line="$arguments rdinit=/bin/echo -- INIT REACHED"
	config "$line" /tmp/guest.cpio.gz >/tmp/init.json
	case $1 in
	godwit) first 60 "INIT REACHED" /tmp/bin/godwit run -q /tmp/init.json --control /tmp/init.ctl ;;
	qemu) first 60 "INIT REACHED" /bin/sh "$LAB/bin/qemu-system-x86_64" "${qemu[@]:1}" -serial stdio \
		-initrd /tmp/guest.cpio.gz -append "$line" ;;
	esac
}

first_time() { # godwit|qemu: to a guest that does nothing but say so
	echo "{\"memory\": \"$MEMORY\", \"serial\": {\"stdio\": true}, \"boot\": {\"kernel\": \"/tmp/first.elf\"}}" >/tmp/first.json
	rm -f /tmp/init.ctl
	case $1 in
	godwit) first 60 F /tmp/bin/godwit run -q /tmp/first.json --control /tmp/init.ctl ;;
	qemu) first 60 F /bin/sh "$LAB/bin/qemu-system-x86_64" -M microvm,isa-serial=on -accel kvm -cpu host \
		-m "$MEMORY" -nodefaults -no-user-config -display none -serial stdio -kernel /tmp/first.elf ;;
	esac
}

# ---- a Debian guest

start_godwit() {
	sed -i 's,{"id": "rng0",{"id": "disk1"\, "type": "virtio-blk"\, "file": "/dev/nullb0"\, "direct": true}\,\n&,' \
		"$VMS/a/config.json"
	vm_start a
}
start_qemu() {
	local vhost=off
	[ ! -c /dev/vhost-net ] || vhost=on
	"${qemu[@]}" -initrd /tmp/debian.cpio.gz -append "$arguments loglevel=5 root=/dev/vda" \
		-object "memory-backend-memfd,id=ram,size=$MEMORY,share=on" -machine memory-backend=ram \
		-drive file=/dev/vda,if=none,id=d0,format=raw,cache=none \
		-device virtio-blk-device,drive=d0,serial=disk0 \
		-drive file=/dev/nullb0,if=none,id=d1,format=raw,cache=none,aio=io_uring \
		-device virtio-blk-device,drive=d1,serial=disk1 \
		-netdev "tap,id=n,ifname=tap-a,script=no,downscript=no,vhost=$vhost" \
		-device virtio-net-device,netdev=n \
		-chardev "socket,id=c,path=$con,server=on,wait=off,logfile=$log" -serial chardev:c \
		>"$VMS/a/log" 2>&1 &
	echo $! >"$VMS/a/pid"
}

# Resident memory that is the VMM's own: all mappings but guest RAM, in KiB.
own_memory() {
	awk '/^[0-9a-f]+-[0-9a-f]+ / { ram = /\/memfd:/ } /^Pss:/ && !ram { n += $2 } END { print n }' \
		"/proc/$(cat "$VMS/a/pid")/smaps"
}

# fio_run VMM WHAT FIELD OPTION...: FIELD of fio's terse line, 7 is KiB/s and 8 IOPS of reading.
fio_run() {
	local vmm=$1 what=$2 field=$3
	shift 3
	con a $((TIME + 60)) "fio --name=b --filename=$null --direct=1 --ioengine=libaio --time_based \
--runtime=$TIME --output-format=terse --terse-version=3 $*" >/tmp/fio
	result "$vmm" "$what" "$(grep '^3;' /tmp/fio | cut -d';' -f"$field")"
}

# iperf VMM WHAT OPTION...: Mbit/s
iperf() {
	local vmm=$1 what=$2
	shift 2
	con a $((TIME + 60)) "iperf3 -c $HOST_ADDR -t $TIME -f m $*" >/tmp/iperf || die "$(cat /tmp/iperf)"
	result "$vmm" "$what" "$(sed -n 's/.* \([0-9.]*\) Mbits.*receiver.*/\1/p' /tmp/iperf)"
}

debian_guest() { # godwit|qemu
	rm -rf "$VMS/a"
	ip link del tap-a 2>/dev/null || :
	debian_config a
	"start_$1"
	debian_login a
	null=$(con a 20 'for d in /sys/block/vd?; do [ $(cat $d/size) -lt 100000000 ] || echo /dev/${d##*/}; done')
	[ -b "$null" ] || [ -n "$null" ] || die "the guest has no null_blk"
	for _ in $(seq "$ROUNDS"); do
		fio_run "$1" iops 8 --rw=randread --bs=4k --iodepth=32
		fio_run "$1" disk 7 --rw=read --bs=256k --iodepth=8
		iperf "$1" out
		iperf "$1" in -R
		result "$1" pss "$(own_memory)"
	done
	kill -9 "$(cat "$VMS/a/pid")"
	vm_gone a 2>/dev/null || :
}

# The other end of iperf3 is the guest's own program, from the image as it was made.
serve_iperf() {
	mkdir -p /tmp/image
	mount -o ro,noload,loop "$LAB/debian.img" /tmp/image
	mount --bind /dev /tmp/image/dev
	mount -t tmpfs tmp /tmp/image/tmp
	chroot /tmp/image iperf3 -s -D
}

report() { # WHAT UNIT TEXT
	echo "BENCH $3; $2; $(median godwit "$1"); $(median qemu "$1")"
}

# Once for the host's page cache, uncounted.
init_time godwit >/dev/null
init_time qemu >/dev/null
for _ in $(seq "$ROUNDS"); do
	result godwit first "$(first_time godwit)"
	result qemu first "$(first_time qemu)"
	result godwit init "$(init_time godwit)"
	result qemu init "$(init_time qemu)"
done
report first ms "exec to the guest's first instruction"
report init ms "exec to the guest's init"
serve_iperf
debian_guest godwit
debian_guest qemu
report pss KiB "memory beyond guest RAM (PSS)"
report iops "1/s" "virtio-blk, 4 KiB at random, queue of 32"
report disk "KiB/s" "virtio-blk, 256 KiB in a row, queue of 8"
report out "Mbit/s" "virtio-net, from the guest"
report in "Mbit/s" "virtio-net, to the guest"
