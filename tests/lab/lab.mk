# SPDX-License-Identifier: Apache-2.0
#
# The lab's targets, for the top Makefile to include.
BUILD ?= build

.PHONY: lab-setup lab-kernel lab-debian lab-shell lab-selftest

lab-setup:
	BUILD=$(BUILD) tests/lab/setup.sh

lab-kernel: lab-setup
	BUILD=$(BUILD) tests/lab/kernel.sh

lab-debian:
	BUILD=$(BUILD) tests/lab/debian.sh

lab-shell: lab-setup
	BUILD=$(BUILD) tests/lab/shell.sh

lab-selftest: lab-setup
	BUILD=$(BUILD) tests/lab/selftest.sh
