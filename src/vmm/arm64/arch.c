/* SPDX-License-Identifier: Apache-2.0 */
/* The arm64 machine behind src/vmm/arch.h: its making, its exits, its reset. */
#include "vmm/arch.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/arm64/layout.h"
#include "vmm/arm64/pl031.h"
#include "vmm/boot.h"
#include "vmm/irq.h"
#include "vmm/memory.h"
#include "vmm/pm.h"
#include "vmm/ram_layout.h"
#include "vmm/vmgenid.h"

#include <asm/ptrace.h>
#include <string.h>

#define IPA_BITS_MIN 40u /* what every guest has (KVM API, 4.2) */

const struct arch_pci_layout arch_pci = {
	.ecam = { LAYOUT_ECAM, LAYOUT_ECAM_SIZE },
	.io = { LAYOUT_PIO, LAYOUT_PIO_SIZE },
	.mmio32 = { LAYOUT_MMIO32, LAYOUT_MMIO32_SIZE },
	.mmio64 = { LAYOUT_MMIO64, LAYOUT_MMIO64_SIZE },
	.intx_gsi = LAYOUT_INTX_GSI,
	.intx_gsis = LAYOUT_INTX_GSIS,
	.root_ports = 4,
};

const struct arch_platform arch_platform = {
	.ram = {
		{ LAYOUT_RAM, LAYOUT_MMIO64 - LAYOUT_RAM },
		{ LAYOUT_HIGH_RAM, LAYOUT_RAM_END - LAYOUT_HIGH_RAM },
	},
	.serial = { .base = LAYOUT_SERIAL, .gsi = LAYOUT_SERIAL_GSI },
	.generation_id = LAYOUT_VMGENID,
	.pins_have_one_level = true,
};

static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{ KVM_CAP_ONE_REG, "KVM_CAP_ONE_REG" },
	{ KVM_CAP_ARM_PSCI_0_2, "KVM_CAP_ARM_PSCI_0_2" },
	{ KVM_CAP_DEVICE_CTRL, "KVM_CAP_DEVICE_CTRL" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
};

int arch_check_kvm(int kvm_fd, struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed_caps); i++) {
		if (io_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)needed_caps[i].cap) <=
		    0)
			return error_set_class(err, -ENOTSUP, GW_ERROR_KVM_MISSING_CAP,
			                       "/dev/kvm: %s is missing", needed_caps[i].name);
	}
	if (sysconf(_SC_PAGESIZE) != (long)PAGE_SIZE)
		return error_set(err, -ENOTSUP,
		                 "this host's kernel has pages of %ld bytes; godwit needs one "
		                 "with pages of 4096",
		                 sysconf(_SC_PAGESIZE));
	return 0;
}

/* ---- addresses ---- */

/* The type is the number of bits of the guest's addresses (KVM API, 4.2): as many as the end of
 * RAM or the 64-bit window needs. */
int64_t arm64_vm_type(int most, uint64_t ram_size, struct gw_error *err)
{
	const unsigned host_bits = most > 0 ? (unsigned)most : IPA_BITS_MIN;
	const uint64_t window_end = LAYOUT_MMIO64 + LAYOUT_MMIO64_SIZE;
	const uint64_t end = MAX(ram_end(ram_size), window_end);
	const unsigned bits = 64 - (unsigned)__builtin_clzll(end - 1);

	if (bits > host_bits)
		return error_set(err, -ENOTSUP,
		                 "memory: %llu MiB of RAM and its PCI windows take %u bits of "
		                 "guest-physical address, and this host's KVM has %u "
		                 "(KVM_CAP_ARM_VM_IPA_SIZE)",
		                 (unsigned long long)(ram_size / MIB), bits, host_bits);
	/* 0 is the 40 bits that every KVM has. */
	return most > 0 ? (int64_t)MIN(MAX(bits, IPA_BITS_MIN), host_bits) : 0;
}

int64_t arch_vm_type(int kvm_fd, uint64_t ram_size, struct gw_error *err)
{
	return arm64_vm_type(io_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ARM_VM_IPA_SIZE),
	                     ram_size, err);
}

/* ---- interrupts ---- */

/* Pin n is SPI n. */
unsigned arch_irq_routes(struct kvm_irq_routing_entry out[ARCH_IRQ_ROUTES])
{
	for (uint32_t pin = 0; pin < IRQ_LINES; pin++)
		out[pin] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { 0, pin },
		};
	return IRQ_LINES;
}

/* KVM API, 4.25: the type in bits 24 to 27, and the INTID. */
uint32_t arch_irq_line(uint32_t gsi)
{
	return KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (32 + gsi);
}

int arch_inject_nmi(struct machine *m, struct gw_error *err)
{
	(void)m;
	return error_set(err, -ENOTSUP, "CPUs of this architecture have no NMI that KVM can raise");
}

/* ---- I/O ports: a window of addresses, as PCI host bridges have one ---- */

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
	struct machine *m = opaque;

	return bus_read(&m->pio, offset, size);
}

static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = opaque;

	bus_write(&m->pio, offset, size, value);
}

static const struct bus_ops window_ops = { .read = window_read, .write = window_write };

static int create_window(struct machine *m, struct gw_error *err)
{
	m->arch->pio_window = (struct bus_range){
		.base = LAYOUT_PIO_WINDOW,
		.size = LAYOUT_PIO_WINDOW_SIZE,
		.ops = &window_ops,
		.opaque = m,
		.name = "ports",
	};
	return bus_add(&m->mmio, &m->arch->pio_window, err);
}

/* ---- making and unmaking ---- */

uint32_t arch_vcpu_id(const struct machine *m, unsigned index)
{
	(void)m;
	return index;
}

static int check_vcpu_limit(struct machine *m, struct gw_error *err)
{
	const int most = io_ioctl(m->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);

	if (most > 0 && m->config.cpus > (unsigned)most)
		return error_set(err, -ENOTSUP, "cpus: %u, and this host's KVM takes %d",
		                 m->config.cpus, most);
	return 0;
}

/* An access that KVM cannot tell us of, for want of a syndrome, then comes as an exit instead of
 * ending KVM_RUN. Not every KVM has it, and no guest depends on it. */
static void want_odd_accesses(struct machine *m)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_NISV_TO_USER };

	io_ioctl(m->vm_fd, KVM_ENABLE_CAP, &cap);
}

int arch_create(struct machine *m, struct gw_error *err)
{
	struct arch *arch = calloc(1, sizeof(*arch));
	int r;

	if (!arch)
		return error_set(err, -ENOMEM, "machine: out of memory");
	m->arch = arch;
	m->address_bits = m->vm_type ? (unsigned)m->vm_type : IPA_BITS_MIN;
	want_odd_accesses(m);
	r = topology_make(&m->config, &arch->topology, err);
	if (!r)
		r = vcpu_features_choose(m, err);
	if (!r)
		r = gic_create(m, &arch->gic, err);
	if (!r)
		r = check_vcpu_limit(m, err);
	if (!r)
		r = clock_create(m, &arch->clock, err);
	if (!r)
		r = pl031_create(m, &arch->rtc, err);
	if (!r)
		r = pm_create(m, &m->pm, err);
	if (!r)
		r = vmgenid_create(m, &arch->vmgenid, err);
	if (!r)
		r = create_window(m, err);
	return r;
}

void arch_destroy(struct machine *m)
{
	struct arch *arch = m->arch;

	if (!arch)
		return;
	if (arch->pio_window.ops)
		bus_remove(&m->mmio, &arch->pio_window);
	vmgenid_destroy(arch->vmgenid);
	pm_destroy(m->pm);
	pl031_destroy(arch->rtc);
	clock_destroy(arch->clock);
	gic_destroy(arch->gic);
	free(arch);
	m->arch = NULL;
}

int arch_vcpu_create(struct vcpu *v, struct gw_error *err)
{
	const uint64_t mpidr_el1 = ARM64_SYS_REG(3, 0, 0, 0, 5);
	int r;

	v->participant.ops = &vcpu_participant_ops;
	v->arch = calloc(1, sizeof(*v->arch));
	if (!v->arch)
		return error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index);
	r = vcpu_features_init(v, err);
	if (!r)
		r = vcpu_features_finalize(v, err);
	if (r < 0)
		return r;
	r = reg_get(v, mpidr_el1, &v->arch->mpidr);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: reading MPIDR_EL1", v->index) : 0;
}

int arch_vcpus_created(struct machine *m, struct gw_error *err)
{
	int r = gic_begin(m->arch->gic, err);

	for (unsigned i = 0; i < m->vcpu_count && !r; i++)
		r = vcpu_features_complete(m->vcpus[i], err);
	return r ? r : clock_begin(m->arch->clock, err);
}

void arch_vcpu_destroy(struct vcpu *v)
{
	if (!v->arch)
		return;
	vcpu_records_free(v->arch->loaded);
	free(v->arch);
}

/* ---- running ---- */

void arch_time_stop(struct machine *m)
{
	clock_stop(m->arch->clock);
}

void arch_time_continue(struct machine *m)
{
	clock_continue(m->arch->clock);
}

/* KVM has stopped all vCPUs by the time that this comes (KVM API, 5: KVM_EXIT_SYSTEM_EVENT), so
 * going on does nothing. */
static bool system_event(struct vcpu *v)
{
	const struct machine_notify *n = &v->machine->notify;

	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		if (n->powered_off)
			n->powered_off(n->opaque);
		return true;
	case KVM_SYSTEM_EVENT_RESET:
	case KVM_SYSTEM_EVENT_CRASH:
		if (n->reset_requested)
			n->reset_requested(n->opaque, "the guest called PSCI SYSTEM_RESET");
		return true;
	default:
		return false;
	}
}

/* The guest used an instruction on a device that the CPU does not take apart for us (two registers
 * at once, say). On hardware that is the device's to refuse: an external abort. */
static bool odd_access(struct vcpu *v)
{
	struct kvm_vcpu_events events = { .exception.ext_dabt_pending = 1 };

	if (!v->arch->odd_access_told)
		log_warn(v->machine->log,
		         "vcpu%u: access at 0x%llx by an instruction that cannot be emulated",
		         v->index, (unsigned long long)v->run->arm_nisv.fault_ipa);
	v->arch->odd_access_told = true;
	return io_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) == 0;
}

bool arch_vcpu_exit(struct vcpu *v)
{
	switch (v->run->exit_reason) {
	case KVM_EXIT_SYSTEM_EVENT:
		return system_event(v);
	case KVM_EXIT_ARM_NISV:
		return odd_access(v);
	default:
		return false;
	}
}

int arch_reset(struct machine *m, struct gw_error *err)
{
	int r = 0;

	pl031_reset(m->arch->rtc);
	vmgenid_write(m->arch->vmgenid);
	for (unsigned i = 0; i < m->vcpu_count && !r; i++)
		r = vcpu_features_init(m->vcpus[i], err);
	if (!r)
		r = gic_reset(m->arch->gic, err);
	return r ? r : arm64_boot(m, err);
}

int arch_device_tree(struct machine *m, void **out, size_t *len, struct gw_error *err)
{
	const uint64_t initrd_size = boot_initrd(m->boot)->size;

	/* Behind a kernel that is not unpacked before. */
	if (initrd_size && !m->arch->initrd)
		return error_set(err, -EBUSY,
		                 "the guest booted elsewhere; where its initrd goes is known from "
		                 "its next reset on");
	return arm64_describe(m, m->arch->initrd, initrd_size, out, len, err);
}

/* ---- for a debugger ---- */

int arch_vcpu_core_registers(struct vcpu *v, void *out, size_t room, struct gw_error *err)
{
	/* struct user_pt_regs is what the first registers of struct kvm_regs are. */
	struct user_pt_regs regs;
	uint64_t *words = (uint64_t *)&regs;
	int r = 0;

	for (size_t i = 0; i < sizeof(regs) / sizeof(*words) && !r; i++)
		r = reg_get(v, KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (i * 2),
		            &words[i]);
	/* The stack pointer of EL0 is there; at EL1 the kernel's own is what a backtrace needs. */
	if (!r && (regs.pstate & 0xf) == PSR_MODE_EL1h)
		r = reg_get(v,
		            KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		                    KVM_REG_ARM_CORE_REG(sp_el1),
		            &regs.sp);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: reading core registers", v->index);
	memcpy(out, &regs, MIN(sizeof(regs), room));
	return (int)MIN(sizeof(regs), room);
}
