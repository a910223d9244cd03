# SPDX-License-Identifier: Apache-2.0
#
# make            build/godwit, build/libgodwit.a, build/libgodwit.so
# make examples   build/examples/: programs that embed the library
# make check      every test; ends in one line "N passed, N failed"
# make check-fast  build, unit tests, lint's quick parts: while one works
# make check-long  what takes longer: the same scenarios with more rounds
# make demo       the whole job on two lab hosts
# make lint       format, static checks, floors
# make lab-shell  a prompt on a lab host
# make configs    configs/schema.json and the table of docs/config.md, from the tables in code
# make install    PREFIX=/usr/local DESTDIR=
#
# make ARCH=arm64 ...  the same for another architecture than this machine's, into build/arm64: its
#                 headers and libraries are unpacked there (scripts/sysroot.sh)

MACHINE := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
ARCH = $(MACHINE)
ifeq ($(ARCH),$(MACHINE))
BUILD ?= build
CC = gcc
AR = ar
OBJCOPY = objcopy
PKG_CONFIG = pkg-config
else
BUILD ?= build/$(ARCH)
TRIPLET_arm64 = aarch64-linux-gnu
TRIPLET = $(TRIPLET_$(ARCH))
SYSROOT = $(abspath $(BUILD))/sysroot
CC = $(TRIPLET)-gcc --sysroot=$(SYSROOT)
CXX = $(TRIPLET)-g++ --sysroot=$(SYSROOT)
AR = $(TRIPLET)-ar
OBJCOPY = $(TRIPLET)-objcopy
PKG_CONFIG = PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) \
	PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(TRIPLET)/pkgconfig:$(SYSROOT)/usr/share/pkgconfig pkg-config
SYSROOT_STAMP = $(SYSROOT)/complete
endif
PREFIX ?= /usr/local
PKGS_arm64 = liblzma libzstd liblz4
PKGS = libcjson libxxhash liburing zlib $(PKGS_$(ARCH))
# Their headers only: they are loaded when they are used, so that nobody else waits for them.
LAZY_PKGS = gnutls libedit
# Another VARIANT keeps its objects apart: "make VARIANT=-asan SANITIZE=...".
VARIANT ?=
SANITIZE ?=
OBJ = $(BUILD)/obj$(VARIANT)
GEN = $(BUILD)/gen$(VARIANT)
# Put before the compiler: "make CCACHE=ccache".
CCACHE ?=

CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wpointer-arith
# The kernel's structs that end in a list are put before what the list holds.
ifneq ($(findstring clang,$(CC)),)
WARN += -Wno-gnu-variable-sized-type-not-at-end
endif
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) $(SANITIZE) -fPIC -fvisibility=hidden -pthread \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$(GEN) \
	$(shell $(PKG_CONFIG) --cflags $(PKGS) $(LAZY_PKGS) 2>/dev/null)
# Debian 12's libfdt has no pkg-config file.
ARCH_LIBS_arm64 = -lfdt
LIBS = $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null) $(ARCH_LIBS_$(ARCH)) -pthread

LIB_SRC = $(wildcard src/base/*.c src/vmm/*.c src/vmm/$(ARCH)/*.c src/vmm/virtio/*.c src/vfio/*.c src/vfio/user/*.c src/migration/*.c \
	src/*.c src/control/*.c)
CLI_SRC = $(wildcard src/cli/*.c)
# Criterion's sandbox cannot start a process under an emulator of user programs, and does not get on with
# ThreadSanitizer: PLAIN=1 links what stands in for it.
PLAIN ?= $(if $(filter $(ARCH),$(MACHINE)),,1)
RUNNER_SRC = tests/runner/$(if $(filter 1,$(PLAIN)),plain,guard).c
UNIT_SRC = $(wildcard tests/unit/*.c tests/unit/$(ARCH)/*.c) $(RUNNER_SRC)
KVM_SRC = $(wildcard tests/kvm/*.c tests/kvm/$(ARCH)/*.c) $(RUNNER_SRC)
GUESTS_x86 = $(patsubst %,$(BUILD)/tests/guests/%.elf,mixer dirtier fault doorbell first)
GUESTS_arm64 = $(patsubst %,$(BUILD)/tests/guests/%.image,mixer dirtier fault doorbell odd)
obj = $(patsubst %.c,$(OBJ)/%.o,$(1))
# Tests reach into the library, so they link its objects.
LIB_OBJ = $(call obj,$(LIB_SRC))

.PHONY: all tests examples configs install clean check check-fast check-long demo lint bench fuzz model packages
.DELETE_ON_ERROR:

all: $(BUILD)/godwit $(BUILD)/libgodwit.a $(BUILD)/libgodwit.so

$(BUILD)/godwit: $(call obj,$(CLI_SRC)) $(BUILD)/libgodwit.a
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS)

$(BUILD)/libgodwit.a: $(LIB_OBJ)
	rm -f $@
	$(AR) rcs $@ $^

# Programs look for it by its soname.
$(BUILD)/libgodwit.so: $(LIB_OBJ) src/libgodwit.map
	$(CC) $(SANITIZE) -shared -Wl,-soname,libgodwit.so.0 -Wl,-z,defs \
		-Wl,--version-script=src/libgodwit.map -o $@ $(LIB_OBJ) $(LIBS)
	ln -sf libgodwit.so $@.0

# What is unpacked once serves every object, of every clone.
$(SYSROOT_STAMP): scripts/sysroot.sh scripts/cache.sh tests/lab/apt.sh
	scripts/sysroot.sh $(ARCH) $(SYSROOT)
	touch $@

$(OBJ)/%.o: %.c | $(SYSROOT_STAMP)
	@mkdir -p $(@D)
	$(CCACHE) $(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ACPI: each ASL source is preprocessed, compiled and made a C array.
AML_x86 = $(patsubst src/vmm/x86/acpi/%.asl,$(GEN)/acpi/%.h,$(wildcard src/vmm/x86/acpi/*.asl))
$(call obj,src/vmm/x86/acpi.c) $(call obj,$(UNIT_SRC)): $(AML_$(ARCH))
$(GEN)/acpi/%.h: src/vmm/x86/acpi/%.asl src/vmm/x86/layout.h src/vmm/x86/pm_ports.h
	@mkdir -p $(@D)
	$(CC) -E -P -x assembler-with-cpp -DASL -Isrc -o $(@D)/$*.dsl $<
	cd $(@D) && iasl -va -vs -p $* $*.dsl >$*.log || { cat $*.log; exit 1; }
	{ echo 'static const unsigned char acpi_$*[] = {'; \
	  od -An -v -tx1 $(@D)/$*.aml | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'; echo '};'; } >$@

# Guests of our own.
GUEST_DIR = tests/guests/$(ARCH)
LINK_GUEST = $(CC) -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
	-T $(GUEST_DIR)/guest.ld -o $@
$(BUILD)/tests/guests/%.elf: $(GUEST_DIR)/%.S $(GUEST_DIR)/start.S $(GUEST_DIR)/guest.ld | $(SYSROOT_STAMP)
	@mkdir -p $(@D)
	$(LINK_GUEST) $(GUEST_DIR)/start.S $<
$(BUILD)/tests/guests/%.image: $(BUILD)/tests/guests/%.elf
	$(OBJCOPY) -O binary $< $@

# The one that is entered without start.S.
$(BUILD)/tests/guests/first.elf: $(GUEST_DIR)/first.S $(GUEST_DIR)/guest.ld
	@mkdir -p $(@D)
	$(LINK_GUEST) $<

# What the lab's kernels can do, by the library's own calls.
LAB_TESTS = $(BUILD)/tests/iommufd_bits$(VARIANT)

# The lab's kernel with IOMMUFD is x86's, device trees are arm64's.
TESTS_x86 = $(LAB_TESTS)
TESTS_arm64 = $(BUILD)/tests/check_dtb$(VARIANT)
# The linker puts __wrap_NAME in the place of each of these functions.
wrap = $(foreach f,$(1),-Wl,--wrap=$(f))
# A server of this process speaks as others do where a test asks for it (tests/manner/manner.h).
MANNER_OBJ = $(call obj,tests/manner/manner.c)
MANNER = $(call wrap,wire_send wire_receive)
$(BUILD)/tests/foreign-server$(VARIANT): $(call obj,$(CLI_SRC) tests/manner/main.c) $(MANNER_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(MANNER) -o $@ $^ $(LIBS)

tests: $(BUILD)/tests/foreign-server$(VARIANT) $(BUILD)/tests/unit$(VARIANT) $(BUILD)/tests/kvm$(VARIANT) $(GUESTS_$(ARCH)) $(TESTS_$(ARCH))
$(OBJ)/tests/%.o: ALL_CFLAGS += -Itests
$(OBJ)/tests/kvm/%.o: ALL_CFLAGS += -Itests/kvm -Itests/kvm/$(ARCH)
$(OBJ)/tests/unit/%.o: ALL_CFLAGS += -Itests/unit -Itests/unit/$(ARCH)
# Calls that unit tests can make fail (tests/unit/faults.h).
FAULTS = $(call wrap,malloc calloc realloc strdup free fsync)
$(BUILD)/tests/unit$(VARIANT): $(call obj,$(UNIT_SRC)) $(MANNER_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(FAULTS) $(MANNER) -o $@ $^ $(LIBS) -lcriterion -lgnutls
$(BUILD)/tests/kvm$(VARIANT): $(call obj,$(KVM_SRC)) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS) -lcriterion

$(BUILD)/tests/iommufd_bits$(VARIANT): $(call obj,tests/lab/iommufd_bits.c tests/unit/vfio_kernel.c) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS) -lcriterion

$(OBJ)/tests/lab/check_dtb.o: ALL_CFLAGS += -Itests/unit/arm64
$(BUILD)/tests/check_dtb$(VARIANT): $(call obj,tests/lab/check_dtb.c tests/unit/arm64/bindings.c)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ -lfdt

# Programs that embed the library, linked as others would link them.
EMBED = -Iinclude -L$(BUILD) -Wl,-rpath,'$$ORIGIN/..' -o $@ $< -lgodwit -pthread
examples: $(BUILD)/examples/embed $(BUILD)/examples/own_device $(BUILD)/tests/give_vfio $(if $(SYSROOT),,$(BUILD)/tests/cxx)
$(BUILD)/examples/%: examples/%.c include/godwit.h $(BUILD)/libgodwit.so
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(EMBED)
$(BUILD)/tests/give_vfio: tests/lab/give_vfio.c include/godwit.h $(BUILD)/libgodwit.so
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(EMBED)
$(BUILD)/tests/cxx: tests/abi/cxx.cc include/godwit.h $(BUILD)/libgodwit.so
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -Wall -Wextra -Werror -pedantic $(CFLAGS) $(EMBED)

install: all
	install -D -m 755 $(BUILD)/godwit $(DESTDIR)$(PREFIX)/bin/godwit
	install -D -m 644 include/godwit.h $(DESTDIR)$(PREFIX)/include/godwit.h
	install -D -m 644 $(BUILD)/libgodwit.a $(DESTDIR)$(PREFIX)/lib/libgodwit.a
	install -D -m 755 $(BUILD)/libgodwit.so $(DESTDIR)$(PREFIX)/lib/libgodwit.so.0
	ln -sf libgodwit.so.0 $(DESTDIR)$(PREFIX)/lib/libgodwit.so

configs: $(BUILD)/godwit
	$(BUILD)/godwit config --schema >configs/schema.json
	@mkdir -p $(BUILD)/gen
	$(BUILD)/godwit config --help --markdown >$(BUILD)/gen/keys.md
	sed -i -e '/^<!-- keys/r $(BUILD)/gen/keys.md' -e '/^<!-- keys/,/^<!-- end of keys/{//!d}' \
		docs/config.md

packages:
	scripts/packages.sh build

# Both architectures', unless told.
ONE_OR_BOTH = $(if $(filter command,$(firstword $(origin ARCH))),ARCH=$(ARCH),env -u ARCH)

check:
	$(ONE_OR_BOTH) tests/check.sh

check-fast:
	tests/check.sh --fast

check-long:
	$(ONE_OR_BOTH) tests/check-long.sh

demo:
	ARCH=$(ARCH) BUILD=$(BUILD) demo/demo.sh

lint:
	scripts/lint.sh

bench:
	tests/bench/bench.sh

fuzz:
	LIBS="$(LIBS)" tests/fuzz/fuzz.sh $(or $(T),60)

model:
	tests/model/model.sh

clean:
	rm -rf $(BUILD)/obj* $(BUILD)/gen* $(BUILD)/tests $(BUILD)/fuzz $(BUILD)/godwit $(BUILD)/libgodwit.*

include tests/lab/lab.mk
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
