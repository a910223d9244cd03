#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 150
#
# "make demo NIC=..." on a machine with KVM, an IOMMU and a card bound to vfio-pci: the lab's host.
set -eu
card=$NIC
unset LAB_HOST LAB_OUT LAB_RUN
cd "$ROOT"
NIC=$card demo/demo.sh
echo "PASS local the demo on this machine's own KVM, IOMMU and NIC"
