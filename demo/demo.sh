#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The main job, for real: see README.md. Ends in a table; its exit status says whether all went
# well. With ARCH=arm64 the hosts are of that architecture. With NIC=0000:03:00.0 it runs on this machine's
# own KVM, IOMMU and NIC instead of the lab.
set -eu
cd "$(dirname "$0")/.."
ROOT=$(pwd -P)
root=$ROOT
# shellcheck source=tests/lab/arch.sh
. tests/lab/arch.sh
export ARCH BUILD
OUT=$ROOT/$BUILD/demo

if [ -n "${NIC:-}" ]; then
	exec demo/local.sh "$NIC"
fi

echo "demo: packages, build"
scripts/packages.sh build
make -s -j2 ARCH="$ARCH" BUILD="$BUILD" all
echo "demo: lab (kernel, QEMU and guest image from Debian's packages; cached for all clones)"
tests/lab/setup.sh
rm -rf "$OUT"
mkdir -p "$OUT"
echo "demo: two lab hosts start; godwit and its guest run in them"
began=$(date +%s)
status=0
tests/lab/lab -n 2 -t 230 -o "$OUT" -v demo/host-a.sh demo/host-b.sh || status=$?
[ -f "$OUT/a/table" ] || { echo "demo: FAILED before its first step; see $OUT"; exit 1; }
echo
{
	echo "step|what|result|time ms|downtime ms|bytes|dirty rounds"
	cat "$OUT/a/table" "$OUT/b/table" 2>/dev/null
} | awk -F'|' '{ printf "%-4s | %-56.56s | %8s | %11s | %9s | %12s | %s\n", $1, $2, $4, $5, $6, $7, $3 }'
echo
if [ "$status" -ne 0 ] || [ "$(cut -d'|' -f1 "$OUT/b/table" 2>/dev/null | tail -1)" != 6 ]; then
	echo "demo: FAILED; logs in $OUT"
	exit 1
fi
echo "demo: all steps done in $(($(date +%s) - began)) s; logs in $OUT"
