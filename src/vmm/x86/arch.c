/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/pm.h"
#include "vmm/ram_layout.h"
#include "vmm/vmgenid.h"
#include "vmm/x86/cpu.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/x86.h"

#include <string.h>
#include <sys/user.h>

const struct arch_pci_layout arch_pci = {
	.ecam = { LAYOUT_ECAM, LAYOUT_ECAM_SIZE },
	.io = { LAYOUT_PIO, LAYOUT_PIO_SIZE },
	.mmio32 = { LAYOUT_MMIO32, LAYOUT_MMIO32_SIZE },
	.mmio64 = { LAYOUT_MMIO64, LAYOUT_MMIO64_SIZE },
	.intx_gsi = LAYOUT_INTX_GSI,
	.intx_gsis = LAYOUT_INTX_GSIS,
	.hotplug = true,
};

const struct arch_platform arch_platform = {
	.ram = {
		{ 0, LAYOUT_HOLE },
		{ LAYOUT_4G, LAYOUT_MMIO64 - LAYOUT_4G },
		{ LAYOUT_MMIO64_LAST + 1, LAYOUT_HT_HOLE - LAYOUT_MMIO64_LAST - 1 },
		{ LAYOUT_1T, LAYOUT_RAM_END - LAYOUT_1T },
	},
	.serial = { .ports = true, .base = SERIAL_PORT, .gsi = SERIAL_GSI },
	.generation_id = LAYOUT_VMGENID,
};

static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
	{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
	{ KVM_CAP_XCRS, "KVM_CAP_XCRS" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
	{ KVM_CAP_EXCEPTION_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD" },
	{ KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
};

int arch_check_kvm(int kvm_fd, struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed_caps); i++) {
		if (io_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)needed_caps[i].cap) <=
		    0)
			return error_set_class(err, -ENOTSUP, GW_ERROR_KVM_MISSING_CAP,
			                       "/dev/kvm: %s is missing", needed_caps[i].name);
	}
	return 0;
}

/* Pins 0 to 15 go to both controllers, as on a PC; 16 to 23 to the IOAPIC alone. */
unsigned arch_irq_routes(struct kvm_irq_routing_entry out[ARCH_IRQ_ROUTES])
{
	unsigned n = 0;

	for (uint32_t pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
		out[n++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { KVM_IRQCHIP_IOAPIC, pin },
		};
		if (pin >= 16)
			continue;
		out[n++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			               pin % 8 },
		};
	}
	return n;
}

uint32_t arch_irq_line(uint32_t gsi)
{
	return gsi;
}

static unsigned bits_of(uint64_t ram_size)
{
	return 64 - (unsigned)__builtin_clzll(ram_end(ram_size) - 1);
}

/* There is one type. The host's CPU has to reach all of RAM. */
int64_t arch_vm_type(int kvm_fd, uint64_t ram_size, struct gw_error *err)
{
	const unsigned needed = bits_of(ram_size);
	autofree struct kvm_cpuid2 *cpuid = NULL;
	int r;

	if (needed <= CPU_PHYS_BITS_MIN)
		return 0;
	r = cpuid_supported(kvm_fd, &cpuid, err);
	if (r < 0 || needed <= cpu_phys_bits(cpuid))
		return r;
	return error_set(err, -ENOTSUP,
	                 "memory: %llu MiB of RAM take %u bits of guest-physical address, and this "
	                 "host's CPU has %u",
	                 (unsigned long long)(ram_size / MIB), needed, cpu_phys_bits(cpuid));
}

static int set_fixed_pages(struct machine *m, struct gw_error *err)
{
	uint64_t identity = LAYOUT_IDENTITY_MAP;
	int r = io_ioctl(m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);

	if (r < 0)
		return error_set_sys(err, r, "KVM_SET_IDENTITY_MAP_ADDR");
	r = io_ioctl(m->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)LAYOUT_TSS);
	return r < 0 ? error_set_sys(err, r, "KVM_SET_TSS_ADDR") : 0;
}

/* The list is asked for twice: its length first (KVM API, 4.3). */
static int read_msr_list(struct machine *m, struct arch *arch, struct gw_error *err)
{
	struct kvm_msr_list probe = { .nmsrs = 0 };
	autofree struct kvm_msr_list *list = NULL;
	int r = io_ioctl(m->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe);

	if (r < 0 && r != -E2BIG)
		return error_set_sys(err, r, "/dev/kvm: KVM_GET_MSR_INDEX_LIST");
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	arch->msrs = calloc(probe.nmsrs, sizeof(arch->msrs[0]));
	if (!list || !arch->msrs)
		return error_set(err, -ENOMEM, "MSR list: out of memory");
	list->nmsrs = probe.nmsrs;
	r = io_ioctl(m->kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0)
		return error_set_sys(err, r, "/dev/kvm: KVM_GET_MSR_INDEX_LIST");
	memcpy(arch->msrs, list->indices, list->nmsrs * sizeof(arch->msrs[0]));
	arch->msr_count = list->nmsrs;
	return 0;
}

/* KVM API, 4.7: a vCPU's number is its APIC id. */
uint32_t arch_vcpu_id(const struct machine *m, unsigned index)
{
	return cpu_topology_apic_id(&m->arch->topology, index);
}

static int check_vcpu_limits(struct machine *m, struct gw_error *err)
{
	int most = io_ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);
	int ids = io_ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPU_ID);
	uint32_t last = arch_vcpu_id(m, m->config.cpus - 1);

	if (most > 0 && m->config.cpus > (unsigned)most)
		return error_set(err, -ENOTSUP, "cpus: %u, and this host's KVM takes %d",
		                 m->config.cpus, most);
	if (ids > 0 && last >= (unsigned)ids)
		return error_set(err, -ENOTSUP,
		                 "cpu: APIC ids up to %u, and this host's KVM takes %d", last,
		                 ids - 1);
	return 0;
}

/* Keys that say something about other CPUs. */
static int refuse_foreign(const struct config *config, struct gw_error *err)
{
	const char *key = NULL;

	if (config->cpu.sve != CONFIG_SVE_AUTO && config->cpu.sve != CONFIG_SVE_OFF)
		key = "sve";
	else if (config->cpu.pauth == CONFIG_CHOICE_ON)
		key = "pauth";
	else if (config->cpu.pmu)
		key = "pmu";
	return key ? error_set(err, -ENOTSUP, "cpu.%s: there is none on x86-64", key) : 0;
}

/* An exception that waits is told apart from one that is being delivered, with what goes with it,
 * and a triple fault from none; older kernels do not know the latter (KVM API,
 * KVM_CAP_EXCEPTION_PAYLOAD and KVM_CAP_X86_TRIPLE_FAULT_EVENT). */
static int want_exact_events(struct machine *m, struct gw_error *err)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	int r = io_ioctl(m->vm_fd, KVM_ENABLE_CAP, &cap);

	if (r < 0)
		return error_set_sys(err, r, "KVM_CAP_EXCEPTION_PAYLOAD");
	cap.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT;
	if (io_ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0)
		r = io_ioctl(m->vm_fd, KVM_ENABLE_CAP, &cap);
	return r < 0 ? error_set_sys(err, r, "KVM_CAP_X86_TRIPLE_FAULT_EVENT") : 0;
}

int arch_create(struct machine *m, struct gw_error *err)
{
	struct arch *arch = calloc(1, sizeof(*arch));
	int r;

	if (!arch)
		return error_set(err, -ENOMEM, "machine: out of memory");
	m->arch = arch;
	r = refuse_foreign(&m->config, err);
	if (!r)
		r = cpu_topology_make(&m->config, &arch->topology, err);
	if (!r)
		r = check_vcpu_limits(m, err);
	if (!r)
		r = set_fixed_pages(m, err);
	if (!r)
		r = want_exact_events(m, err);
	if (!r)
		r = chips_create(m, &arch->chips, err);
	if (!r)
		r = clock_create(m, &arch->clock, err);
	if (!r)
		r = cpuid_supported(m->kvm_fd, &arch->supported, err);
	if (!r)
		r = cpuid_for_guest(arch->supported, m->config.cpu.model, bits_of(m->config.memory),
		                    &arch->cpuid, err);
	if (!r)
		m->address_bits = cpu_phys_bits(arch->cpuid);
	if (!r)
		r = read_msr_list(m, arch, err);
	if (!r)
		r = pm_create(m, &m->pm, err);
	if (!r)
		r = vmgenid_create(m, &arch->vmgenid, err);
	return r;
}

void arch_destroy(struct machine *m)
{
	struct arch *arch = m->arch;

	if (!arch)
		return;
	vmgenid_destroy(arch->vmgenid);
	pm_destroy(m->pm);
	clock_destroy(arch->clock);
	chips_destroy(arch->chips);
	free(arch->supported);
	free(arch->cpuid);
	free(arch->msrs);
	free(arch);
	m->arch = NULL;
}

void arch_time_stop(struct machine *m)
{
	clock_stop(m->arch->clock);
}

void arch_time_continue(struct machine *m)
{
	clock_continue(m->arch->clock);
}

/* A KVM that cannot trap CPUID gives each vCPU what the host's CPU has, whatever it was told and
 * beyond what it lists as supported: that is offered here too. */
static int note_imposed(struct vcpu *v, struct kvm_cpuid2 *cpuid, struct gw_error *err)
{
	int r;

	cpuid->nent = CPUID_ENTRIES_MAX;
	r = io_ioctl(v->fd, KVM_GET_CPUID2, cpuid);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_GET_CPUID2", v->index);
	cpu_model_add(v->machine->arch->supported, cpuid);
	return 0;
}

static int set_cpuid(struct vcpu *v, struct gw_error *err)
{
	struct machine *m = v->machine;
	autofree struct kvm_cpuid2 *cpuid = cpuid_alloc();
	int r;

	if (!cpuid)
		return error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index);
	cpuid_for_vcpu(m->arch->cpuid, &m->arch->topology, v->index, cpuid);
	r = io_ioctl(v->fd, KVM_SET_CPUID2, cpuid);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_SET_CPUID2", v->index);
	return v->index ? 0 : note_imposed(v, cpuid, err);
}

int arch_vcpu_create(struct vcpu *v, struct gw_error *err)
{
	struct machine *m = v->machine;
	int size = io_ioctl(m->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XSAVE2);
	int r;

	v->participant.ops = &vcpu_participant_ops;
	v->arch = calloc(1, sizeof(*v->arch));
	if (!v->arch)
		return error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index);
	/* KVM API, 4.134: the extension's value is the buffer's size; 0 where it is absent. */
	v->arch->xsave_size =
	        size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
	r = set_cpuid(v, err);
	if (!r)
		r = msr_set_firmware_state(v, err);
	if (!r)
		r = vcpu_state_get(v, &v->arch->power_on, err);
	return r;
}

int arch_vcpus_created(struct machine *m, struct gw_error *err)
{
	(void)m;
	(void)err;
	return 0;
}

void arch_vcpu_destroy(struct vcpu *v)
{
	if (!v->arch)
		return;
	vcpu_state_free(&v->arch->power_on);
	vcpu_state_free(&v->arch->loaded);
	free(v->arch);
}

/* As a message to all local APICs with delivery mode NMI (SDM volume 3, 11.11.1 and 11.11.2): it
 * needs no vCPU to leave the guest. */
int arch_inject_nmi(struct machine *m, struct gw_error *err)
{
	const struct msi_message all = { .address = LAYOUT_LAPIC | 0xff << 12, .data = 4 << 8 };
	int r = irq_send_msi(m->irqs, &all);

	return r < 0 ? error_set_sys(err, r, "KVM_SIGNAL_MSI") : 0;
}

int arch_vcpu_core_registers(struct vcpu *v, void *out, size_t room, struct gw_error *err)
{
	struct user_regs_struct regs;
	struct kvm_sregs s;
	struct kvm_regs r;
	int ret = io_ioctl(v->fd, KVM_GET_REGS, &r);

	if (ret < 0)
		return error_set_sys(err, ret, "vcpu%u: KVM_GET_REGS", v->index);
	ret = io_ioctl(v->fd, KVM_GET_SREGS, &s);
	if (ret < 0)
		return error_set_sys(err, ret, "vcpu%u: KVM_GET_SREGS", v->index);
	regs = (struct user_regs_struct){
		.r15 = r.r15,
		.r14 = r.r14,
		.r13 = r.r13,
		.r12 = r.r12,
		.rbp = r.rbp,
		.rbx = r.rbx,
		.r11 = r.r11,
		.r10 = r.r10,
		.r9 = r.r9,
		.r8 = r.r8,
		.rax = r.rax,
		.rcx = r.rcx,
		.rdx = r.rdx,
		.rsi = r.rsi,
		.rdi = r.rdi,
		.orig_rax = UINT64_MAX,
		.rip = r.rip,
		.cs = s.cs.selector,
		.eflags = r.rflags,
		.rsp = r.rsp,
		.ss = s.ss.selector,
		.fs_base = s.fs.base,
		.gs_base = s.gs.base,
		.ds = s.ds.selector,
		.es = s.es.selector,
		.fs = s.fs.selector,
		.gs = s.gs.selector,
	};
	if (room < sizeof(regs))
		return error_set(err, -ENOSPC, "vcpu%u: no room for its registers", v->index);
	memcpy(out, &regs, sizeof(regs));
	return sizeof(regs);
}

bool arch_vcpu_exit(struct vcpu *v)
{
	/* The in-kernel chips leave no exits of x86's own but these, which need no action. */
	return v->run->exit_reason == KVM_EXIT_SET_TPR ||
	       v->run->exit_reason == KVM_EXIT_IOAPIC_EOI;
}

int arch_device_tree(struct machine *m, void **out, size_t *len, struct gw_error *err)
{
	(void)m;
	(void)out;
	(void)len;
	return error_set(err, -ENOTSUP,
	                 "an x86-64 machine is described to its guest by ACPI tables, not by a "
	                 "device tree");
}

int arch_reset(struct machine *m, struct gw_error *err)
{
	int r = chips_reset(m->arch->chips, err);

	vmgenid_write(m->arch->vmgenid);
	for (unsigned i = 0; i < m->vcpu_count && !r; i++)
		r = vcpu_state_set(m->vcpus[i], &m->vcpus[i]->arch->power_on, err);
	return r ? r : x86_boot(m, err);
}
