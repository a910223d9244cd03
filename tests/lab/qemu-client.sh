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
lab=${LAB:-$root/${BUILD:-build}/lab}
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac
out=$lab/qemu-client

none() {
	echo "$*" >"$lab/qemu-client.why"
	echo "lab-qemu-client: $*"
	exit 0
}

mkdir -p "$lab"
exec 9>"$lab/.lock.qemu-client"
flock 9
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$(cksum <"$0")" ]; then exit 0; fi
rm -rf "$out" "$lab/qemu-client.why"

apt_dir=$lab/apt-qemu-client
apt_release=trixie
# shellcheck source=tests/lab/apt.sh
. "$here/apt.sh"
apt_setup || none "the package lists of $apt_release cannot be read"
version=$(apt_candidate qemu-system-x86) || none "$apt_release has no qemu-system-x86"
apt_unpack_all "$out" qemu-system-x86 || none "qemu-system-x86 $version cannot be fetched"
# What a system needs beside it is not needed here.
rm -rf "${out:?}/etc" "${out:?}/var" "${out:?}/usr/share/doc" "${out:?}/usr/share/locale"

cat >"$out/qemu" <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd -P)
exec "$here/usr/lib64/ld-linux-x86-64.so.2" --library-path "$here/usr/lib/x86_64-linux-gnu" \
	"$here/usr/bin/qemu-system-x86_64" -L "$here/usr/share/qemu" -L "$here/usr/share/seabios" "$@"
END
chmod +x "$out/qemu"
unset APT_CONFIG
"$out/qemu" -device help | grep -q '"vfio-user-pci"' || none "QEMU $version has no vfio-user-pci"
cksum <"$0" >"$out/stamp"
echo "lab-qemu-client: QEMU $version"
