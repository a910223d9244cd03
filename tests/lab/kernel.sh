#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the lab's second kernel for its hosts, from Debian's kernel source and kernel.config, into the cache:
# it has IOMMUFD. Some ten minutes on two cores; done again only when source or configuration changed.
#
# usage: tests/lab/kernel.sh      fills build/lab/iommufd/; LAB_JOBS says how many compilers run at a time
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=scripts/cache.sh
. "$root/scripts/cache.sh"
# shellcheck source=tests/lab/arch.sh
. "$here/arch.sh"
# shellcheck source=tests/lab/image.sh
. "$here/image.sh"
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac
out=$lab/iommufd

say() { echo "lab-kernel: $*"; }
die() {
	echo "lab-kernel: $*" >&2
	exit 1
}

build_kernel() {
	local to=$1 source build log release option
	build=$to/build log=$lab/kernel.log
	mkdir -p "$build"
	tar -xJf "$lab/source/linux.tar.xz" -C "$to"
	source=$(echo "$to"/linux-source-*)
	say "building it; this takes some ten minutes"
	kmake() { make -s -C "$source" O="$build" "$@" </dev/null; }
	{
		kmake tinyconfig &&
			"$source/scripts/kconfig/merge_config.sh" -m -O "$build" "$build/.config" "$here/kernel.config" &&
			kmake olddefconfig &&
			kmake -j"${LAB_JOBS:-$(nproc)}" bzImage modules
	} >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "it did not build: see $log"; }
	for option in IOMMUFD VFIO_DEVICE_CDEV KVM_AMD E1000E SAMPLE_VFIO_MDEV_MTTY IOMMUFD_TEST; do
		grep -q "^CONFIG_$option=y" "$build/.config" || die "CONFIG_$option is not in this kernel"
	done
	release=$(cat "$build/include/config/kernel.release")
	mkdir -p "$to/modules/lib/modules/$release"
	cp "$build/arch/x86/boot/bzImage" "$to/vmlinuz"
	cp "$build/modules.builtin" "$build/modules.builtin.modinfo" "$build/modules.order" \
		"$to/modules/lib/modules/$release/"
	depmod -b "$to/modules" "$release"
	rm -rf "$source" "$build"
	say "Linux $release is in $cache_path"
}

[ -f "$lab/source/linux.tar.xz" ] || die "run tests/lab/setup.sh first"
exec 9>"$lab/.lock.kernel"
flock 9
"$root/scripts/packages.sh" kernel
read -r kver _ <"$lab/pkg/versions"
source_entry=$(basename "$(realpath "$lab/source")")
cache_get lab-kernel "$(cache_key "$source_entry" "$here/kernel.config" "$here/kernel.sh")" build_kernel
rm -rf "$out"
mkdir -p "$out"
cp -r "$cache_path/vmlinuz" "$cache_path/modules" "$out/"
# With the init of all hosts; nothing has to be loaded.
image "$out/l1.cpio.gz" "$here/l1-init" ""
: >"$out/stamp"
