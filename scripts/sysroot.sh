#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes FOLDER a link to another architecture's headers and libraries in the cache, to build against with a
# cross compiler, and the programs that a lab host of that architecture runs on. All from Debian's packages, which
# are unpacked and not installed: the machine's own package database knows nothing of it.
#
# usage: scripts/sysroot.sh ARCH FOLDER        ARCH: arm64
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd -P)
arch=$1 folder=$2
# shellcheck source=scripts/cache.sh
. "$here/cache.sh"

# What is built against.
build="libc6-dev libgcc-12-dev libcjson-dev libxxhash-dev liburing-dev libgnutls28-dev libedit-dev
	libcriterion-dev libfdt-dev zlib1g-dev liblzma-dev libzstd-dev liblz4-dev"
# What scripts in a lab host call, beside busybox.
lab="base-files dash bash coreutils grep sed mawk findutils diffutils util-linux hostname procps
	iproute2 iputils-ping kmod socat tar gzip device-tree-compiler"

fetch() {
	apt_dir=$1.apt apt_arch=$arch
	# shellcheck source=tests/lab/apt.sh
	. "$here/../tests/lab/apt.sh"
	echo "sysroot: fetching packages of $arch"
	apt_setup
	# shellcheck disable=SC2086 # lists
	apt_unpack_all "$1" $build $lab
	rm -rf "$apt_dir"
	touch "$1/complete"
	echo "sysroot: $(du -sm "$1" | cut -f1) MB in $cache_path"
}

"$here/packages.sh" cross
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
cache_get "sysroot-$arch" "$(cache_key "$release" "$here/sysroot.sh" "$here/../tests/lab/apt.sh")" fetch
cache_link "$folder"
