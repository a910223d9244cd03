/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an architecture supplies to the machine. One implementation is linked
 * in: src/vmm/x86/ or src/vmm/arm64/.
 */
#ifndef VMM_ARCH_H
#define VMM_ARCH_H

#include "godwit.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;
struct vcpu;

struct arch_range {
	uint64_t gpa, size;
};
#define ARCH_RAM_RANGES 4

/* Where PCI is in the address space: the configuration space of ARCH_PCI_BUSES buses, the windows
 * that BARs are placed in, and the GSIs that INTx pins are spread over. */
#define ARCH_PCI_BUSES 32
struct arch_pci_layout {
	struct arch_range ecam, io, mmio32, mmio64;
	uint32_t intx_gsi, intx_gsis;
	bool hotplug;        /* pm.h can tell the guest of devices that come and go on bus 0 */
	unsigned root_ports; /* that a machine has unless it is told */
};
extern const struct arch_pci_layout arch_pci;

/* Where the platform has what each architecture has. */
struct arch_device {
	bool ports; /* `base` is an I/O port, not an address */
	uint64_t base;
	uint32_t gsi;
};
struct arch_platform {
	/* Where RAM may be, in the order in which it is filled; together more than any machine has.
	 */
	struct arch_range ram[ARCH_RAM_RANGES];
	struct arch_device serial;
	uint64_t generation_id; /* in RAM, in a page that the guest leaves alone (vmgenid.h) */
	/* KVM has one level for a pin, whoever sets it; not one for each that does (irq_pins.h). */
	bool pins_have_one_level;
};
extern const struct arch_platform arch_platform;

/* What KVM_CREATE_VM is to be given for so much RAM (KVM API, 4.2). Negative errno. */
int64_t arch_vm_type(int kvm_fd, uint64_t ram_size, struct gw_error *err);

/* The VM's part: interrupt controller, timers, address-space quirks, platform devices of the
 * architecture, and their participants. Memory exists, vCPUs do not yet. */
int arch_create(struct machine *m, struct gw_error *err);
void arch_destroy(struct machine *m);

/* KVM's routing of the controller's pins; returns the number of entries put into out. */
#define ARCH_IRQ_ROUTES 64
unsigned arch_irq_routes(struct kvm_irq_routing_entry out[ARCH_IRQ_ROUTES]);
/* How KVM_IRQ_LINE calls a pin (KVM API, 4.25). */
uint32_t arch_irq_line(uint32_t gsi);

/* A vCPU in its power-on state, with the features that the guest is to see. With an incoming
 * machine the features come with the state instead. */
int arch_vcpu_create(struct vcpu *v, struct gw_error *err);
void arch_vcpu_destroy(struct vcpu *v);
/* All of them exist: what could not be made before is made now. */
int arch_vcpus_created(struct machine *m, struct gw_error *err);

/* An exit that the architecture-neutral loop does not know: true if it was dealt with. */
bool arch_vcpu_exit(struct vcpu *v);

/* The number by which KVM knows a vCPU: it is its place in the topology, with gaps. */
uint32_t arch_vcpu_id(const struct machine *m, unsigned index);

/* Back to power-on: controllers, vCPUs. Then the boot images into memory, firmware tables,
 * and the boot vCPU at the kernel's entry. vCPUs are paused. */
int arch_reset(struct machine *m, struct gw_error *err);

/* Guest time stands still between these two; vCPUs are paused at the first and about to run
 * at the second. */
void arch_time_stop(struct machine *m);
void arch_time_continue(struct machine *m);

/* A non-maskable interrupt to every vCPU. They may run. */
int arch_inject_nmi(struct machine *m, struct gw_error *err);

/* A vCPU's registers as the notes of an ELF core file have them (struct elf_prstatus's pr_reg), at
 * most `room` bytes; returns the length. It is paused. */
int arch_vcpu_core_registers(struct vcpu *v, void *out, size_t room, struct gw_error *err);

/* The device tree that the guest is given, released with free(). -ENOTSUP: it is given none. */
int arch_device_tree(struct machine *m, void **out, size_t *len, struct gw_error *err);

/* Checks that the host's KVM has what the architecture needs; names what it lacks. */
int arch_check_kvm(int kvm_fd, struct gw_error *err);

#endif
