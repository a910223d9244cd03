#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Includes run downward only (docs/architecture.md): each folder may name the folders listed here.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

# check FILES ALLOWED: every #include "folder/..." must be one of ALLOWED (a regex).
check() {
	found=$(grep -nE '^#include "' $1 /dev/null |
		grep -vE "#include \"(godwit\.h|$2)")
	[ -z "$found" ] && return
	echo "floors: an include that runs up or sideways:"
	echo "$found"
	bad=1
}

check "src/base/*.[ch]" 'base/'
check "src/vmm/*.[ch] src/vmm/*/*.[ch]" 'base/|vmm/|acpi/'
check "src/vfio/*.[ch] src/vfio/*/*.[ch]" 'base/|vmm/|vfio/'
check "src/migration/*.[ch]" 'base/|vmm/participant\.h|migration/'
check "src/*.[ch]" 'base/|vmm/|vfio/|migration/|vm[a-z_]*\.h'
check "src/control/*.[ch]" 'base/|control/'
check "src/cli/*.[ch]" 'base/|cli/'
# What is one architecture's is named by nobody else, nor is anything compiled differently for one:
# HOST_ELF_MACHINE of src/base/util.h is a value.
above="include/*.h src/vmm/*.[ch] src/vmm/virtio/*.[ch] src/vfio/*.[ch] src/vfio/*/*.[ch] src/migration/*.[ch] src/*.[ch] src/control/*.[ch] src/cli/*.[ch]"
found=$(grep -nE '#include "vmm/(x86|arm64)/|\b__(x86_64|amd64|i386|aarch64|arm|ARM_[A-Z0-9_]+)(__)?\b' $above /dev/null)
[ -z "$found" ] || { echo "floors: an architecture is named above it:"; echo "$found"; bad=1; }
exit $bad
