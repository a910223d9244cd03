#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Fills a folder with another architecture's headers and libraries, to build against with a cross
# compiler, and with the programs that a lab host of that architecture runs on. All from Debian's packages, which are
# unpacked and not installed: the machine's own package database knows nothing of it.
#
# usage: scripts/sysroot.sh ARCH FOLDER        ARCH: arm64
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
arch=$1 to=$2

# What is built against.
build="libc6-dev libgcc-12-dev libcjson-dev libxxhash-dev liburing-dev libgnutls28-dev libedit-dev
	libcriterion-dev libfdt-dev zlib1g-dev liblzma-dev libzstd-dev liblz4-dev"
# What scripts in a lab host call, beside busybox.
lab="base-files dash bash coreutils grep sed mawk findutils diffutils util-linux hostname procps
	iproute2 iputils-ping kmod socat tar gzip device-tree-compiler"

"$here/packages.sh" cross
apt_dir=$to.apt
apt_arch=$arch
# shellcheck source=tests/lab/apt.sh
. "$here/../tests/lab/apt.sh"
echo "sysroot: fetching packages of $arch"
apt_setup
rm -rf "$to"
# shellcheck disable=SC2086 # lists
apt_unpack_all "$to" $build $lab
rm -rf "$apt_dir"
echo "sysroot: $(du -sm "$to" | cut -f1) MB in $to"
