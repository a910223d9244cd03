#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fetches a QEMU that has a client for vfio-user, from the backports of the Debian release after the
# lab's own, with all libraries that it runs on. It is unpacked beside the system, never installed.
#
# usage: tests/lab/qemu-client.sh      fills build/lab/qemu-client/; where the archive has none,
#                                      says why and leaves that in build/lab/qemu-client.why
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=scripts/cache.sh
. "$root/scripts/cache.sh"
lab=${LAB:-$root/${BUILD:-build}/lab}
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac

none() {
	echo "$*" >"$lab/qemu-client.why"
	echo "lab-qemu-client: $*"
	exit 0
}

fetch() {
	local to=$1 version
	apt_dir=$to.apt apt_arch=
	apt_release=trixie
	# shellcheck source=tests/lab/apt.sh
	. "$here/apt.sh"
	apt_setup || none "the package lists of $apt_release cannot be read"
	version=$(apt_candidate qemu-system-x86) || none "$apt_release has no qemu-system-x86"
	apt_unpack_all "$to" qemu-system-x86 || none "qemu-system-x86 $version cannot be fetched"
	rm -rf "$apt_dir"
	unset APT_CONFIG
	# What a system needs beside it is not needed here.
	rm -rf "${to:?}/etc" "${to:?}/var" "${to:?}/usr/share/doc" "${to:?}/usr/share/locale"
	cat >"$to/qemu" <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd -P)
exec "$here/usr/lib64/ld-linux-x86-64.so.2" --library-path "$here/usr/lib/x86_64-linux-gnu" \
	"$here/usr/bin/qemu-system-x86_64" -L "$here/usr/share/qemu" -L "$here/usr/share/seabios" "$@"
END
	chmod +x "$to/qemu"
	"$to/qemu" -device help | grep -q '"vfio-user-pci"' || none "QEMU $version has no vfio-user-pci"
	echo "lab-qemu-client: QEMU $version"
}

mkdir -p "$lab"
rm -f "$lab/qemu-client.why"
cache_get qemu-client "$(cache_key "$here/qemu-client.sh" "$here/apt.sh")" fetch
cache_link "$lab/qemu-client"
