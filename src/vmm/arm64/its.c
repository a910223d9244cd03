/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt translation service: the registers, and the tables that it
 * keeps in the guest's memory.
 *
 * It works from a cache of its own. Saving writes that to memory, so it is
 * done before memory is saved; setting the registers comes after memory has
 * been loaded. Order of the registers (arm-vgic-its.rst, "ITS Restore
 * Sequence"): the command queue's base resets its read pointer, and the enable
 * bit comes last, when the tables have been read.
 */
#include "vmm/arm64/gic.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/layout.h"

/* IHI 0069, 12.19. The last one is set behind the tables. */
static const struct {
	const char *name;
	uint32_t offset;
} registers[ITS_REGISTERS] = {
	{ "GITS_IIDR", 0x0004 },    { "GITS_CBASER", 0x0080 }, { "GITS_CREADR", 0x0090 },
	{ "GITS_CWRITER", 0x0088 }, { "GITS_BASER0", 0x0100 }, { "GITS_BASER1", 0x0108 },
	{ "GITS_BASER2", 0x0110 },  { "GITS_BASER3", 0x0118 }, { "GITS_BASER4", 0x0120 },
	{ "GITS_BASER5", 0x0128 },  { "GITS_BASER6", 0x0130 }, { "GITS_CTLR", 0x0000 },
};

static int control(int fd, uint64_t what)
{
	return attr_set(fd, KVM_DEV_ARM_VGIC_GRP_CTRL, what, NULL);
}

int its_create(struct machine *m, int *fd, struct gw_error *err)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_ITS };
	const uint64_t gpa = LAYOUT_ITS;
	int r = io_ioctl(m->vm_fd, KVM_CREATE_DEVICE, &device);

	if (r < 0)
		return error_set_sys(err, r, "ITS: KVM_CREATE_DEVICE");
	*fd = (int)device.fd;
	r = attr_set(*fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &gpa);
	return r < 0 ? error_set_sys(err, r, "ITS: setting its address") : 0;
}

int its_begin(int fd, struct gw_error *err)
{
	int r = control(fd, KVM_DEV_ARM_VGIC_CTRL_INIT);

	return r < 0 ? error_set_sys(err, r, "ITS: KVM_DEV_ARM_VGIC_CTRL_INIT") : 0;
}

int its_reset(int fd, struct gw_error *err)
{
	int r = control(fd, KVM_DEV_ARM_ITS_CTRL_RESET);

	return r < 0 ? error_set_sys(err, r, "ITS: KVM_DEV_ARM_ITS_CTRL_RESET") : 0;
}

int its_save_tables(int fd, struct gw_error *err)
{
	int r = control(fd, KVM_DEV_ARM_ITS_SAVE_TABLES);

	if (r == -EACCES)
		return error_set(err, r,
		                 "ITS: the host's GICv4 holds the guest's interrupts where they "
		                 "cannot be read; it has to be off (kvm-arm.vgic_v4_enable=0)");
	return r < 0 ? error_set_sys(err, r, "ITS: KVM_DEV_ARM_ITS_SAVE_TABLES") : 0;
}

int its_get(int fd, struct its_values *out, struct gw_error *err)
{
	for (unsigned i = 0; i < ITS_REGISTERS; i++) {
		int r = attr_get(fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, registers[i].offset,
		                 &out->value[i]);

		if (r < 0)
			return error_set_sys(err, r, "ITS: reading %s", registers[i].name);
	}
	return 0;
}

/* KVM puts attributes of memory that it has in place of those that it lacks, so a register that
 * nobody has written yet would not stay 0 if that were set. */
static bool has_value(int fd, unsigned i, uint64_t value)
{
	uint64_t now;

	return attr_get(fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, registers[i].offset, &now) == 0 &&
	       now == value;
}

int its_set(int fd, const struct its_values *values, struct gw_error *err)
{
	for (unsigned i = 0; i < ITS_REGISTERS; i++) {
		int r = 0;

		if (i == ITS_REGISTERS - 1)
			r = control(fd, KVM_DEV_ARM_ITS_RESTORE_TABLES);
		if (r < 0)
			return error_set_sys(err, r,
			                     "ITS: KVM_DEV_ARM_ITS_RESTORE_TABLES: what is in the "
			                     "guest's memory");
		if (has_value(fd, i, values->value[i]))
			continue;
		r = attr_set(fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, registers[i].offset,
		             &values->value[i]);
		if (r < 0)
			return error_set_sys(err, r, "ITS: setting %s to 0x%llx", registers[i].name,
			                     (unsigned long long)values->value[i]);
	}
	return 0;
}
