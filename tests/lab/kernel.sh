#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the lab's second kernel for its hosts, from Debian's kernel source and kernel.config: it has
# IOMMUFD. Some ten minutes on two cores; done again only when source or configuration changed. The
# source itself is not kept.
#
# usage: tests/lab/kernel.sh      fills build/lab/iommufd/
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
lab=${LAB:-$root/${BUILD:-build}/lab}
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac
out=$lab/iommufd

say() { echo "lab-kernel: $*"; }
die() {
	echo "lab-kernel: $*" >&2
	exit 1
}

[ -f "$lab/kver" ] || die "run tests/lab/setup.sh first"
kver=$(cat "$lab/kver")
series=$(echo "$kver" | sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p')
mkdir -p "$lab"
exec 9>"$lab/.lock.kernel"
flock -n 9 || { say "another build is running: waiting for it" && flock 9; }

inputs=$(cat "$here/kernel.config" "$here/kernel.sh" "$lab/kver" | cksum)
if [ -e "$out/vmlinuz" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$inputs" ]; then exit 0; fi
rm -f "$out/stamp"

"$root/scripts/packages.sh" kernel

say "fetching the source of Linux $series"
apt_dir=$lab/apt-kernel
# shellcheck source=tests/lab/apt.sh
. "$here/apt.sh"
apt_setup || die "cannot read the package lists"
rm -rf "$lab/kernel-source" "$lab/kernel-build"
apt_unpack "$lab/kernel-source" "linux-source-$series"
unset APT_CONFIG
tar -xJf "$lab/kernel-source/usr/src/linux-source-$series.tar.xz" -C "$lab/kernel-source"
source=$lab/kernel-source/linux-source-$series
build=$lab/kernel-build
mkdir -p "$build"

say "building it; this takes some ten minutes"
kmake() { make -s -C "$source" O="$build" "$@" </dev/null; }
log=$lab/kernel.log
{
	kmake tinyconfig &&
		"$source/scripts/kconfig/merge_config.sh" -m -O "$build" "$build/.config" "$here/kernel.config" &&
		kmake olddefconfig &&
		kmake -j"$(nproc)" bzImage modules
} >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "it did not build: see $log"; }
for option in IOMMUFD VFIO_DEVICE_CDEV KVM_AMD E1000E SAMPLE_VFIO_MDEV_MTTY IOMMUFD_TEST; do
	grep -q "^CONFIG_$option=y" "$build/.config" || die "CONFIG_$option is not in this kernel"
done

release=$(cat "$build/include/config/kernel.release")
rm -rf "$out"
mkdir -p "$out/modules/lib/modules/$release"
cp "$build/arch/x86/boot/bzImage" "$out/vmlinuz"
cp "$build/modules.builtin" "$build/modules.builtin.modinfo" "$build/modules.order" \
	"$out/modules/lib/modules/$release/"
depmod -b "$out/modules" "$release"

# An initramfs with the init of all hosts; nothing has to be loaded.
t=$(mktemp -d "$lab/image.XXXXXX")
mkdir -p "$t/bin" "$t/dev" "$t/proc" "$t/sys" "$t/tmp" "$t/run" "$t/etc" "$t/host"
cp "$lab/bin/busybox" "$t/bin/busybox"
for f in $("$lab/bin/busybox" --list); do [ "$f" = busybox ] || ln -s busybox "$t/bin/$f"; done
install -m 755 "$here/l1-init" "$t/init"
: >"$t/etc/modules"
(cd "$t" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$out/l1.cpio.gz"
rm -rf "$t" "$lab/kernel-source" "$build" "$apt_dir"
echo "$inputs" >"$out/stamp"
say "Linux $release is in $out"
