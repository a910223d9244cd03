# SPDX-License-Identifier: Apache-2.0
#
# make            build/godwit, build/libgodwit.a, build/libgodwit.so
# make check      every test; ends in one line "N passed, N failed"
# make demo       the whole job on two lab hosts
# make lint       format, static checks, floors
# make lab-shell  a prompt on a lab host
# make install    PREFIX=/usr/local DESTDIR=

BUILD ?= build
CC = gcc
ARCH = x86
PREFIX ?= /usr/local
PKGS = libcjson libxxhash
# Another VARIANT keeps its objects apart: "make VARIANT=-asan SANITIZE=...".
VARIANT ?=
SANITIZE ?=
OBJ = $(BUILD)/obj$(VARIANT)

CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wpointer-arith
# The kernel's structs that end in a list are put before what the list holds.
ifneq ($(findstring clang,$(CC)),)
WARN += -Wno-gnu-variable-sized-type-not-at-end
endif
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) $(SANITIZE) -fPIC -fvisibility=hidden -pthread \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$(BUILD)/gen \
	$(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -pthread

LIB_SRC = $(wildcard src/base/*.c src/vmm/*.c src/vmm/$(ARCH)/*.c src/vfio/*.c src/migration/*.c \
	src/*.c src/control/*.c)
CLI_SRC = $(wildcard src/cli/*.c)
UNIT_SRC = $(wildcard tests/unit/*.c)
KVM_SRC = $(wildcard tests/kvm/*.c)
GUESTS = $(patsubst %,$(BUILD)/tests/guests/%.elf,mixer dirtier fault)
obj = $(patsubst %.c,$(OBJ)/%.o,$(1))
# Tests reach into the library, so they link its objects.
LIB_OBJ = $(call obj,$(LIB_SRC))

.PHONY: all tests install clean check demo lint bench fuzz model packages
.DELETE_ON_ERROR:

all: $(BUILD)/godwit $(BUILD)/libgodwit.a $(BUILD)/libgodwit.so

$(BUILD)/godwit: $(call obj,$(CLI_SRC)) $(BUILD)/libgodwit.a
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS)

$(BUILD)/libgodwit.a: $(LIB_OBJ)
	rm -f $@
	ar rcs $@ $^

$(BUILD)/libgodwit.so: $(LIB_OBJ)
	$(CC) $(SANITIZE) -shared -Wl,-soname,libgodwit.so.0 -Wl,-z,defs -o $@ $^ $(LIBS)

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ACPI: each ASL source is preprocessed, compiled and made a C array.
AML = $(patsubst src/vmm/x86/acpi/%.asl,$(BUILD)/gen/acpi/%.h,$(wildcard src/vmm/x86/acpi/*.asl))
$(call obj,src/vmm/x86/acpi.c) $(call obj,$(UNIT_SRC)): $(AML)
$(BUILD)/gen/acpi/%.h: src/vmm/x86/acpi/%.asl src/vmm/x86/layout.h src/vmm/pm.h src/vmm/serial.h
	@mkdir -p $(@D)
	$(CC) -E -P -x assembler-with-cpp -DASL -Isrc -o $(@D)/$*.dsl $<
	cd $(@D) && iasl -va -vs -p $* $*.dsl >$*.log || { cat $*.log; exit 1; }
	{ echo 'static const unsigned char acpi_$*[] = {'; \
	  od -An -v -tx1 $(@D)/$*.aml | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'; echo '};'; } >$@

# Guests of our own.
$(BUILD)/tests/guests/%.elf: tests/guests/%.S tests/guests/start.S tests/guests/guest.ld
	@mkdir -p $(@D)
	$(CC) -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
		-T tests/guests/guest.ld -o $@ tests/guests/start.S $<

tests: $(BUILD)/tests/unit$(VARIANT) $(BUILD)/tests/kvm$(VARIANT) $(GUESTS)
$(BUILD)/tests/unit$(VARIANT): $(call obj,$(UNIT_SRC)) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS) -lcriterion
$(BUILD)/tests/kvm$(VARIANT): $(call obj,$(KVM_SRC)) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS) -lcriterion

install: all
	install -D -m 755 $(BUILD)/godwit $(DESTDIR)$(PREFIX)/bin/godwit
	install -D -m 644 include/godwit.h $(DESTDIR)$(PREFIX)/include/godwit.h
	install -D -m 644 $(BUILD)/libgodwit.a $(DESTDIR)$(PREFIX)/lib/libgodwit.a
	install -D -m 755 $(BUILD)/libgodwit.so $(DESTDIR)$(PREFIX)/lib/libgodwit.so.0
	ln -sf libgodwit.so.0 $(DESTDIR)$(PREFIX)/lib/libgodwit.so

packages:
	scripts/packages.sh build

check:
	tests/check.sh

demo:
	demo/demo.sh

lint:
	scripts/lint.sh

bench:
	tests/bench/bench.sh

fuzz:
	tests/fuzz/fuzz.sh $(or $(T),60)

model:
	tests/model/model.sh

clean:
	rm -rf $(BUILD)/obj* $(BUILD)/gen $(BUILD)/tests $(BUILD)/fuzz $(BUILD)/godwit $(BUILD)/libgodwit.*

include tests/lab/lab.mk
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
