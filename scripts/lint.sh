#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Format, static checks, floors, licence lines. Ends in "lint: ok" or says what is wrong.
#
# usage: scripts/lint.sh [--quick]     --quick: without cppcheck, clang-tidy and shellcheck
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
bad=0

fail() {
	echo "lint: $*" >&2
	bad=1
}

quick=
[ "${1:-}" != --quick ] || quick=1

if [ -n "$quick" ]; then
	scripts/packages.sh fast >/dev/null || exit 1
else
	scripts/packages.sh build lint >/dev/null || exit 1
fi
mapfile -t c < <(git ls-files 'src/*.c' 'include/*.h' 'src/*.h' 'tests/unit/*.[ch]' 'tests/kvm/*.[ch]' 'tests/*.h' 'tests/manner/*.[ch]' 'tests/runner/*.c' 'tests/fuzz/*.c' 'tests/abi/*.c' 'examples/*.c')
mapfile -t src < <(git ls-files 'src/*.c' ':!src/vmm/arm64')
mapfile -t arm64 < <(git ls-files 'src/vmm/arm64/*.c')
mapfile -t sh < <(git ls-files | grep -E '\.sh$|^\.ci/run$|^tests/lab/(lab|l1-init)$')

echo "lint: format"
clang-format --dry-run -Werror "${c[@]}" || fail "format: run clang-format -i"

echo "lint: licence"
while read -r f; do
	case $f in *.md | *.json | *.txt | *.config | LICENSE | .gitignore) continue ;; esac
	head -n 3 "$f" | grep -q SPDX-License-Identifier || fail "$f: no SPDX line"
done < <(git ls-files)

echo "lint: floors"
scripts/floors.sh || bad=1

echo "lint: names that do not belong"
hosts='(deb|security|cdn|snapshot)\.debian\.org|registry\.npmjs'
git grep -nE "$hosts" -- ':!scripts/lint.sh' && fail "a registry host is named"
git grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -- src include && fail "unfinished"

finish() {
	[ "$bad" -eq 0 ] && echo "lint: ok"
	exit "$bad"
}
[ -z "$quick" ] || finish

# memleak and uninitvar: as in .clang-tidy. internalAstError: it does not parse a cast in an
# initialiser.
echo "lint: cppcheck"
cppcheck --quiet --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	--suppress=missingIncludeSystem --suppress=memleak --suppress=uninitvar \
	--suppress=internalAstError --std=c11 -D__x86_64__ -D_GNU_SOURCE -Iinclude -Isrc \
	-j2 src || fail "cppcheck"

echo "lint: clang-tidy"
make -s "$BUILD/gen/acpi/dsdt.h" "$BUILD/gen/acpi/fadt.h" "$BUILD/gen/acpi/madt.h" "$BUILD/gen/acpi/mcfg.h"
# tidy FLAGS FILE...: what clang-tidy finds, with these flags for the compiler.
tidy() {
	printf '%s\n' "${@:2}" | more=$1 xargs -P2 -n4 sh -c 'clang-tidy --quiet "$@" -- -std=gnu17 -D_GNU_SOURCE -Iinclude -Isrc $more 2>/dev/null' sh
}
{
	tidy "-Ibuild/gen -I/usr/include/cjson" "${src[@]}"
	# Where there are no headers of the other architecture, its files are left out.
	[ ! -d "$BUILD/arm64/sysroot" ] ||
		tidy "--target=aarch64-linux-gnu --sysroot=$BUILD/arm64/sysroot" "${arm64[@]}"
} | grep -E 'warning:|error:' | sort -u | tee "$BUILD/tidy.log"
[ ! -s "$BUILD/tidy.log" ] || fail "clang-tidy"

echo "lint: shell"
if command -v shellcheck >/dev/null; then
	shellcheck -x -S warning -e SC2154,SC2187 "${sh[@]}" || fail "shellcheck"
fi

finish
