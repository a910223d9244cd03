/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chips that KVM emulates: participants "irqchip" (both 8259 and the
 * IOAPIC) and "pit".
 * Source: KVM API, 4.24 to 4.26 (irqchip), 4.71 and 4.72 (PIT).
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"

#include <stdio.h>
#include <string.h>

static const char *const irqchip_names[] = {
	[KVM_IRQCHIP_PIC_MASTER] = "8259 master",
	[KVM_IRQCHIP_PIC_SLAVE] = "8259 slave",
	[KVM_IRQCHIP_IOAPIC] = "IOAPIC",
};
#define IRQCHIPS ARRAY_SIZE(irqchip_names)

struct chips {
	struct machine *machine;
	struct participant irqchip, pit;
	/* what a reset goes back to */
	struct kvm_irqchip irqchip_power_on[IRQCHIPS];
	struct kvm_pit_state2 pit_power_on;
	/* what has come so far */
	unsigned irqchips_loaded, pits_loaded;
};

static int get_irqchip(struct chips *c, uint32_t id, struct kvm_irqchip *out, struct gw_error *err)
{
	int r;

	memset(out, 0, sizeof(*out));
	out->chip_id = id;
	r = io_ioctl(c->machine->vm_fd, KVM_GET_IRQCHIP, out);
	return r < 0 ? error_set_sys(err, r, "KVM_GET_IRQCHIP (%s)", irqchip_names[id]) : 0;
}

static int set_irqchip(struct chips *c, const struct kvm_irqchip *chip, struct gw_error *err)
{
	int r = io_ioctl(c->machine->vm_fd, KVM_SET_IRQCHIP, (void *)(uintptr_t)chip);

	return r < 0 ? error_set_sys(err, r, "KVM_SET_IRQCHIP (%s)", irqchip_names[chip->chip_id])
	             : 0;
}

static int get_pit(struct chips *c, struct kvm_pit_state2 *out, struct gw_error *err)
{
	int r = io_ioctl(c->machine->vm_fd, KVM_GET_PIT2, out);

	return r < 0 ? error_set_sys(err, r, "KVM_GET_PIT2") : 0;
}

static int set_pit(struct chips *c, const struct kvm_pit_state2 *pit, struct gw_error *err)
{
	int r = io_ioctl(c->machine->vm_fd, KVM_SET_PIT2, (void *)(uintptr_t)pit);

	return r < 0 ? error_set_sys(err, r, "KVM_SET_PIT2") : 0;
}

/* ---- irqchip ------------------------------------------------------------------ */

static struct chips *from_irqchip(struct participant *p)
{
	return container_of(p, struct chips, irqchip);
}

/* Of MSIs too, which go to the vCPUs' local APICs: those are read later. */
static int irqchip_stop(struct participant *p, struct gw_error *err)
{
	return irqs_flush(from_irqchip(p)->machine->irqs, err);
}

static int irqchip_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		struct kvm_irqchip chip;
		int r = get_irqchip(from_irqchip(p), i, &chip, err);

		if (!r)
			r = sink_record(sink, p, (uint16_t)(i + 1), &chip, sizeof(chip), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int irqchip_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                        size_t len, struct gw_error *err)
{
	struct kvm_irqchip chip;

	(void)version;
	if (len != sizeof(chip) || !type || type > IRQCHIPS)
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no irqchip", type,
		                 len);
	memcpy(&chip, buf, sizeof(chip));
	if (chip.chip_id != type - 1u)
		return error_set(err, -EINVAL, "record of type %u holds chip %u", type,
		                 chip.chip_id);
	from_irqchip(p)->irqchips_loaded |= 1u << chip.chip_id;
	return set_irqchip(from_irqchip(p), &chip, err);
}

static int irqchip_settle(struct participant *p, struct gw_error *err)
{
	unsigned missing = ~from_irqchip(p)->irqchips_loaded & ((1u << IRQCHIPS) - 1);

	if (missing)
		return error_set(err, -EINVAL, "%s did not come",
		                 irqchip_names[__builtin_ctz(missing)]);
	return 0;
}

static const struct participant_ops irqchip_ops = {
	.kind = "irqchip-x86",
	.version = 1,
	.class = PARTICIPANT_CHIP,
	.stop = irqchip_stop,
	.save = irqchip_save,
	.load = irqchip_load,
	.settle = irqchip_settle,
};

/* ---- PIT ------------------------------------------------------------------------ */

static struct chips *from_pit(struct participant *p)
{
	return container_of(p, struct chips, pit);
}

static int pit_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct kvm_pit_state2 pit;
	int r = get_pit(from_pit(p), &pit, err);

	return r < 0 ? r : sink_record(sink, p, 1, &pit, sizeof(pit), err);
}

static int pit_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	(void)version;
	if (type != 1 || len != sizeof(struct kvm_pit_state2))
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no PIT", type,
		                 len);
	from_pit(p)->pits_loaded++;
	return set_pit(from_pit(p), buf, err);
}

static int pit_settle(struct participant *p, struct gw_error *err)
{
	return from_pit(p)->pits_loaded == 1 ? 0
	                                     : error_set(err, -EINVAL, "its state did not come");
}

static const struct participant_ops pit_ops = {
	.kind = "pit",
	.version = 1,
	.class = PARTICIPANT_CHIP,
	.save = pit_save,
	.load = pit_load,
	.settle = pit_settle,
};

/* ---- for the machine --------------------------------------------------------------- */

static int create_in_kvm(struct machine *m, struct gw_error *err)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int r = io_ioctl(m->vm_fd, KVM_CREATE_IRQCHIP, NULL);

	if (r < 0)
		return error_set_sys(err, r, "KVM_CREATE_IRQCHIP");
	r = io_ioctl(m->vm_fd, KVM_CREATE_PIT2, &pit);
	return r < 0 ? error_set_sys(err, r, "KVM_CREATE_PIT2") : 0;
}

int chips_create(struct machine *m, struct chips **out, struct gw_error *err)
{
	struct chips *c = calloc(1, sizeof(*c));
	struct {
		struct participant *p;
		const struct participant_ops *ops;
		const char *name;
	} parts[] = {
		{ &c->irqchip, &irqchip_ops, "irqchip" },
		{ &c->pit, &pit_ops, "pit" },
	};
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "chips: out of memory");
	c->machine = m;
	r = create_in_kvm(m, err);
	for (uint32_t i = 0; i < IRQCHIPS && !r; i++)
		r = get_irqchip(c, i, &c->irqchip_power_on[i], err);
	if (!r)
		r = get_pit(c, &c->pit_power_on, err);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && !r; i++) {
		parts[i].p->ops = parts[i].ops;
		snprintf(parts[i].p->name, sizeof(parts[i].p->name), "%s", parts[i].name);
		r = participant_add(&m->participants, parts[i].p, err);
	}
	if (r < 0) {
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

void chips_destroy(struct chips *chips)
{
	free(chips);
}

int chips_reset(struct chips *c, struct gw_error *err)
{
	int r = 0;

	for (uint32_t i = 0; i < IRQCHIPS && !r; i++)
		r = set_irqchip(c, &c->irqchip_power_on[i], err);
	return r ? r : set_pit(c, &c->pit_power_on, err);
}
