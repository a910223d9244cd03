# SPDX-License-Identifier: Apache-2.0
#
# The lab's targets, for the top Makefile to include.
.PHONY: sysroot lab-setup lab-kernel lab-debian lab-shell lab-selftest

sysroot: $(SYSROOT_STAMP)

lab-setup:
	ARCH=$(ARCH) BUILD=$(BUILD) tests/lab/setup.sh

lab-kernel: lab-setup
	ARCH=$(ARCH) BUILD=$(BUILD) tests/lab/kernel.sh

lab-debian:
	ARCH=$(ARCH) BUILD=$(BUILD) tests/lab/debian.sh

lab-shell: lab-setup
	ARCH=$(ARCH) BUILD=$(BUILD) tests/lab/shell.sh

lab-selftest: lab-setup
	ARCH=$(ARCH) BUILD=$(BUILD) tests/lab/selftest.sh
