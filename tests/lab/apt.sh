#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# apt with state, cache and sources of its own: the machine's Debian sources plus the backports of
# the same release, whose archive and keyring are taken from them. The machine's own apt is not
# touched, and nothing is installed: packages are downloaded and unpacked.
#
# Sourced with $apt_dir set to the folder that holds it all, and $apt_arch to Debian's name of the
# architecture whose packages are wanted, where that is not the machine's own. Calls:
#   apt_setup            writes configuration and sources, fetches the lists
#   apt_candidate PKG    the version that backports has of PKG
#   apt_unpack DIR PKG[=VERSION]...   downloads and unpacks into DIR
#   apt_unpack_all DIR PKG...         with all that they depend on
# After apt_setup (or apt_names) $apt_suite is the backports' suite. With $apt_release set all is of
# that release of Debian instead of the machine's own.

apt_names() {
	apt_machine=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	apt_codename=${apt_release:-$apt_machine}
	[ -n "$apt_machine" ] || { echo "lab: /etc/os-release names no release" >&2; return 1; }
	apt_suite=$apt_codename-backports
	APT_CONFIG=$apt_dir/apt.conf
	export APT_CONFIG
}

# One-line format: keep what is of this release; the first line with the release itself also gives
# the line for backports.
apt_list() {
	awk -v rel="$apt_codename" '
	$1 == "deb" {
		i = 2
		if ($2 ~ /^\[/) while (i < NF && $i !~ /\]$/) i++
		if ($2 ~ /^\[/) i++
		suite = $(i + 1)
		sub(/\/.*/, "", suite)
		if (suite != rel && index(suite, rel "-") != 1) next
		if (suite == rel "-backports") next
		print
		if (suite == rel && !done++) {
			head = $1
			for (j = 2; j <= i; j++) head = head " " $j
			print head, rel "-backports main"
		}
	}'
}

# The deb822 format: the same by stanza.
apt_stanzas() {
	awk -v rel="$apt_codename" '
	BEGIN { RS = ""; FS = "\n" }
	{
		deb = on = 1; suites = ""; keep = ""; n = 0
		for (i = 1; i <= NF; i++) {
			if ($i ~ /^#/) continue
			line = tolower($i)
			if (line ~ /^types:/) { deb = line ~ /[ :]deb( |$)/; continue }
			if (line ~ /^enabled:/) { on = line !~ /(no|false|off|0)[ ]*$/; continue }
			if (line ~ /^suites:/) { suites = $i; sub(/^[^:]*:/, "", suites); continue }
			keep = keep $i "\n"
		}
		if (!deb || !on) next
		mine = ""; base = 0
		n = split(suites, s, /[ \t]+/)
		for (i = 1; i <= n; i++) {
			if (s[i] == "" || s[i] == rel "-backports") continue
			if (s[i] == rel) base = 1
			if (s[i] == rel || index(s[i], rel "-") == 1) mine = mine " " s[i]
		}
		if (mine == "") next
		if (base && !done++) mine = mine " " rel "-backports"
		printf "Types: deb\nSuites:%s\n%s\n", mine, keep
	}'
}

# A file of the machine's, as it would be for $apt_codename.
apt_as() { sed "s/$apt_machine/$apt_codename/g" "$1"; }

apt_sources() {
	rm -rf "$apt_dir/sources.list.d"
	mkdir -p "$apt_dir/sources.list.d"
	: >"$apt_dir/sources.list"
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -f "$f" ] || apt_as "$f" | apt_list >>"$apt_dir/sources.list"
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$f" ] || apt_as "$f" | apt_stanzas >"$apt_dir/sources.list.d/${f##*/}"
	done
	find "$apt_dir/sources.list.d" -empty -type f -delete
	if ! grep -qrs -e "$apt_suite" "$apt_dir/sources.list" "$apt_dir/sources.list.d"; then
		echo "lab: no source for $apt_codename in /etc/apt, so none for $apt_suite" >&2
		return 1
	fi
}

apt_setup() {
	apt_names || return 1
	mkdir -p "$apt_dir/state/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/download"
	apt_sources || return 1
	# The rest of the machine's configuration (proxies and the like) stays in force.
	cat >"$APT_CONFIG" <<END
APT::Architecture "${apt_arch:-$(dpkg --print-architecture)}";
APT::Architectures { "${apt_arch:-$(dpkg --print-architecture)}"; };
Dir::Etc::sourcelist "$apt_dir/sources.list";
Dir::Etc::sourceparts "$apt_dir/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt_dir/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$apt_dir/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Default-Release "$apt_suite";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
END
	apt-get -qq -o APT::Update::Error-Mode=any update
}

apt_candidate() {
	apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2; found = 1 } END { exit !found }' ||
		{ echo "lab: the archive has no package $1" >&2; return 1; }
}

apt_unpack() {
	apt_to=$1
	shift
	rm -rf "$apt_dir/download/now"
	mkdir -p "$apt_dir/download/now" "$apt_to"
	(cd "$apt_dir/download/now" && apt-get -qq download "$@")
	for deb in "$apt_dir/download/now"/*.deb; do
		dpkg-deb -x "$deb" "$apt_to"
	done
	rm -rf "$apt_dir/download/now"
}

# As if nothing were installed: what comes runs with its own libraries, whatever the machine has.
apt_unpack_all() {
	apt_to=$1
	shift
	rm -f "$apt_dir/cache/archives"/*.deb
	apt-get -qq -o Dir::State::status=/dev/null --no-install-recommends --assume-yes \
		--download-only install "$@" || return 1
	mkdir -p "$apt_to"
	for deb in "$apt_dir/cache/archives"/*.deb; do
		dpkg-deb -x "$deb" "$apt_to" || return 1
	done
	rm -f "$apt_dir/cache/archives"/*.deb
}
