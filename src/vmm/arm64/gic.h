/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controller, KVM's: a GICv3 with an interrupt translation
 * service for MSIs, or a GICv2, without MSIs, where the host has no more.
 * Participant "gic".
 *
 * Its registers are tables (gic_regs.c): one for what all CPUs share, one for
 * what each has of its own. They serve a reset (back to what was read at
 * power-on) and migration alike (gic_state.c).
 * Sources: Arm GIC Architecture Specification, GICv3 and v4 (IHI 0069), v2 (IHI 0048);
 * Linux, Documentation/virt/kvm/devices/arm-vgic-v3.rst, arm-vgic.rst, arm-vgic-its.rst.
 */
#ifndef ARM64_GIC_H
#define ARM64_GIC_H

#include "vmm/machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gic_version { GIC_V2 = 2, GIC_V3 = 3 };

struct gic;

/* The device in KVM. vCPUs do not exist yet. */
int gic_create(struct machine *m, struct gic **out, struct gw_error *err);
void gic_destroy(struct gic *gic);
/* vCPUs exist: it begins to work, and what it holds now is its power-on state. */
int gic_begin(struct gic *gic, struct gw_error *err);
int gic_reset(struct gic *gic, struct gw_error *err);

enum gic_version gic_version(const struct gic *gic);
/* MSIs are translated by an ITS; without one there are none. */
bool gic_has_its(const struct gic *gic);

/* ---- registers (gic_regs.c) ---- */

/* One access to KVM, which takes as many bits as the register is wide: 32 or 64. */
struct gic_word {
	const char *name;
	uint8_t group;   /* KVM_DEV_ARM_VGIC_GRP_* */
	bool zero_first; /* it is set to 0 before any other is set */
	bool optional;   /* CPUs of this kind may be without it */
	uint32_t attr;   /* the lower half of the attribute: an offset, or a system register */
	uint32_t clear;  /* offset of the register that clears what this one sets; 0: none */
	uint32_t kind;   /* bits that say what the controller is: a reset leaves them */
};

#define GIC_WORDS_MAX 96

/* The tables' words for a controller with so many interrupts, in the order in which they are set;
 * returns their number. `per_cpu`: those that each CPU has. */
unsigned gic_words(enum gic_version version, bool per_cpu, unsigned intids,
                   struct gic_word out[GIC_WORDS_MAX]);

/* Values of all words of one table; of those that are not there, `has` is false. */
struct gic_values {
	uint64_t value[GIC_WORDS_MAX];
	bool has[GIC_WORDS_MAX];
};

/* `upper` is the attribute's upper half: which CPU. */
int gic_words_get(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                  struct gic_values *out, struct gw_error *err);
int gic_words_set(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                  const struct gic_values *values, struct gw_error *err);
/* What a reset sets: what was at power-on, in a controller that may have become a lesser one since,
 * by the guest that came to it. */
int gic_words_reset(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                    const struct gic_values *power_on, struct gw_error *err);

/* As bytes, each with the word that it is of; and back: -EINVAL for what is not in the table, or
 * is missing. */
struct bytes;
void gic_words_put(const struct gic_word *words, unsigned count, const struct gic_values *values,
                   struct bytes *out);
int gic_words_take(const struct gic_word *words, unsigned count, const void *buf, size_t len,
                   struct gic_values *out, struct gw_error *err);

/* ---- the ITS (its.c) ---- */

#define ITS_REGISTERS 12
struct its_values {
	uint64_t value[ITS_REGISTERS];
};
int its_create(struct machine *m, int *fd, struct gw_error *err);
int its_begin(int fd, struct gw_error *err);
int its_reset(int fd, struct gw_error *err);
/* What it has in itself goes to the guest's memory, where the guest has given it room. */
int its_save_tables(int fd, struct gw_error *err);
int its_get(int fd, struct its_values *out, struct gw_error *err);
/* And takes back from memory what is there. */
int its_set(int fd, const struct its_values *values, struct gw_error *err);

/* ---- as a participant (gic_state.c) ---- */

extern const struct participant_ops gic_participant_ops;

struct gic {
	struct participant participant;
	struct machine *machine;
	enum gic_version version;
	int fd, its_fd; /* -1: none */
	unsigned shared_count, own_count;
	struct gic_word shared[GIC_WORDS_MAX], own[GIC_WORDS_MAX];
	struct gic_values shared_power_on, own_power_on; /* those of all CPUs are alike */
	struct gic_loaded *loaded;                       /* what has come; settle() sets it */
};

/* The upper half of an attribute that is one CPU's. */
uint32_t gic_cpu_attr(const struct gic *gic, unsigned cpu);
void gic_loaded_free(struct gic_loaded *loaded);

#endif
