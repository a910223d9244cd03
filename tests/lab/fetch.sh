#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fetches what the lab is made from into the cache, out of Debian's packages: kernel, its headers, modules and
# source, mtty's source, QEMU, busybox. build/lab/pkg, source and mtty-source then lead there. The archive is asked
# only for what the cache lacks. With ARCH=arm64 in the environment for hosts of that architecture.
#
# usage: tests/lab/fetch.sh [--update]    --update asks the archive again (newer kernel, newer QEMU)
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=tests/lab/arch.sh
. "$here/arch.sh"
# shellcheck source=scripts/cache.sh
. "$root/scripts/cache.sh"

say() { echo "lab-fetch: $*"; }
die() {
	echo "lab-fetch: $*" >&2
	exit 1
}

# The kernel with its headers and what runs on it, for the lab's hosts; QEMU for this machine.
fetch() {
	local to=$1 image headers kbuild common version p
	apt_dir=$to/apt apt_arch=$arch_deb
	# shellcheck source=tests/lab/apt.sh
	. "$here/apt.sh"
	apt_setup || die "cannot read the package lists"

	image=$(depends "linux-image-$arch_deb" "^linux-image-.*-$arch_deb\$")
	headers=$(depends "linux-headers-$arch_deb" "^linux-headers-.*-$arch_deb\$")
	common=$(depends "$headers" '^linux-headers-.*-common$')
	kbuild=$(depends "$headers" '^linux-kbuild-')
	kver=${image#linux-image-}
	[ "$kver" = "${headers#linux-headers-}" ] ||
		die "the archive has $image but $headers: between two updates; try again later"
	version=$(apt_candidate "$image")
	say "kernel $kver ($version)"
	apt_unpack "$to/kernel" "$image=$version"
	depmod -b "$to/kernel" "$kver"
	apt_unpack "$to/headers" "$headers" "$common"
	apt_unpack "$to/busybox" busybox-static

	# What runs on this machine.
	apt_arch=
	[ "$arch_deb" = "$(dpkg --print-architecture)" ] || apt_setup || die "cannot read the package lists"
	apt_unpack "$to/headers" "$kbuild"
	# The headers name each other by absolute path.
	sed -i "s,^include .*/usr/src/,include $cache_path/headers/usr/src/," \
		"$to/headers/usr/src/linux-headers-$kver/Makefile"
	fetch_qemu "$to"
	rm -rf "$apt_dir"
	echo "$kver $version" >"$to/versions"
}

# QEMU and those of its libraries that the machine lacks.
fetch_qemu() {
	local to=$1 p
	# shellcheck disable=SC2086 # a list
	apt-get -qq -s install --no-install-recommends $arch_qemu_packages >"$to/qemu.plan" ||
		die "cannot resolve what QEMU depends on"
	sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*/\1=\3/p' "$to/qemu.plan" >"$to/qemu.list"
	for p in $arch_qemu_packages qemu-system-common qemu-system-data seabios ipxe-qemu; do
		# Installed on the machine already? QEMU finds its data beside itself, so unpack all.
		grep -q "^$p=" "$to/qemu.list" || echo "$p=$(apt_candidate "$p")" >>"$to/qemu.list"
	done
	# shellcheck disable=SC2046 # a list
	apt_unpack "$to/qemu" $(cat "$to/qemu.list")
}

# The kernel's source, as Debian packs it: of the kernel's own version, or else what backports have now.
fetch_source() {
	local to=$1 source=linux-source-$series
	apt_dir=$to/apt apt_arch=
	# shellcheck source=tests/lab/apt.sh
	. "$here/apt.sh"
	apt_setup || die "cannot read the package lists"
	if apt-cache madison "$source" | awk -v v="$version" '$3 == v { f = 1 } END { exit !f }'; then
		source=$source=$version
	else
		say "no $source of version $version: taking $(apt_candidate "$source")"
	fi
	apt_unpack "$to/package" "$source"
	mv "$to/package/usr/src/linux-source-$series.tar.xz" "$to/linux.tar.xz"
	rm -rf "$to/package" "$apt_dir"
}

# mtty's source and that of what it needs.
extract_mtty() {
	tar -xJf "$lab/source/linux.tar.xz" -C "$1" --transform 's,.*/,,' \
		"linux-source-$series/samples/vfio-mdev/mtty.c" \
		"linux-source-$series/drivers/vfio/mdev/mdev_"{core.c,driver.c,sysfs.c,private.h}
}

# depends PKG REGEX: the one dependency of PKG in backports that matches.
depends() {
	apt-cache depends --no-recommends --no-suggests "$1" |
		awk -v re="$2" '$1 == "Depends:" && $2 ~ re { if (!n++) print $2 }' | grep . ||
		die "$1 depends on nothing like $2"
}

release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
key=$(cache_key "$release" "$arch_deb" "$arch_qemu_packages" "$here/apt.sh" "$here/fetch.sh")
if [ "${1:-}" = --update ]; then cache_drop "lab-packages-$ARCH" "$key"; fi
cache_get "lab-packages-$ARCH" "$key" fetch
cache_link "$lab/pkg"
read -r kver version <"$lab/pkg/versions"
series=$(echo "$kver" | sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p')
key=$(cache_key "$version" "$here/apt.sh" "$here/fetch.sh")
cache_get linux-source "$key" fetch_source
cache_link "$lab/source"
cache_get mtty-source "$key" extract_mtty
cache_link "$lab/mtty-source"
