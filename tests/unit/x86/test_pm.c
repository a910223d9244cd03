/* SPDX-License-Identifier: Apache-2.0 */
/* Events, sleep, reset and hotplug by the registers that the DSDT uses. */
#include "pins.h"

#include "vmm/pci.h"
#include "vmm/pm.h"
#include "vmm/x86/pm_ports.h"

#include <stdio.h>

struct told {
	unsigned resets, offs;
};

static void on_reset(void *opaque, const char *why)
{
	cr_assert_not_null(why);
	((struct told *)opaque)->resets++;
}

static void on_off(void *opaque)
{
	((struct told *)opaque)->offs++;
}

static struct platform *begin(struct told *told)
{
	struct platform *p = platform_new_kvm();
	struct gw_error err = { 0 };

	*told = (struct told){ 0 };
	p->m.notify = (struct machine_notify){ .opaque = told,
		                               .reset_requested = on_reset,
		                               .powered_off = on_off };
	cr_assert_eq(pm_create(&p->m, &p->m.pm, &err), 0, "%s", err.text);
	cr_assert_eq(pci_create(&p->m, &p->m.pci, &err), 0, "%s", err.text);
	return p;
}

static void end(struct platform *p)
{
	pci_destroy(p->m.pci);
	pm_destroy(p->m.pm);
	platform_free(p);
}

static uint32_t get(struct platform *p, unsigned reg)
{
	return (uint32_t)bus_read(&p->m.pio, PM_PORT + reg, 4);
}

static void put(struct platform *p, unsigned reg, unsigned size, uint32_t value)
{
	bus_write(&p->m.pio, PM_PORT + reg, size, value);
}

Test(pm, sleep_and_reset)
{
	struct told told;
	struct platform *p = begin(&told);

	put(p, PM_SLEEP_CONTROL, 1, 5 << 2);
	cr_assert_eq(told.offs, 0, "not without the enable bit");
	put(p, PM_SLEEP_CONTROL, 1, 3 << 2 | 0x20);
	cr_assert_eq(told.offs, 0, "not S3");
	put(p, PM_SLEEP_CONTROL, 4, 5 << 2 | 0x20);
	cr_assert_eq(told.offs, 0, "one byte wide");
	put(p, PM_SLEEP_CONTROL, 1, 5 << 2 | 0x20);
	cr_assert_eq(told.offs, 1);
	put(p, PM_RESET, 1, 0);
	cr_assert_eq(told.resets, 0);
	put(p, PM_RESET, 1, PM_RESET_VALUE);
	cr_assert_eq(told.resets, 1);
	cr_assert_eq(bus_read(&p->m.pio, PM_PORT + PM_SLEEP_STATUS, 1), 0);
	cr_assert_eq(bus_read(&p->m.pio, PM_PORT + PM_EVENTS, 2), 0xffff);
	end(p);
}

Test(pm, power_button)
{
	struct told told;
	struct platform *p = begin(&told);

	cr_assert_eq(platform_pin(p, PM_GSI), 0);
	pm_power_button(p->m.pm);
	cr_assert_eq(platform_pin(p, PM_GSI), 1);
	cr_assert_eq(get(p, PM_EVENTS), PM_EVENT_POWER_BUTTON);
	cr_assert_eq(platform_pin(p, PM_GSI), 0, "a read clears");
	cr_assert_eq(get(p, PM_EVENTS), 0);
	pm_power_button(p->m.pm);
	pm_reset(p->m.pm);
	cr_assert_eq(platform_pin(p, PM_GSI), 0);
	cr_assert_eq(get(p, PM_EVENTS), 0);
	end(p);
}

static unsigned ejections;

static void on_ejected(struct pci_function *f)
{
	(void)f;
	ejections++;
}

Test(pm, hotplug)
{
	static const struct pci_function_ops ops = { .ejected = on_ejected };
	struct told told;
	struct platform *p = begin(&told);
	struct pci_function *f = calloc(1, sizeof(*f));
	struct gw_error err = { 0 };

	f->ops = &ops;
	snprintf(f->name, sizeof(f->name), "net0");
	cr_assert_eq(pci_plug(p->m.pci, f, 6, true, &err), 0);
	cr_assert_eq(platform_pin(p, PM_GSI), 1);
	cr_assert_eq(get(p, PM_EVENTS), PM_EVENT_PCI);
	cr_assert_eq(get(p, PM_PCI_UP), 1u << 6);
	cr_assert_eq(get(p, PM_PCI_UP), 0);
	cr_assert_eq(get(p, PM_PCI_DOWN), 0);
	cr_assert_eq(get(p, PM_PCI_PRESENT), 1u << 6 | 1);
	cr_assert_eq(pci_request_unplug(p->m.pci, f, &err), 0);
	cr_assert(f->ejecting);
	cr_assert_eq(get(p, PM_EVENTS), PM_EVENT_PCI);
	cr_assert_eq(get(p, PM_PCI_DOWN), 1u << 6);
	put(p, PM_PCI_EJECT, 4, 1u << 5 | 1);
	cr_assert_eq(ejections, 0);
	put(p, PM_PCI_EJECT, 4, 1u << 6);
	cr_assert_eq(ejections, 1);
	cr_assert_eq(get(p, PM_PCI_PRESENT), 1);
	cr_assert_eq(pci_request_unplug(p->m.pci, f, &err), -ENODEV);
	end(p);
	free(f);
}

Test(pm, state)
{
	struct told told;
	struct platform *p = begin(&told), *q = begin(&told);
	struct participant *from = participant_find(&p->m.participants, "pm");
	struct participant *to = participant_find(&q->m.participants, "pm");
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	pm_power_button(p->m.pm);
	pm_pci_eject_wanted(p->m.pm, 9);
	kept_save(kept, from);
	cr_assert_eq(kept_load(kept, to, &err), 0, "%s", err.text);
	cr_assert_eq(platform_pin(q, PM_GSI), 0, "the controller may not have its state yet");
	cr_assert_eq(to->ops->settle(to, &err), 0);
	cr_assert_eq(platform_pin(q, PM_GSI), 1);
	cr_assert_eq(get(q, PM_EVENTS), PM_EVENT_POWER_BUTTON | PM_EVENT_PCI);
	cr_assert_eq(get(q, PM_PCI_DOWN), 1u << 9);
	kept->records[0].len = 11;
	cr_assert_eq(kept_load(kept, to, &err), -EINVAL);
	free(kept);
	end(p);
	end(q);
}
