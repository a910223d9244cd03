/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the x86 machine share. */
#ifndef X86_X86_H
#define X86_X86_H

#include "vmm/machine.h"
#include "vmm/vcpu.h"
#include "vmm/x86/cpu.h"

#include <linux/kvm.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 256

/* The interrupt chips and the PIT: KVM's, each a participant (chips.c). */
struct chips;
int chips_create(struct machine *m, struct chips **out, struct gw_error *err);
void chips_destroy(struct chips *chips);
/* Power-on state. */
int chips_reset(struct chips *chips, struct gw_error *err);

/* Guest time, a participant (clock.c). */
struct guest_clock;
int clock_create(struct machine *m, struct guest_clock **out, struct gw_error *err);
void clock_destroy(struct guest_clock *clock);
void clock_stop(struct guest_clock *clock);
void clock_continue(struct guest_clock *clock);

struct arch {
	struct chips *chips;
	struct guest_clock *clock;
	struct kvm_cpuid2 *supported; /* what KVM offers */
	struct kvm_cpuid2 *cpuid;     /* what the guest is to see of it */
	struct cpu_topology topology;
	struct vmgenid *vmgenid;
	uint32_t *msrs; /* KVM_GET_MSR_INDEX_LIST */
	unsigned msr_count;
};

/* CPUID (cpuid.c), each table with room for CPUID_ENTRIES_MAX entries, released with free(): what
 * KVM offers, what a guest of this model (enum config_cpu_model), whose RAM takes so many bits of
 * physical address, is to see of it, and one vCPU of the guest. */
struct kvm_cpuid2 *cpuid_alloc(void);
void cpuid_copy(struct kvm_cpuid2 *to, const struct kvm_cpuid2 *from);
int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **out, struct gw_error *err);
int cpuid_for_guest(const struct kvm_cpuid2 *supported, uint32_t model, unsigned address_bits,
                    struct kvm_cpuid2 **out, struct gw_error *err);
void cpuid_for_vcpu(const struct kvm_cpuid2 *guest, const struct cpu_topology *topology,
                    unsigned index, struct kvm_cpuid2 *out);

/* All state of a vCPU that KVM holds, row by row (vcpu_state.c). */
#define VCPU_STATE_ROWS 16
struct vcpu_state {
	void *blob[VCPU_STATE_ROWS];
	size_t len[VCPU_STATE_ROWS];
};
int vcpu_state_get(struct vcpu *v, struct vcpu_state *out, struct gw_error *err);
/* In the order that KVM needs. */
int vcpu_state_set(struct vcpu *v, const struct vcpu_state *state, struct gw_error *err);
void vcpu_state_free(struct vcpu_state *state);
extern const struct participant_ops vcpu_participant_ops;

struct arch_vcpu {
	struct vcpu_state power_on; /* what a reset goes back to */
	struct vcpu_state loaded;   /* records that have come; settle() sets them */
	size_t xsave_size;
	/* Time as it was when the vCPU stopped (clock.c). */
	uint64_t tsc;
	uint64_t tsc_deadline; /* 0: not armed */
	bool time_held;
};

#define MSR_IA32_TSC 0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0
int msr_get(struct vcpu *v, uint32_t index, uint64_t *value);
int msr_set(struct vcpu *v, uint32_t index, uint64_t value);

/* The MSRs that a firmware would have set up (msr.c). */
int msr_set_firmware_state(struct vcpu *v, struct gw_error *err);

/* Boot (boot.c and its two protocols). */
struct boot_entry {
	uint64_t rip;
	uint64_t rsi, rbx;
	bool long_mode; /* 64-bit with paging; else 32-bit protected mode */
};
#define E820_RAM 1
#define E820_RESERVED 2
struct memory_map_entry {
	uint64_t gpa, size;
	uint32_t type;
};
#define MEMORY_MAP_MAX 8
/* What the guest is told about its memory; returns the number of entries. */
unsigned boot_memory_map(struct machine *m, struct memory_map_entry out[MEMORY_MAP_MAX]);
/* The initrd as high as it may be (below `limit`) in low RAM; *gpa 0 where there is none. */
int boot_place_initrd(struct machine *m, uint64_t limit, uint64_t above, uint64_t *gpa,
                      struct gw_error *err);
int boot_load_linux(struct machine *m, struct boot_entry *entry, struct gw_error *err);
int boot_load_elf(struct machine *m, struct boot_entry *entry, struct gw_error *err);
/* Loads whatever the kernel image is, and sets the boot vCPU to its entry. */
int x86_boot(struct machine *m, struct gw_error *err);

#endif
