# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Initramfs images of the lab's hosts and guests.  . tests/lab/image.sh
# $lab, $arch_run and $kver are set.
#
#   module_files TREE NAME...   the files of the modules and of what they need, in loading order
#   image OUT INIT MODULES [PROGRAM...]   makes OUT of busybox, an init, modules, programs. /etc/modules has the modules'
#                               files in loading order; modprobe knows them too, by name and by alias

module_files() {
	local tree=$1
	shift
	awk -v names="$*" '
	function norm(s) { sub(/.*\//, "", s); sub(/\.ko.*/, "", s); gsub(/-/, "_", s); return s }
	FILENAME ~ /builtin$/ { builtin[norm($1)] = 1; next }
	{ f = $1; sub(/:$/, "", f); file[norm(f)] = f; deps[f] = ""; for (i = NF; i > 1; i--) deps[f] = deps[f] " " $i }
	END {
		n = split(names, want, /[ \t\n]+/)
		for (i = 1; i <= n; i++) {
			if (want[i] == "") continue
			w = norm(want[i])
			if (w in builtin) continue
			if (!(w in file)) { print "lab-setup: the kernel has no module " want[i] >"/dev/stderr"; bad = 1; continue }
			m = split(deps[file[w]], d, " ")
			for (j = 1; j <= m; j++) if (!seen[d[j]]++) print d[j]
			if (!seen[file[w]]++) print file[w]
		}
		exit bad
	}' "$tree/modules.builtin" "$tree/modules.dep"
}

image() {
	local out=$1 init=$2 mods=$3 t f
	local tree=$lab/modules/lib/modules/$kver to=/lib/modules/$kver
	shift 3
	t=$(mktemp -d "$lab/image.XXXXXX")
	mkdir -p "$t/bin" "$t/dev" "$t/proc" "$t/sys" "$t/tmp" "$t/run" "$t/mnt" "$t/etc" "$t/host" "$t$to"
	cp "$lab/bin/busybox" "$t/bin/busybox"
	for f in $($arch_run "$lab/bin/busybox" --list); do [ "$f" = busybox ] || ln -s busybox "$t/bin/$f"; done
	cp "$init" "$t/init"
	chmod +x "$t/init"
	# shellcheck disable=SC2086 # a list
	module_files "$tree" $mods | while read -r f; do
		cp "$tree/$f" "$t$to/"
		echo "$to/${f##*/}"
	done >"$t/etc/modules"
	cp "$tree/modules.builtin" "$tree/modules.builtin.modinfo" "$tree/modules.order" "$t$to/"
	depmod -b "$t" "$kver"
	rm "$t$to/"modules.*.bin "$t$to/modules.symbols"
	for f; do cp "$f" "$t/bin/"; done
	(cd "$t" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$out.new"
	rm -rf "$t"
	mv "$out.new" "$out"
}
