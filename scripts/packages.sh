#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs, with apt, the Debian packages that a part of the project needs. What is there already
# costs nothing: then neither the network nor root is used.
#
# usage: scripts/packages.sh [build|cross|fast|check|lab|kernel|debian|lint|model|all]...        (default: build)
set -eu

build="gcc libc6-dev make pkg-config libcjson-dev libxxhash-dev liburing-dev zlib1g-dev libgnutls28-dev libedit-dev acpica-tools libcriterion-dev"
# The lab itself (kernel, QEMU, busybox) is unpacked into the cache by tests/lab/fetch.sh; these
# are the tools for that. libelf1 is for the kernel's objtool.
lab="gcc libc6-dev make kmod cpio xz-utils zstd libelf1 iproute2 socat"
# What it takes to build the lab's second kernel.
kernel="gcc libc6-dev make bc bison flex libelf-dev libssl-dev lz4 kmod cpio xz-utils"
debian="debootstrap e2fsprogs"
# What the tests of the control socket are driven with, beside clients that are unpacked into the cache.
clients="socat openssl perl python3"
# Building for arm64 on another machine; what is built against is unpacked by scripts/sysroot.sh.
cross="gcc-aarch64-linux-gnu make pkg-config device-tree-compiler"
# What building on arm64 takes beside; on another machine scripts/sysroot.sh has it.
arm64="g++ libfdt-dev liblzma-dev libzstd-dev liblz4-dev device-tree-compiler"
# What "make check-fast" takes beside: compilers' output is kept, format is checked.
fast="ccache clang-format"
lint="clang clang-format clang-tidy cppcheck"
model="gcc libc6-dev spin"
[ "$(uname -m)" != aarch64 ] || build="$build $arm64"

die() {
	echo "packages.sh: $*" >&2
	exit 1
}

wanted=
[ $# -gt 0 ] || set -- build
for part; do
	case $part in
	build) wanted="$wanted $build" ;;
	lab) wanted="$wanted $lab" ;;
	kernel) wanted="$wanted $kernel" ;;
	cross) wanted="$wanted $cross" ;;
	debian) wanted="$wanted $debian" ;;
	lint) wanted="$wanted $build $lint" ;;
	check) wanted="$wanted $build $lab $kernel $debian $clients $cross $fast clang libclang-rt-14-dev g++" ;;
	fast) wanted="$wanted $fast" ;;
	model) wanted="$wanted $model" ;;
	all) wanted="$wanted $build $lab $kernel $debian $lint" ;;
	*) die "unknown part '$part'; the parts are build, cross, fast, check, lab, kernel, debian, lint, model, all" ;;
	esac
done

command -v dpkg-query >/dev/null 2>&1 || die "no dpkg here: install by hand:$wanted"

# shellcheck disable=SC2086 # a list
installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status}\n' $wanted 2>/dev/null | sed -n 's/:installed$//p' | tr '\n' ' ')"
missing=
for p in $wanted; do
	case "$installed$missing " in *" $p "*) ;; *) missing="$missing $p" ;; esac
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || die "missing:$missing; run as root: apt-get install$missing"
command -v apt-get >/dev/null 2>&1 || die "no apt-get here: install by hand:$missing"

export DEBIAN_FRONTEND=noninteractive
echo "packages.sh: installing$missing"
install() {
	# shellcheck disable=SC2086 # a list of names
	apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $missing </dev/null
}
# The lists may be old, or not there at all: fetch them only when they turn out not to do.
if ! install >/dev/null 2>&1; then
	apt-get -qq update || die "apt-get update failed"
	install || die "apt-get could not install:$missing"
fi
