/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the arm64 machine share. */
#ifndef ARM64_ARM64_H
#define ARM64_ARM64_H

#include "vmm/machine.h"
#include "vmm/topology.h"
#include "vmm/vcpu.h"

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

struct gic;
struct guest_clock;
struct pl031;
struct vmgenid;

struct arch {
	struct gic *gic;
	struct guest_clock *clock;
	struct pl031 *rtc;
	struct vmgenid *vmgenid;
	struct bus_range pio_window; /* I/O ports, for CPUs that know addresses only */
	struct topology topology;
	struct kvm_vcpu_init init; /* what all vCPUs are made with, less POWER_OFF */
	bool steal_time;
	uint64_t initrd; /* where the last reset has put it; 0: there was none here */
};

struct arch_vcpu {
	uint64_t mpidr;
	bool odd_access_told;        /* a guest that makes many fills no log */
	struct vcpu_records *loaded; /* what has come; settle() sets it */
};

/* ---- ioctls of one attribute (attr.c) ---- */

int attr_set(int fd, uint32_t group, uint64_t attr, const void *value);
int attr_get(int fd, uint32_t group, uint64_t attr, void *value);

/* ---- addresses ---- */

/* arch_vm_type() of a KVM that says `most` of KVM_CAP_ARM_VM_IPA_SIZE (arch.c). */
int64_t arm64_vm_type(int most, uint64_t ram_size, struct gw_error *err);

/* ---- vCPUs ---- */

/* From what the configuration asks for and this KVM offers (vcpu_features.c): fills arch->init and
 * puts what was chosen back into m->config, which is what a destination has to offer as well.
 * -ENOTSUP names the key. */
int vcpu_features_choose(struct machine *m, struct gw_error *err);
/* A vCPU in its power-on state, that is KVM_ARM_VCPU_INIT; on the first time also what has to be
 * settled before it is used. All but the first vCPU wait for the guest to start them. */
int vcpu_features_init(struct vcpu *v, struct gw_error *err);
int vcpu_features_finalize(struct vcpu *v, struct gw_error *err);
/* Names of features in a bitmap as struct kvm_vcpu_init has it, "sve, pmu"; for messages. */
void vcpu_features_name(uint32_t features, char *out, size_t size);
/* After the interrupt controller is there: performance monitor, steal time. */
int vcpu_features_complete(struct vcpu *v, struct gw_error *err);

/* One register (vcpu_regs.c); `size` bytes are in its id. Negative errno. */
int reg_get(struct vcpu *v, uint64_t id, void *value);
int reg_set(struct vcpu *v, uint64_t id, const void *value);
#define REG_SIZE_MAX 256 /* KVM_REG_SIZE_U2048 */
unsigned reg_size(uint64_t id);

/* Name of a register for messages (reg_names.c): "ID_AA64PFR0_EL1", "x19", "S3_0_C5_C2_1". */
#define REG_NAME_MAX 40
void reg_name(uint64_t id, char out[REG_NAME_MAX]);

/* All registers as one record (vcpu_regs.c): of each its id, and as many bytes as that says. */
struct bytes;
int vcpu_regs_get(struct vcpu *v, struct bytes *out, struct gw_error *err);
int vcpu_regs_set(struct vcpu *v, const void *records, size_t len, struct gw_error *err);

extern const struct participant_ops vcpu_participant_ops; /* vcpu_state.c */
void vcpu_records_free(struct vcpu_records *records);

/* ---- guest time, a participant (clock.c) ---- */

int clock_create(struct machine *m, struct guest_clock **out, struct gw_error *err);
void clock_destroy(struct guest_clock *clock);
/* The vCPUs exist: time begins. */
int clock_begin(struct guest_clock *clock, struct gw_error *err);
void clock_stop(struct guest_clock *clock);
void clock_continue(struct guest_clock *clock);

/* ---- boot ---- */

/* Kernel, initrd and device tree into memory, the boot vCPU at the kernel's entry (boot.c). */
int arm64_boot(struct machine *m, struct gw_error *err);
/* The device tree of the machine; initrd of size 0: none (describe.c). */
int arm64_describe(struct machine *m, uint64_t initrd, uint64_t initrd_size, void **out,
                   size_t *len, struct gw_error *err);

#endif
