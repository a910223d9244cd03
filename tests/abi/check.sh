#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What programs that link libgodwit.so.0 rely on: its exported symbols, with their version, and
# the layout of include/godwit.h's structs, against the lists kept here.
#
# usage: tests/abi/check.sh [--update]      (after "make"; --update writes the lists)
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
HERE=tests/abi
OUT=$BUILD/tests/abi
export LC_ALL=C
mkdir -p "$OUT"

nm -D --defined-only --with-symbol-versions "$BUILD/libgodwit.so" |
	awk '$2 != "A" { print $3 }' | sort >"$OUT/symbols.txt"
"${CC:-gcc}" -std=gnu17 -Wall -Wextra -Werror -Iinclude -o "$OUT/layout" "$HERE/layout.c"
"$OUT/layout" >"$OUT/layout.txt"

# What the header offers is what there is: no more, no less.
"${CC:-gcc}" -E -P -Iinclude include/godwit.h | tr '\n' ' ' | tr ';' '\n' |
	grep 'visibility("default")' | grep -o '\bgw_[a-z0-9_]* *(' | tr -d ' (' | sort -u >"$OUT/header.txt"
sed 's/@.*//' "$OUT/symbols.txt" | sort -u >"$OUT/exported.txt"
if ! diff -u "$OUT/header.txt" "$OUT/exported.txt"; then
	echo "abi: include/godwit.h declares (-) what the library does not export (+), or the reverse" >&2
	exit 1
fi

soname=$(readelf -d "$BUILD/libgodwit.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libgodwit.so.0 ] || { echo "abi: the soname is $soname" >&2; exit 1; }

if [ "${1:-}" = --update ]; then
	cp "$OUT/symbols.txt" "$OUT/layout.txt" "$HERE/"
	echo "abi: lists written"
	exit 0
fi
bad=0
for list in symbols layout; do
	diff -u "$HERE/$list.txt" "$OUT/$list.txt" || bad=1
done
[ "$bad" -eq 0 ] && exit 0
cat >&2 <<END
abi: programs that were linked with the library as it was may see a difference (+: now).
If it is meant:
  - something new, nothing else changed: raise GW_VERSION_MINOR;
  - something gone, moved or of another size: raise the soname too (Makefile: libgodwit.so.N) and
    the version's name in src/libgodwit.map (GODWIT_N), unless no release had it;
then run tests/abi/check.sh --update and commit the lists.
END
exit 1
