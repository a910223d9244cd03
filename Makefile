# SPDX-License-Identifier: Apache-2.0
BUILD ?= build
CC ?= gcc
ARCH ?= x86
PKGS = libcjson libxxhash
VARIANT ?=
OBJ = $(BUILD)/obj$(VARIANT)

CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wpointer-arith
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) $(SANITIZE) -fPIC -fvisibility=hidden -pthread \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$(BUILD)/gen $(shell pkg-config --cflags $(PKGS))
LIBS = $(shell pkg-config --libs $(PKGS)) -pthread

LIB_SRC = $(wildcard src/base/*.c src/vmm/*.c src/vmm/$(ARCH)/*.c src/vfio/*.c src/migration/*.c \
	src/*.c src/control/*.c)
CLI_SRC = $(wildcard src/cli/*.c)
UNIT_SRC = $(wildcard tests/unit/*.c)
obj = $(patsubst %.c,$(OBJ)/%.o,$(1))
ASL = $(wildcard src/vmm/x86/acpi/*.asl)
AML_H = $(patsubst src/vmm/x86/acpi/%.asl,$(BUILD)/gen/acpi/%.h,$(ASL))

all: $(BUILD)/godwit $(BUILD)/libgodwit.a $(BUILD)/libgodwit.so

$(BUILD)/godwit: $(call obj,$(CLI_SRC)) $(BUILD)/libgodwit.a
	$(CC) $(SANITIZE) -o $@ $^ $(LIBS)

$(BUILD)/libgodwit.a: $(call obj,$(LIB_SRC))
	rm -f $@
	ar rcs $@ $^

$(BUILD)/libgodwit.so: $(call obj,$(LIB_SRC))
	$(CC) $(SANITIZE) -shared -Wl,-soname,libgodwit.so.0 -o $@ $^ $(LIBS)

$(OBJ)/%.o: %.c | $(AML_H)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ACPI: each ASL source is preprocessed, compiled and made a C array.
$(BUILD)/gen/acpi/%.h: src/vmm/x86/acpi/%.asl src/vmm/x86/layout.h src/vmm/pm.h
	@mkdir -p $(@D)
	$(CC) -E -P -x assembler-with-cpp -DASL -Isrc -o $(BUILD)/gen/acpi/$*.dsl $<
	cd $(BUILD)/gen/acpi && iasl -va -vs -p $* $*.dsl >$*.log || { cat $*.log; exit 1; }
	cd $(BUILD)/gen/acpi && od -An -v -tx1 $*.aml | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g; 1i static const unsigned char acpi_$*[] = {' >$*.tmp && echo '};' >>$*.tmp && mv $*.tmp $*.h

clean:
	rm -rf $(BUILD)/obj* $(BUILD)/gen $(BUILD)/godwit $(BUILD)/libgodwit.*

-include $(wildcard $(OBJ)/src/*/*.d $(OBJ)/src/*/*/*.d $(OBJ)/src/*.d $(OBJ)/tests/*/*.d)

.PHONY: all clean
