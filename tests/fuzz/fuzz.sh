#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# fuzz.sh SECONDS: libFuzzer with ASan and UBSan on everything that reads bytes from outside, the
# time shared among the targets. What it finds stays in build/fuzz/NAME/. LIBS: what the library is linked with, from make.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
total=${1:-60}
scripts/packages.sh build lint
make -s -j2 BUILD="$BUILD/fuzz/lib" CC=clang CFLAGS="-O1 -g" \
	SANITIZE="-fsanitize=fuzzer-no-link,address,undefined" "$BUILD/fuzz/lib/libgodwit.a"
set -- tests/fuzz/fuzz_*.c
each=$((total / $#))
[ "$each" -ge 1 ] || each=1
for source; do
	name=$(basename "$source" .c)
	work=$BUILD/fuzz/$name
	mkdir -p "$work/corpus"
	# shellcheck disable=SC2046,SC2086
	clang -g -O1 -std=gnu17 -D_GNU_SOURCE -Wno-gnu-variable-sized-type-not-at-end -fsanitize=fuzzer,address,undefined -Iinclude -Isrc \
		$(pkg-config --cflags libcjson libxxhash) -o "$work/$name" "$source" \
		"$BUILD/fuzz/lib/libgodwit.a" ${LIBS:-$(pkg-config --libs libcjson libxxhash liburing) -pthread}
	echo "fuzz: $name for $each s"
	(cd "$work" && "./$name" -max_total_time="$each" -max_len=8192 -timeout=5 -print_final_stats=1 corpus >log 2>&1) || {
		tail -n 40 "$work/log"
		echo "fuzz: $name FAILED; see $work"
		exit 1
	}
	grep -E 'stat::number_of_executed_units' "$work/log"
done
echo "fuzz: ok"
