#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 120
# kernel: iommufd
# iommu: off
#
# The dirty bits of an IOMMU that the kernel makes up (CONFIG_IOMMUFD_TEST), by the library's own
# calls. A real IOMMU has to be off: Linux 6.12 would take the devices that are made up for its own.
set -eu
. "$ROOT/tests/lab/lib.sh"
cp "$ROOT/build/tests/iommufd_bits" /tmp/bits
echo 2 >/proc/sys/vm/nr_hugepages
/tmp/bits -j1 --verbose >/tmp/out 2>&1 || { cat /tmp/out; die "dirty bits"; }
sed 's/\x1b\[[0-9;]*m//g' /tmp/out | sed -n 's/^\[PASS\] iommufd::\([^:]*\):.*/PASS iommufd-bits \1/p'
