/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's CPUs can do and how they are arranged: named features, the
 * models made from them, and the topology.
 *
 * A model is a list of features that every CPU of a level has (x86-64 psABI,
 * 3.1.1), so that a guest that was shown no more can go to any such host. The
 * vendor, family and model number stay the host's: guests do not move between
 * vendors.
 */
#ifndef X86_CPU_H
#define X86_CPU_H

#include "godwit.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* ---- features (cpu_features.c) ---- */

enum cpu_level {
	CPU_HOST_ONLY, /* in no model */
	CPU_V1,        /* from this level on */
	CPU_V2,
	CPU_V3,
	CPU_PLATFORM, /* concerns the platform, not programs: in each model where KVM offers it */
};

struct cpu_feature {
	uint32_t leaf, subleaf;
	uint8_t reg; /* enum cpuid_reg */
	uint8_t bit;
	uint8_t level;    /* enum cpu_level */
	const char *name; /* as in Linux's /proc/cpuinfo, where it has one */
};
extern const struct cpu_feature cpu_features[];
extern const size_t cpu_feature_count;

/* A register of CPUID that holds features. */
struct cpu_feature_word {
	uint32_t leaf, subleaf;
	uint8_t reg;
	/* Bits that follow the guest's own settings or its topology: not the host's to offer. */
	uint32_t own;
};
extern const struct cpu_feature_word cpu_feature_words[];
extern const size_t cpu_feature_word_count;

/* NULL: it has no name. */
const char *cpu_feature_name(const struct cpu_feature_word *word, unsigned bit);

/* ---- tables of CPUID (cpuid.c) ---- */

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);
uint32_t *cpuid_reg(struct kvm_cpuid_entry2 *e, enum cpuid_reg reg);
/* What the table says there; 0 where it says nothing. */
uint32_t cpuid_value(const struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index,
                     enum cpuid_reg reg);
/* Takes away every entry for which drop() is true. */
void cpuid_drop(struct kvm_cpuid2 *cpuid, bool (*drop)(const struct kvm_cpuid_entry2 *e));
/* Adds an entry; where the table is full (CPUID_ENTRIES_MAX) it is left out. */
void cpuid_add(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid_entry2 *e);
bool cpuid_is_amd(const struct kvm_cpuid2 *cpuid);

/* ---- models (cpu_model.c) ---- */

/* Cuts what KVM supports down to a model (enum config_cpu_model), with physical addresses of as
 * many bits as the guest's RAM takes, and no fewer than every model has. -ENOTSUP names what is
 * missing. */
int cpu_model_apply(struct kvm_cpuid2 *cpuid, uint32_t model, unsigned address_bits,
                    struct gw_error *err);
#define CPU_PHYS_BITS_MIN 36u /* where it does not say; Intel SDM vol. 3A, 4.1.4 */
/* Of the guest's physical addresses. */
unsigned cpu_phys_bits(const struct kvm_cpuid2 *cpuid);
/* Adds features to what is supported. */
void cpu_model_add(struct kvm_cpuid2 *supported, const struct kvm_cpuid2 *more);
/* -ENOTSUP where a guest uses what this host's KVM does not support; names all of it. */
int cpu_model_check(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
                    struct gw_error *err);

/* ---- topology (cpu_topology.c) ---- */

#define CPU_APIC_ID_LAST 254 /* of 8 bits, 255 being all; Intel SDM vol. 3A, 11.6.1 */

/* Each count has a field of the APIC id, as many bits wide as it needs. */
struct cpu_topology {
	unsigned sockets, dies, cores, threads;
	unsigned thread_bits, core_bits, die_bits;
};

/* From the configuration; works out what it leaves open. -EINVAL. */
int cpu_topology_make(const struct config *config, struct cpu_topology *out, struct gw_error *err);
uint32_t cpu_topology_apic_id(const struct cpu_topology *t, unsigned index);
/* Puts a vCPU's place into its CPUID. */
void cpu_topology_set(const struct cpu_topology *t, unsigned index, struct kvm_cpuid2 *cpuid);

#endif
