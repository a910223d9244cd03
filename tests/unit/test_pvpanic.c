/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include "vmm/device_action.h"
#include "vmm/devices.h"
#include "vmm/pci_device.h"

struct card {
	struct vmachine *vm;
	struct pci_device *d;
	uint64_t bar;
};

static void begin(struct card *c, uint32_t action)
{
	struct device *d;

	c->vm = vmachine_new(2 * MIB);
	d = vmachine_add(c->vm, &pvpanic_driver, &action, sizeof(action));
	cr_assert_not_null(d, "%s", c->vm->error);
	c->d = container_of(d, struct pci_device, device);
	pci_config_write(&c->d->function, 4, 2, 2);
	c->bar = c->d->function.bars[0].address;
}

static void tell(struct card *c, uint8_t events)
{
	machine_lock(c->vm->m);
	bus_write(&c->vm->m->mmio, c->bar, 1, events);
	machine_unlock(c->vm->m);
}

Test(pvpanic, identity_and_events)
{
	struct card c;

	begin(&c, ACTION_NONE);
	cr_assert_eq(pci_get(c.d->function.config, 0, 4), 0x00111b36);
	cr_assert_eq(bus_read(&c.vm->m->mmio, c.bar, 1), 3);
	cr_assert_eq(bus_read(&c.vm->m->mmio, c.bar + 4, 4), 0);
	tell(&c, 0xfc);
	cr_assert_eq(c.vm->event_count, 0, "nothing that is known");
	tell(&c, 2);
	cr_assert_str_eq(vmachine_event(c.vm, "GUEST_CRASHLOADED"), "{\"action\":\"run\"}");
	tell(&c, 1);
	cr_assert_str_eq(vmachine_event(c.vm, "GUEST_PANICKED"), "{\"action\":\"run\"}");
	for (unsigned i = 0; i < 10; i++)
		tell(&c, 3);
	cr_assert_eq(c.vm->event_count, 2, "each once");
	machine_lock(c.vm->m);
	pci_reset(c.vm->m->pci);
	machine_unlock(c.vm->m);
	pci_config_write(&c.d->function, 4, 2, 2);
	tell(&c, 1);
	cr_assert_eq(c.vm->event_count, 3, "after a reset again");
	cr_assert_eq(c.vm->resets + c.vm->poweroffs + c.vm->pauses, 0);
	vmachine_free(c.vm);
}

Test(pvpanic, actions)
{
	static const struct {
		uint32_t action;
		const char *data;
		unsigned pauses, resets, poweroffs;
	} rows[] = {
		{ ACTION_PAUSE, "{\"action\":\"pause\"}", 1, 0, 0 },
		{ ACTION_RESET, "{\"action\":\"reset\"}", 0, 1, 0 },
		{ ACTION_POWEROFF, "{\"action\":\"poweroff\"}", 0, 0, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct card c;

		begin(&c, rows[i].action);
		tell(&c, 1);
		cr_assert_str_eq(vmachine_event(c.vm, "GUEST_PANICKED"), rows[i].data);
		cr_assert_eq(c.vm->pauses, rows[i].pauses);
		cr_assert_eq(c.vm->resets, rows[i].resets);
		cr_assert_eq(c.vm->poweroffs, rows[i].poweroffs);
		vmachine_free(c.vm);
	}
}

Test(pvpanic, action_can_be_set)
{
	cJSON *pause = cJSON_Parse("{\"action\":\"pause\"}"), *ret = NULL;
	cJSON *nmi = cJSON_Parse("{\"action\":\"nmi\"}");
	struct gw_error err = { 0 };
	struct card c;

	begin(&c, ACTION_NONE);
	cr_assert_eq(pvpanic_driver.command(&c.d->device, "set-action", nmi, &ret, &err), -EINVAL);
	cr_assert(strstr(err.text, "\"nmi\""), "%s", err.text);
	cr_assert_eq(pvpanic_driver.command(&c.d->device, "set-action", NULL, &ret, &err), -EINVAL);
	cr_assert_eq(pvpanic_driver.command(&c.d->device, "x", pause, &ret, &err), -EOPNOTSUPP);
	cr_assert_eq(pvpanic_driver.command(&c.d->device, "set-action", pause, &ret, &err), 0);
	tell(&c, 1);
	cr_assert_str_eq(vmachine_event(c.vm, "GUEST_PANICKED"), "{\"action\":\"pause\"}");
	cr_assert_eq(c.vm->pauses, 1);
	cJSON_Delete(pause);
	cJSON_Delete(nmi);
	vmachine_free(c.vm);
}

Test(pvpanic, state)
{
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };
	struct card a, b;

	begin(&a, ACTION_NONE);
	begin(&b, ACTION_NONE);
	tell(&a, 1);
	kept_save(kept, &a.d->participant);
	pci_config_write(&b.d->function, 4, 2, 0);
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), 0, "%s", err.text);
	cr_assert(b.d->function.bars[0].mapped);
	tell(&b, 1);
	cr_assert_eq(b.vm->event_count, 0, "that has been told");
	kept->records[0].bytes[kept->records[0].len - 1] = 0x80;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	kept->records[0].len--;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	cr_assert(strstr(err.text, "short"), "%s", err.text);
	kept->records[0].len += 2;
	kept->records[0].bytes[kept->records[0].len - 2] = 0;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	cr_assert(strstr(err.text, "long"), "%s", err.text);
	kept->records[0].len = 100;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	kept->records[0].type = 7;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	free(kept);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}

Test(pvpanic, unplugged)
{
	struct card c;
	struct gw_error err = { 0 };

	begin(&c, ACTION_NONE);
	cr_assert_eq(pvpanic_driver.request_unplug(&c.d->device, &err), 0);
	cr_assert_null(c.vm->m->devices);
	cr_assert_str_eq(c.vm->gone, "pvpanic0");
	cr_assert_eq(bus_read(&c.vm->m->mmio, c.bar, 1), 0xff);
	vmachine_free(c.vm);
}
