/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: what such a device has in common with one of the host's, and what goes on while its
 * server is on its way back. */
#include "vfu_world.h"

#include "vfio/vfio.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

/* ---- the configuration, and what is told -----------------------------------------------------
 */

Test(vfio_user, the_keys_of_all_passed_through_devices)
{
	static const struct device_driver *const list[] = { &vfio_user_pci_driver,
		                                            &vfio_pci_driver };
	static const char text[] =
	        "{\"memory\":\"64M\",\"boot\":{\"kernel\":\"k\"},\"devices\":[{\"id\":\"a\","
	        "\"type\":\"%s\",%s,\"dirty-tracking\":\"none-ok\",\"rom\":\"none\","
	        "\"request-timeout\":7,\"compat\":{\"ignore\":\"revision\"},"
	        "\"migration\":{\"without\":\"p2p\"}}]}";
	static const char *const types[][2] = { { "vfio-user-pci", "\"socket\":\"s\"" },
		                                { "vfio-pci", "\"host\":\"0000:00:01.0\"" } };
	const struct device_drivers drivers = { list, ARRAY_SIZE(list) };
	struct config *config = malloc(sizeof(*config));
	struct gw_error err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		const struct vfio_options *o = (const void *)config->devices[0].options;
		char json[512];

		snprintf(json, sizeof(json), text, types[i][0], types[i][1]);
		cr_assert_eq(config_parse(json, "test", &drivers, config, &err), 0, "%s", err.text);
		cr_assert_eq(o->dirty_tracking, VFIO_DIRTY_NONE_OK);
		cr_assert_eq(o->request_timeout, 7);
		cr_assert_str_eq(o->rom, "none");
		cr_assert_str_eq(o->compat_ignore, "revision");
		cr_assert_str_eq(o->without, "p2p");
	}
	free(config);
}

static const cJSON *field(const cJSON *info, const char *name)
{
	const cJSON *found = cJSON_GetObjectItemCaseSensitive(info, name);

	cr_assert(found, "no %s", name);
	return found;
}

Test(vfio_user, what_query_devices_says)
{
	const cJSON *cap, *list;
	struct world w;
	cJSON *info = cJSON_CreateObject();

	cr_assert_eq(vfio_pci_driver.describe, vfio_user_pci_driver.describe);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert(vfio_user_pci_driver.describe(w.device, info));
	cr_assert_str_eq(field(info, "server")->valuestring, "descriptor \"server\"");
	cr_assert(cJSON_IsTrue(field(info, "connected")));
	cr_assert_str_eq(field(info, "backend")->valuestring, "vfio-user");
	cr_assert_str_eq(field(info, "interrupt")->valuestring, "none");
	cr_assert_eq(field(info, "vectors")->valueint, 0);
	cr_assert_eq(field(info, "function")->valueint, 0);
	cr_assert(cJSON_IsTrue(field(info, "resets-alone")));
	cr_assert_str_eq(field(field(info, "state"), "protocol")->valuestring, "v2");
	list = field(info, "capabilities");
	cr_assert_eq(cJSON_GetArraySize(list), 1);
	cap = cJSON_GetArrayItem(list, 0);
	cr_assert_eq(field(cap, "id")->valueint, PCI_CAP_ID_MSIX);
	cr_assert(cJSON_IsTrue(field(cap, "shown")));
	cr_assert(field(cap, "reason")->valuestring[0]);
	cJSON_Delete(info);
	info = cJSON_CreateObject();
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	cr_assert(vfio_user_pci_driver.describe(w.device, info));
	cr_assert(cJSON_IsFalse(field(info, "connected")));
	cJSON_Delete(info);
	end(&w);
}

/* ---- its expansion ROM ------------------------------------------------------------------------
 */

static uint32_t rom_at(struct world *w, uint64_t offset)
{
	uint32_t value;

	machine_lock(w->vm->m);
	value = (uint32_t)vfio_bar_read(&w->pci->function, PCI_ROM, offset, 4);
	machine_unlock(w->vm->m);
	return value;
}

static void begin_with_rom(struct world *w)
{
	begin(w);
	w->s.rom_size = sizeof(w->s.rom);
	memcpy(w->s.rom,
	       "\x55\xaa"
	       "ab",
	       4);
	memcpy(w->s.rom + 0x1ffc, "last", 4);
}

Test(vfio_user, its_rom_is_read_once_when_the_guest_looks)
{
	struct world w;
	unsigned before;

	begin_with_rom(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(w.pci->function.bars[PCI_ROM].size, 8192);
	before = w.s.seen[WIRE_REGION_READ];
	cr_assert_eq(rom_at(&w, 0), 0x6261aa55);
	cr_assert_eq(rom_at(&w, 0x1ffc), 0x7473616c);
	cr_assert_eq(w.s.seen[WIRE_REGION_READ], before + 2, "in two messages");
	end(&w);
	begin_with_rom(&w);
	strcpy(w.options.common.rom, "none");
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(w.pci->function.bars[PCI_ROM].size, 0);
	end(&w);
}

/* A guest that looks while there is no server finds nothing, and what is there when one is. */
Test(vfio_user, its_rom_while_its_server_is_gone)
{
	struct world w;

	begin_with_rom(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	stop(&w);
	cr_assert_eq(rom_at(&w, 0), 0xffffffff, "nobody has noticed yet");
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	cr_assert_eq(rom_at(&w, 0), 0xffffffff);
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	cr_assert_eq(rom_at(&w, 0), 0x6261aa55);
	end(&w);
}

/* ---- its server wants it back -------------------------------------------------------------------
 */

static bool is_requested(void *opaque)
{
	return vmachine_event(((struct world *)opaque)->vm, "VFIO_DEVICE_REQUEST");
}

static bool is_in_error(void *opaque)
{
	return vmachine_event(((struct world *)opaque)->vm, "VFIO_DEVICE_ERROR");
}

static unsigned requests(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->vm->event_count; i++)
		n += !strcmp(w->vm->events[i].name, "VFIO_DEVICE_REQUEST");
	return n;
}

Test(vfio_user, its_server_wants_it_back)
{
	struct world w;

	begin(&w);
	w.s.notifies = 1;
	w.options.common.request_timeout = 7;
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_geq(w.s.request_fd, 0);
	io_eventfd_signal(w.s.request_fd);
	cr_assert(vmachine_wait(w.vm, is_requested, &w, patience_ms()));
	cr_assert(strstr(vmachine_event(w.vm, "VFIO_DEVICE_REQUEST"), "\"timeout\":7000"), "%s",
	          vmachine_event(w.vm, "VFIO_DEVICE_REQUEST"));
	cr_assert(w.device->wanted_back);
	for (unsigned i = 0; i < 5; i++) {
		io_eventfd_signal(w.s.request_fd);
		vmachine_turn(w.vm);
	}
	cr_assert_leq(requests(&w), 2, "who shouts is not heard each time");
	end(&w);
}

/* A server that was restarted is told where to say so. */
Test(vfio_user, a_server_that_came_back_finds_it_in_error)
{
	struct world w;

	begin(&w);
	w.s.notifies = 1;
	cr_assert(add(&w), "%s", w.vm->error);
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	cr_assert_geq(w.s.request_fd, 0);
	cr_assert_geq(w.s.error_fd, 0);
	io_eventfd_signal(w.s.error_fd);
	cr_assert(vmachine_wait(w.vm, is_in_error, &w, patience_ms()));
	end(&w);
}

/* ---- on its way back ---------------------------------------------------------------------------
 */

static bool is_ready(void *opaque)
{
	struct vfu *c = ((struct vfu_device *)((struct world *)opaque)->pci->backend)->vfu;
	bool ready;

	pthread_mutex_lock(&c->lock);
	ready = c->state == VFU_READY;
	pthread_mutex_unlock(&c->lock);
	return ready;
}

/* Memory that comes or goes after the new server was told of all, and before it is used. */
Test(vfio_user, memory_that_changes_while_its_server_is_set_up)
{
	struct world w;
	struct vfio_space *space;
	struct gw_error err = { 0 };
	const int fd = memfd_create("more", MFD_CLOEXEC);
	const struct vfio_mapping more = { .iova = GIB, .size = MIB, .fd = fd };

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	space = w.pci->space;
	for (unsigned goes = 0; goes < 2; goes++) {
		stop(&w);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
		vmachine_forget_events(w.vm);
		restart(&w);
		wait_until(is_ready(&w));
		if (goes)
			space->ops->unmap(space, GIB, MIB);
		else
			cr_assert_eq(space->ops->map(space, &more, &err), 0, "%s", err.text);
		/* This server goes, with what it was told; the next one is right. */
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
		cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), "memory has changed"), "%s",
		          vmachine_event(w.vm, "DEVICE_BROKEN"));
		stop(&w);
		restart(&w);
		cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
		cr_assert_eq(w.s.map_count, goes ? 1 : 2);
		vmachine_forget_events(w.vm);
	}
	close(fd);
	end(&w);
}

/* A server that came back says nothing: nobody waits for that, and it can be taken away. */
Test(vfio_user, unplugged_while_it_is_set_up)
{
	struct world w;
	int64_t begun;

	begin(&w);
	w.options.timeout = 10 * (uint32_t)patience_ms();
	cr_assert(add(&w), "%s", w.vm->error);
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	w.s.on = WIRE_DMA_MAP;
	w.s.lie = LIE_SILENCE;
	w.s.seen[WIRE_DMA_MAP] = 0;
	restart(&w);
	wait_until(__atomic_load_n(&w.s.seen[WIRE_DMA_MAP], __ATOMIC_ACQUIRE));
	cr_assert_eq(w.s.seen[WIRE_DMA_MAP], 1);
	begun = now_ms();
	/* The guest moves another device's BAR. */
	w.pci->space->ops->unmap(w.pci->space, GIB, MIB);
	end(&w);
	cr_assert_lt(now_ms() - begun, patience_ms());
}

static int64_t set_up_by(struct world *w)
{
	return ((struct vfu_device *)w->pci->backend)->vfu->set_up_by;
}

/* Each reply may come in time, and all of them together too late. */
Test(vfio_user, setting_it_up_has_an_end)
{
	struct world w;
	int64_t begun;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(set_up_by(&w), 0, "it is set up");
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	begun = now_ms();
	restart(&w);
	wait_until(is_ready(&w));
	cr_assert_geq(set_up_by(&w), begun + 12 * patience_ms());
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	cr_assert_eq(set_up_by(&w), 0, "again");
	vmachine_forget_events(w.vm);
	begun = now_ms();
	((struct vfu_device *)w.pci->backend)->vfu->set_up_by = begun + 300;
	w.s.on = WIRE_REGION_READ;
	w.s.lie = LIE_SILENCE;
	cr_assert_eq(bar_read(&w, 0, 4), 0xffffffff);
	cr_assert_geq(now_ms() - begun, 300);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), "setting it up takes too long"),
	          "%s", vmachine_event(w.vm, "DEVICE_BROKEN"));
	end(&w);
}

/* One that comes back and goes again at once is waited for longer each time. */
Test(vfio_user, a_server_that_never_stays)
{
	const int64_t begun = now_ms();
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	for (unsigned i = 0; i < 4; i++) {
		stop(&w);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
		vmachine_forget_events(w.vm);
		restart(&w);
		cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
		vmachine_forget_events(w.vm);
	}
	cr_assert_geq(now_ms() - begun, 100 + 200 + 400 + 800);
	end(&w);
}

/* It is taken away between a new server's description and the telling of memory. */
Test(vfio_user, no_server_is_told_of_memory_any_more)
{
	struct gw_error err = { 0 };
	struct vfu_device *d;
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	d = w.pci->backend;
	vfu_space_set(d->space, NULL);
	cr_assert_eq(vfu_space_tell_again(d->space, &err), -ENOTCONN);
	cr_assert_eq(w.s.map_count, 1);
	vfu_space_set(d->space, d->vfu);
	end(&w);
}

Test(vfio_user, a_server_twice_in_one_machine_is_refused)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct vfio_user_options o = { .timeout = 1000 };
	struct world w;

	snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/godwit-twice-%d", getpid());
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	/* It came by a descriptor here, and is this socket's. */
	strcpy(((struct vfu_device *)w.pci->backend)->socket, at.sun_path);
	strcpy(o.socket, at.sun_path);
	cr_assert_null(vmachine_add(w.vm, &vfio_user_pci_driver, &o, sizeof(o)));
	cr_assert(strstr(w.vm->error, "of this machine already"), "%s", w.vm->error);
	cr_assert(strstr(w.vm->error, w.device->id), "%s", w.vm->error);
	end(&w);
	unlink(at.sun_path);
	close(fd);
}
