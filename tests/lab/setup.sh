#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fills build/lab/ with all that the lab needs: kernel, modules, QEMU, busybox, the
# initramfs images and the helper programs. Kernel, headers, QEMU and busybox come from Debian's packages,
# unpacked into the cache (fetch.sh) and never installed. A step runs again only when its input has changed. With
# ARCH=arm64 in the environment it is build/arm64/lab, for hosts of that architecture.
#
# usage: tests/lab/setup.sh            fill what is missing or out of date
#        tests/lab/setup.sh --update   ask the archive again (newer kernel, newer QEMU)
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=tests/lab/arch.sh
. "$here/arch.sh"
# shellcheck source=tests/lab/image.sh
. "$here/image.sh"
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac

# Modules of the lab's hosts and guests; what they depend on comes with them. Names that the kernel
# has built in are fine too.
modules="
	netfs 9pnet 9pnet_virtio 9p virtio_pci virtio_net virtio_blk virtio_console virtio_balloon
	virtio-rng virtio_scsi virtio_input virtiofs vmw_vsock_virtio_transport virtio_mem virtio_pmem
	kvm vfio vfio-pci vfio_iommu_type1 vhost_net vhost_vsock vsock_loopback
	e1000e igb igbvf nvme tun tap bridge veth macvtap dummy sch_netem sch_tbf pktgen
	8250_pci xhci_pci evdev i6300esb
	null_blk virtio_mmio crc32c_generic ext4 autofs4 overlay loop squashfs ptp_kvm $arch_modules"

# In the initramfs of L1: what it takes to reach the 9p root.
modules_l1="9pnet_virtio 9p virtio_pci"
# In the initramfs of L2: the guest's drivers, loaded when their devices are there.
modules_guest="e1000e igbvf virtio_pci virtio_net virtio_blk virtio_console virtio_balloon virtio_mem
	virtio-rng evdev 8250_pci xhci_pci i6300esb vmw_vsock_virtio_transport $arch_modules_guest"
# In the initramfs of the Debian guest, whose disk has none.
modules_debian="virtio_pci virtio_mmio virtio_blk virtio_net virtio_balloon virtio-rng crc32c_generic ext4 autofs4 evdev $arch_modules_debian"

say() { echo "lab-setup: $*"; }
die() {
	echo "lab-setup: $*" >&2
	exit 1
}

# step NAME OUTPUT INPUT...: runs do_NAME when OUTPUT is not there, or the inputs (files or plain words)
# differ from last time's.
step() {
	local name=$1 output=$2 stamp=$lab/stamp/$1 now
	shift 2
	now=$(for i; do if [ -f "$i" ]; then cksum <"$i"; else echo "$i"; fi; done | cksum)
	if [ -e "$output" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then return 0; fi
	rm -f "$stamp"
	say "$name"
	"do_$name"
	echo "$now" >"$stamp"
}

mkdir -p "$lab/stamp" "$lab/bin" "$lab/out"
exec 9>"$lab/.lock"
flock -n 9 || { say "another set-up is running: waiting for it" && flock 9; }

[ "$(uname -m)" = x86_64 ] || die "the lab is for x86-64"
"$root/scripts/packages.sh" lab
if [ -n "$arch_triplet" ]; then make -s -C "$root" ARCH="$ARCH" BUILD="$BUILD" sysroot; fi
"$here/fetch.sh" "$@"
pkg=$(realpath "$lab/pkg")
read -r kver _ <"$pkg/versions"
k=$pkg/kernel

do_kernel() {
	cp "$k/boot/vmlinuz-$kver" "$lab/vmlinuz"
	cp --remove-destination "$pkg/busybox/bin/busybox" "$lab/bin/busybox"
	if [ "$ARCH" = x86 ]; then
		vmlinux "$lab/vmlinuz" >"$lab/vmlinux.new"
		mv "$lab/vmlinux.new" "$lab/vmlinux"
	else
		# Packed, as the kernel's own build would.
		zstd -q -f -3 "$lab/vmlinuz" -o "$lab/vmlinuz.zst"
	fi
	# Applets for the scripts in L1, behind the machine's own programs on PATH.
	rm -rf "$lab/applets"
	mkdir -p "$lab/applets"
	local a
	for a in $($arch_run "$lab/bin/busybox" --list); do ln -s "$lab/bin/busybox" "$lab/applets/$a"; done
}

# vmlinux BZIMAGE: the ELF image within, which can be entered by PVH and needs no unpacking at boot.
# (Linux's boot protocol: setup_sects at 0x1f1, payload_offset at 0x248, payload_length at 0x24c.)
vmlinux() {
	local sects offset length start magic
	sects=$(od -An -tu1 -j 497 -N 1 "$1")
	offset=$(od -An -tu4 -j 584 -N 4 "$1")
	length=$(od -An -tu4 -j 588 -N 4 "$1")
	start=$(((sects + 1) * 512 + offset))
	magic=$(od -An -tx1 -j "$start" -N 4 "$1" | tr -d ' ')
	# The unpacked size follows the payload, as four bytes.
	dd if="$1" of="$lab/payload" iflag=skip_bytes,count_bytes skip="$start" count="$((length - 4))" bs=1M status=none
	case $magic in
	28b52ffd) zstd -q -dc "$lab/payload" ;;
	fd377a58) xz -dc "$lab/payload" ;;
	1f8b*) gzip -dc "$lab/payload" ;;
	*) die "the kernel is packed in a way unknown to us ($magic)" ;;
	esac
	rm -f "$lab/payload"
}

# A wrapper, so that QEMU finds the libraries and the data that were unpacked beside it.
do_qemu() {
	local q=$pkg/qemu/usr lib
	lib=$q/lib/x86_64-linux-gnu
	cat >"$lab/bin/$arch_qemu" <<END
#!/bin/sh
LD_LIBRARY_PATH=$lib:$lib/pulseaudio:$pkg/qemu/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
QEMU_MODULE_DIR=$lib/qemu
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec $q/bin/$arch_qemu -L $q/share/qemu -L $q/share/seabios -L $q/lib/ipxe/qemu "\$@"
END
	chmod +x "$lab/bin/$arch_qemu"
	"$lab/bin/$arch_qemu" --version >/dev/null || die "the unpacked QEMU does not run"
	# For programs of the hosts' architecture on this machine; static.
	if [ -n "$arch_run" ]; then cp --remove-destination "$q/bin/${arch_run##*/}" "$arch_run"; fi
}

# build_module FOLDER: what its Kbuild names.
build_module() {
	local h=$pkg/headers/usr/src/linux-headers-$kver
	if ! make -C "$h" ARCH="$ARCH" ${arch_triplet:+CROSS_COMPILE="$arch_triplet-"} M="$1" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$1/build.log" 2>&1; then
		tail -n 20 "$1/build.log" >&2
		die "a kernel module did not build: see $1/build.log"
	fi
}

do_mtty() {
	local b=$lab/mtty
	rm -rf "$b"
	mkdir -p "$b"
	cp "$lab/mtty-source/"* "$b/"
	echo 'obj-m := mtty.o' >"$b/Kbuild"
	# Debian's kernel for arm64 is built without mediated devices.
	if [ -z "$(find "$k/lib/modules" -name 'mdev.ko*')" ]; then
		printf 'obj-m += mdev.o\nmdev-y := mdev_core.o mdev_driver.o mdev_sysfs.o\n' >>"$b/Kbuild"
	fi
	build_module "$b"
}

# The project's own driver for the 82574L, by which that card's state moves.
do_kmod() {
	local b=$lab/kmod
	rm -rf "$b"
	mkdir -p "$b"
	cp "$here/kmod/"*.[ch] "$here/kmod/Kbuild" "$b/"
	build_module "$b"
}

# A small uncompressed tree of the modules that the lab uses; quick to load.
do_modules() {
	local from=$k/lib/modules/$kver to=$lab/modules/lib/modules/$kver f
	rm -rf "$lab/modules"
	mkdir -p "$to/kernel" "$to/extra"
	cp "$from/modules.builtin" "$from/modules.builtin.modinfo" "$from/modules.order" "$to/"
	# shellcheck disable=SC2086 # a list
	module_files "$from" $modules | while read -r f; do
		mkdir -p "$to/${f%/*}"
		case $f in
		*.xz) xz -dc "$from/$f" >"$to/${f%.xz}" ;;
		*) cp "$from/$f" "$to/$f" ;;
		esac
	done
	cp "$lab/mtty/"*.ko "$lab/kmod/godwit_e1000e_vfio_pci.ko" "$to/extra/"
	depmod -b "$lab/modules" "$kver"
}

do_l1() {
	# shellcheck disable=SC2086 # a list
	image "$lab/l1.cpio.gz" "$here/l1-init" "$modules_l1"
}

guest_programs="worker nettest ttytest powerbtn streamtest disktest vsocktest"

do_guest() {
	local p files=$here/guest/console.sh
	for p in $guest_programs; do files="$files $lab/guest/$p"; done
	# shellcheck disable=SC2086 # a list
	image "$lab/guest.cpio.gz" "$here/guest/init" "$modules_guest" $files
}

do_debian_initrd() {
	image "$lab/debian.cpio.gz" "$here/guest/debian-init" "$modules_debian"
}

# Programs of the guest are static; some of them serve in L1 too.
do_programs() {
	local p
	mkdir -p "$lab/guest"
	for p in $guest_programs; do
		$arch_cc -std=gnu11 -O2 -Wall -Wextra -Werror -static -pthread -s -o "$lab/guest/$p" "$here/guest/$p.c"
	done
	for p in con nic_state; do
		$arch_cc -std=gnu11 -O2 -Wall -Wextra -Werror -o "$lab/bin/$p" "$here/$p.c"
	done
	# Those that run on this machine.
	for p in hold $arch_clock_program; do
		gcc -std=gnu11 -O2 -Wall -Wextra -Werror -o "$lab/bin/$p" "$here/$p.c"
	done
	for p in nettest streamtest disktest vsocktest; do ln -f "$lab/guest/$p" "$lab/bin/$p"; done
}

step qemu "$lab/bin/$arch_qemu" "$pkg" "$pkg/qemu.list" 1
step kernel "$lab/vmlinuz" "$lab" "$pkg/versions" 1
step mtty "$lab/mtty/mtty.ko" "$pkg" "$pkg/versions" "$lab/mtty-source/"* 3
step kmod "$lab/kmod/godwit_e1000e_vfio_pci.ko" "$pkg" "$pkg/versions" "$here/kmod/"*
step modules "$lab/modules/lib/modules/$kver/modules.dep" "$modules" "$pkg/versions" "$lab/stamp/mtty" \
	"$lab/stamp/kmod" 1
step programs "$lab/bin/con" "$here/con.c" "$here/hold.c" "$here/tsc_khz.c" "$here/nic_state.c" "$here/nic_card.h" "$here/vfio_raw.h" "$here/guest/"*.[ch] \
	"$guest_programs"
step l1 "$lab/l1.cpio.gz" "$here/l1-init" "$here/image.sh" "$modules_l1" "$lab/stamp/modules"
step guest "$lab/guest.cpio.gz" "$here/guest/init" "$here/guest/console.sh" "$here/image.sh" "$modules_guest" \
	"$lab/stamp/modules" "$lab/stamp/programs"
step debian_initrd "$lab/debian.cpio.gz" "$here/guest/debian-init" "$here/image.sh" "$modules_debian" "$lab/stamp/modules"
