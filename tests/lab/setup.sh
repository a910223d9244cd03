#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fills build/lab/ with all that the lab needs: kernel, modules, QEMU, busybox, the
# initramfs images and the helper programs. Kernel, headers, QEMU and busybox come from Debian's packages,
# unpacked and never installed. A step runs again only when its input has changed. With ARCH=arm64 in the
# environment it is build/arm64/lab, for hosts of that architecture.
#
# usage: tests/lab/setup.sh            fill what is missing or out of date
#        tests/lab/setup.sh --update   ask the archive again (newer kernel, newer QEMU)
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=tests/lab/arch.sh
. "$here/arch.sh"
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
# In the initramfs of L2: the guest's drivers, loaded at boot so that hotplug finds them.
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

do_fetch() {
	apt_dir=$lab/apt apt_arch=$arch_deb
	# shellcheck source=tests/lab/apt.sh
	. "$here/apt.sh"
	apt_setup || die "cannot read the package lists"

	local image headers kbuild common version series p
	image=$(depends "linux-image-$arch_deb" "^linux-image-.*-$arch_deb\$")
	headers=$(depends "linux-headers-$arch_deb" "^linux-headers-.*-$arch_deb\$")
	common=$(depends "$headers" '^linux-headers-.*-common$')
	kbuild=$(depends "$headers" '^linux-kbuild-')
	kver=${image#linux-image-}
	[ "$kver" = "${headers#linux-headers-}" ] ||
		die "the archive has $image but $headers: between two updates; try again later"
	series=$(echo "$kver" | sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p')
	version=$(apt_candidate "$image")
	say "kernel $kver ($version)"
	rm -rf "$lab/pkg"
	apt_unpack "$lab/pkg/kernel" "$image=$version"
	apt_unpack "$lab/pkg/headers" "$headers" "$common"
	apt_unpack "$lab/pkg/busybox" busybox-static

	# What runs on this machine.
	apt_arch=
	[ "$arch_deb" = "$(dpkg --print-architecture)" ] || apt_setup || die "cannot read the package lists"
	apt_unpack "$lab/pkg/headers" "$kbuild"
	fetch_mtty "$series" "$version"

	# QEMU and those of its libraries that the machine lacks.
	# shellcheck disable=SC2086 # a list
	apt-get -qq -s install --no-install-recommends $arch_qemu_packages >"$lab/pkg/qemu.plan" ||
		die "cannot resolve what QEMU depends on"
	sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*/\1=\3/p' \
		"$lab/pkg/qemu.plan" >"$lab/pkg/qemu.list"
	for p in $arch_qemu_packages qemu-system-common qemu-system-data seabios ipxe-qemu; do
		# Installed on the machine already? QEMU finds its data beside itself, so unpack all.
		grep -q "^$p=" "$lab/pkg/qemu.list" || echo "$p=$(apt_candidate "$p")" >>"$lab/pkg/qemu.list"
	done
	# shellcheck disable=SC2046 # a list
	apt_unpack "$lab/pkg/qemu" $(cat "$lab/pkg/qemu.list")
	rm -rf "$lab/apt"
	echo "$kver $version" >"$lab/pkg/versions"
	echo "$kver" >"$lab/kver"
}

# fetch_mtty SERIES VERSION: mtty's source and that of what it needs, out of the kernel's, which is large: from the
# lab of this machine's own architecture where that has the same.
fetch_mtty() {
	local series=$1 version=$2 source=linux-source-$1 own=$root/${BUILD%"/$ARCH"}/lab/pkg
	local sources=(mtty.c mdev_core.c mdev_driver.c mdev_sysfs.c mdev_private.h)
	mkdir -p "$lab/pkg/mtty"
	if [ "$own" != "$lab/pkg" ] && [ "$(cut -s -d ' ' -f 2 "$own/versions" 2>/dev/null)" = "$version" ] &&
		cp "${sources[@]/#/$own/mtty/}" "$lab/pkg/mtty/"; then
		return
	fi
	# The kernel's own version, or else what backports have now.
	if apt-cache madison "$source" | awk -v v="$version" '$3 == v { f = 1 } END { exit !f }'; then
		source=$source=$version
	else
		say "no $source of version $version: taking $(apt_candidate "$source")"
	fi
	apt_unpack "$lab/pkg/source" "$source"
	tar -xJf "$lab/pkg/source/usr/src/linux-source-$series.tar.xz" -C "$lab/pkg/mtty" --transform 's,.*/,,' \
		"linux-source-$series/samples/vfio-mdev/mtty.c" \
		"linux-source-$series/drivers/vfio/mdev/mdev_"{core.c,driver.c,sysfs.c,private.h}
	rm -rf "$lab/pkg/source"
}

# depends PKG REGEX: the one dependency of PKG in backports that matches.
depends() {
	apt-cache depends --no-recommends --no-suggests "$1" |
		awk -v re="$2" '$1 == "Depends:" && $2 ~ re { if (!n++) print $2 }' | grep . ||
		die "$1 depends on nothing like $2"
}

mkdir -p "$lab/stamp" "$lab/bin" "$lab/out"
exec 9>"$lab/.lock"
flock -n 9 || { say "another set-up is running: waiting for it" && flock 9; }

[ "$(uname -m)" = x86_64 ] || die "the lab is for x86-64"
if [ "${1:-}" = --update ]; then rm -f "$lab/stamp/fetch"; fi
"$root/scripts/packages.sh" lab
if [ -n "$arch_triplet" ]; then make -s -C "$root" ARCH="$ARCH" BUILD="$BUILD" sysroot; fi
step fetch "$lab/kver" "$here/apt.sh" 2

kver=$(cat "$lab/kver")
k=$lab/pkg/kernel

do_kernel() {
	ln -f "$k/boot/vmlinuz-$kver" "$lab/vmlinuz" 2>/dev/null || cp "$k/boot/vmlinuz-$kver" "$lab/vmlinuz"
	ln -f "$lab/pkg/busybox/bin/busybox" "$lab/bin/busybox" 2>/dev/null ||
		cp "$lab/pkg/busybox/bin/busybox" "$lab/bin/busybox"
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
	local q=$lab/pkg/qemu/usr lib
	lib=$q/lib/x86_64-linux-gnu
	# Not written in place: a copy of build/lab may share it by a hard link.
	rm -f "$lab/bin/$arch_qemu"
	cat >"$lab/bin/$arch_qemu" <<END
#!/bin/sh
LD_LIBRARY_PATH=$lib:$lib/pulseaudio:$lab/pkg/qemu/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
QEMU_MODULE_DIR=$lib/qemu
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec $q/bin/$arch_qemu -L $q/share/qemu -L $q/share/seabios -L $q/lib/ipxe/qemu "\$@"
END
	chmod +x "$lab/bin/$arch_qemu"
	"$lab/bin/$arch_qemu" --version >/dev/null || die "the unpacked QEMU does not run"
	# For programs of the hosts' architecture on this machine; static.
	if [ -n "$arch_run" ]; then ln -f "$q/bin/${arch_run##*/}" "$arch_run"; fi
}

# build_module FOLDER: what its Kbuild names. The headers name each other by absolute path: point them
# at where they were unpacked.
build_module() {
	local src=$lab/pkg/headers/usr/src
	local h=$src/linux-headers-$kver
	sed -i "s,^include .*/usr/src/,include $src/," "$h/Makefile"
	if ! make -C "$h" ARCH="$ARCH" ${arch_triplet:+CROSS_COMPILE="$arch_triplet-"} M="$1" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$1/build.log" 2>&1; then
		tail -n 20 "$1/build.log" >&2
		die "a kernel module did not build: see $1/build.log"
	fi
}

do_mtty() {
	local b=$lab/pkg/mtty
	rm -f "$b/Makefile"
	echo 'obj-m := mtty.o' >"$b/Kbuild"
	# Debian's kernel for arm64 is built without mediated devices.
	if [ -z "$(find "$k/lib/modules" -name 'mdev.ko*')" ]; then
		printf 'obj-m += mdev.o\nmdev-y := mdev_core.o mdev_driver.o mdev_sysfs.o\n' >>"$b/Kbuild"
	fi
	build_module "$b"
}

# The project's own driver for the 82574L, by which that card's state moves.
do_kmod() {
	local b=$lab/pkg/kmod
	rm -rf "$b"
	mkdir -p "$b"
	cp "$here/kmod/"*.[ch] "$here/kmod/Kbuild" "$b/"
	build_module "$b"
}

# A small uncompressed tree of the modules that the lab uses; quick to load.
do_modules() {
	local from=$k/lib/modules/$kver to=$lab/modules/lib/modules/$kver f
	[ -f "$from/modules.dep" ] || depmod -b "$k" "$kver"
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
	cp "$lab/pkg/mtty/"*.ko "$lab/pkg/kmod/godwit_e1000e_vfio_pci.ko" "$to/extra/"
	depmod -b "$lab/modules" "$kver"
}

# module_files TREE NAME...: the files of the modules and of what they need, in loading order.
module_files() {
	local tree=$1
	shift
	awk -v names="$*" '
	function norm(s) { sub(/.*\//, "", s); sub(/\.ko.*/, "", s); gsub(/-/, "_", s); return s }
	FILENAME ~ /builtin$/ { builtin[norm($1)] = 1; next }
	{ f = $1; sub(/:$/, "", f); file[norm(f)] = f; deps[f] = ""; for (i = NF; i > 1; i--) deps[f] = deps[f] " " $i }
	END {
		n = split(names, want, /[ \t\n]+/)
		for (i = 1; i <= n; i++) {
			if (want[i] == "") continue
			w = norm(want[i])
			if (w in builtin) continue
			if (!(w in file)) { print "lab-setup: the kernel has no module " want[i] >"/dev/stderr"; bad = 1; continue }
			m = split(deps[file[w]], d, " ")
			for (j = 1; j <= m; j++) if (!seen[d[j]]++) print d[j]
			if (!seen[file[w]]++) print file[w]
		}
		exit bad
	}' "$tree/modules.builtin" "$tree/modules.dep"
}

# image OUT INIT MODULES [PROGRAM...]: an initramfs of busybox, an init, modules, programs.
image() {
	local out=$1 init=$2 mods=$3 t f
	local tree=$lab/modules/lib/modules/$kver
	shift 3
	t=$(mktemp -d "$lab/image.XXXXXX")
	mkdir -p "$t/bin" "$t/dev" "$t/proc" "$t/sys" "$t/tmp" "$t/run" "$t/mnt" "$t/etc" "$t/host" "$t/modules"
	cp "$lab/bin/busybox" "$t/bin/busybox"
	for f in $($arch_run "$lab/bin/busybox" --list); do [ "$f" = busybox ] || ln -s busybox "$t/bin/$f"; done
	cp "$init" "$t/init"
	chmod +x "$t/init"
	# shellcheck disable=SC2086 # a list
	module_files "$tree" $mods | while read -r f; do
		cp "$tree/$f" "$t/modules/"
		echo "/modules/${f##*/}"
	done >"$t/etc/modules"
	for f; do cp "$f" "$t/bin/"; done
	(cd "$t" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$out.new"
	rm -rf "$t"
	mv "$out.new" "$out"
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

step qemu "$lab/bin/$arch_qemu" "$lab" "$lab/pkg/qemu.list" 1
step kernel "$lab/vmlinuz" "$lab" "$lab/pkg/versions" 1
step mtty "$lab/pkg/mtty/mtty.ko" "$lab" "$lab/pkg/versions" 3
step kmod "$lab/pkg/kmod/godwit_e1000e_vfio_pci.ko" "$lab" "$lab/pkg/versions" "$here/kmod/"*
step modules "$lab/modules/lib/modules/$kver/modules.dep" "$modules" "$lab/pkg/versions" "$lab/stamp/mtty" \
	"$lab/stamp/kmod" 1
step programs "$lab/bin/con" "$here/con.c" "$here/hold.c" "$here/tsc_khz.c" "$here/nic_state.c" "$here/nic_card.h" "$here/vfio_raw.h" "$here/guest/"*.[ch] \
	"$guest_programs"
step l1 "$lab/l1.cpio.gz" "$here/l1-init" "$modules_l1" "$lab/stamp/modules" 1
step guest "$lab/guest.cpio.gz" "$here/guest/init" "$here/guest/console.sh" "$modules_guest" \
	"$lab/stamp/modules" "$lab/stamp/programs" 1
step debian_initrd "$lab/debian.cpio.gz" "$here/guest/debian-init" "$modules_debian" "$lab/stamp/modules"
