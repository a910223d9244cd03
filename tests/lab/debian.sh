#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes an ext4 file system in the cache, to which build/lab/debian.img leads: a small Debian system of this machine's
# release with systemd, a login on the serial console (root, password "lab"), the network by
# systemd-networkd, and programs that load it. By debootstrap, from the archive that the machine's
# own apt sources name. It has no kernel: it is started with the lab's, and debian.cpio.gz.
# Made again only when its input has changed.
#
# usage: tests/lab/debian.sh
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
# shellcheck source=scripts/cache.sh
. "$root/scripts/cache.sh"
lab=${LAB:-$root/${BUILD:-build}/lab}
case $lab in /*) ;; *) lab=$PWD/$lab ;; esac

packages="systemd-sysv udev dbus iproute2 iputils-ping fio iperf3 stress-ng"
size=600M
programs=(worker nettest streamtest disktest)
# Units that have no work here, or that would load the guest at times of their own.
masked="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
	e2scrub_reap.service fstrim.timer getty@tty1.service systemd-networkd-wait-online.service
	proc-sys-fs-binfmt_misc.automount"

say() { echo "lab-debian: $*"; }
die() {
	echo "lab-debian: $*" >&2
	exit 1
}

# The first archive that apt has of this release's main.
# shellcheck disable=SC2016 # apt's variables
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v rel="$1" '$2 == rel && $3 == "main" { print $1; exit }'
}

# apt's proxy is debootstrap's too.
proxy() {
	local p=
	eval "$(apt-config shell p Acquire::http::Proxy)"
	[ -z "$p" ] || export http_proxy=$p
	p=
	eval "$(apt-config shell p Acquire::https::Proxy)"
	[ -z "$p" ] || export https_proxy=$p
}

# put FILE: from stdin, a file of the system's.
put() {
	mkdir -p "$(dirname "$tree/$1")"
	cat >"$tree/$1"
}

bootstrap() {
	local release from
	release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	from=$(mirror "$release")
	[ -n "$from" ] || die "apt has no source for '$release'"
	proxy
	mkdir -p "$GODWIT_CACHE/debs"
	debootstrap --variant=minbase --cache-dir="$GODWIT_CACHE/debs" --include="${packages// /,}" \
		"$release" "$tree" "$from" >"$lab/debian.log" 2>&1 || {
		tail -n 20 "$lab/debian.log" >&2
		die "debootstrap failed: see $lab/debian.log"
	}
}

configure() {
	local u
	put etc/hostname <<<lab-debian
	put etc/hosts <<<"127.0.0.1 localhost lab-debian"
	put etc/default/locale <<<LANG=C.UTF-8
	put etc/fstab <<<"/dev/vda / ext4 rw,errors=remount-ro 0 0"
	put etc/systemd/network/lab.network <<-'END'
	[Match]
	Type=ether

	[Network]
	Address=10.79.0.2/24
	LinkLocalAddressing=no
	IPv6AcceptRA=no
	END
	# The journal in memory: the disk has enough to do, and nobody reads it later.
	put etc/systemd/journald.conf.d/lab.conf <<-'END'
	[Journal]
	Storage=volatile
	RuntimeMaxUse=8M
	END
	put root/.profile <<-'END'
	export TERM=dumb SYSTEMD_PAGER=
	[ "$(tty)" != /dev/ttyS0 ] || . /usr/local/lib/lab-console
	END
	cp "$here/guest/console.sh" "$tree/usr/local/lib/lab-console"
	for u in "${programs[@]}"; do cp "$lab/guest/$u" "$tree/usr/local/bin/"; done
	for u in $masked; do ln -sf /dev/null "$tree/etc/systemd/system/$u"; done
	chroot "$tree" systemctl -q enable systemd-networkd.service
	chroot "$tree" chpasswd <<<root:lab
	chroot "$tree" systemd-machine-id-setup >/dev/null 2>&1
}

# What a guest without an archive to go to has no use for.
slim() {
	rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb
	rm -rf "$tree"/usr/share/{doc,man,locale,info,lintian} "$tree"/var/cache/debconf/*-old
	rm -rf "$tree"/var/log/{bootstrap.log,dpkg.log,apt} "$tree"/etc/resolv.conf
}

make_image() {
	[ "$(id -u)" = 0 ] || die "debootstrap needs root"
	tree=$1/tree
	say "debootstrap"
	bootstrap
	configure
	slim
	mkfs.ext4 -q -F -L lab-debian -E root_owner=0:0 -d "$tree" "$1/debian.img" "$size" >"$lab/debian.log"
	e2fsck -f -n "$1/debian.img" >"$lab/debian.fsck" 2>&1 || die "see $lab/debian.fsck"
	say "$(du -sm "$tree" | cut -f1) MiB of files"
	rm -rf "$tree"
}

BUILD=${BUILD:-build} LAB=$lab "$here/setup.sh"
"$root/scripts/packages.sh" debian
key=$(cache_key "$here/debian.sh" "$here/guest/console.sh" "${programs[@]/#/$lab/guest/}")
cache_get lab-debian "$key" make_image
ln -sf "$cache_path/debian.img" "$lab/debian.img"
