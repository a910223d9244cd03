# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The cache that all clones of the project on a machine share: what is downloaded, and what takes long to
# make from it.  . scripts/cache.sh
#
#   GODWIT_CACHE                 its folder; by default godwit below XDG_CACHE_HOME, which is ~/.cache
#   cache_key INPUT...           prints a key of the inputs: files (their contents) and plain words
#   cache_get NAME KEY COMMAND...  sets $cache_path to the entry NAME-KEY. Where there is none, COMMAND...
#                                makes it: it fills the folder that is its last argument. Other clones that
#                                want the entry meanwhile wait. An entry is complete or not there.
#   cache_path NAME KEY          sets $cache_path alone: the folder in which the entry is, or will be
#   cache_drop NAME KEY          the entry is made again when it is wanted next
#   cache_link FOLDER            makes FOLDER a symbolic link to $cache_path
#
# COMMAND has the entry's final folder in $cache_path, for what has to hold absolute paths; entries of the
# same name that were not wanted for 14 days are removed when a new one is made. The caller runs with
# `set -e`, which a failing COMMAND ends; so cache_get is not called in a condition, where that has no effect.
GODWIT_CACHE=${GODWIT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/godwit}
mkdir -p "$GODWIT_CACHE"
GODWIT_CACHE=$(cd "$GODWIT_CACHE" && pwd -P)

cache_key() {
	local input
	for input; do
		if [ -f "$input" ]; then cat "$input"; else echo "$input"; fi
	done | sha256sum | cut -c1-16
}

cache_path() { cache_path=$GODWIT_CACHE/$1-$2; }

cache_get() {
	local name=$1 key=$2 lock
	shift 2
	# shellcheck disable=SC2155 # the status is not wanted
	local careless=$(set -e; false; echo careless)
	if [ -n "$careless" ]; then
		echo "cache: $name is to be made where failures are not noticed" >&2
		exit 1
	fi
	cache_path "$name" "$key"
	mkdir -p "$GODWIT_CACHE/locks"
	exec {lock}>"$GODWIT_CACHE/locks/$name"
	if ! flock -n "$lock"; then
		echo "cache: another process makes $name: waiting for it"
		flock "$lock"
	fi
	if [ ! -d "$cache_path" ]; then
		rm -rf "$cache_path.new"
		mkdir "$cache_path.new"
		"$@" "$cache_path.new"
		mv "$cache_path.new" "$cache_path"
		find "$GODWIT_CACHE" -maxdepth 1 -name "$name-????????????????" -mtime +14 -exec rm -rf {} +
	fi
	touch "$cache_path"
	exec {lock}>&-
}

cache_drop() {
	cache_path "$1" "$2"
	rm -rf "$cache_path"
}

cache_link() {
	[ ! -d "$1" ] || [ -L "$1" ] || rm -rf "$1"
	mkdir -p "$(dirname "$1")"
	ln -sfn "$cache_path" "$1"
}
