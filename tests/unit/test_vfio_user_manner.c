/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: a server that speaks as libvfio-user does (tests/manner/manner.h), each row by itself
 * and all together. */
#include "vfu_world.h"

#include "manner/manner.h"

#include <dirent.h>

static struct vfu_device *device_of(struct world *w)
{
	return w->pci->backend;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The device is used, and nothing has broken it. */
static void works(struct world *w)
{
	bar_write(w, 0x20, 4, 0x55);
	cr_assert_eq(bar_read(w, 0x20, 4), 0x55);
	cr_assert_not(vmachine_event(w->vm, "DEVICE_BROKEN"), "%s",
	              vmachine_event(w->vm, "DEVICE_BROKEN"));
}

/* ---- features ------------------------------------------------------------------------------ */

static void without_features(unsigned rows)
{
	struct world w;

	manner_set(rows);
	begin(&w);
	w.s.no_features = true;
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_null(w.pci->state, "it offers no migration");
	cr_assert_not(w.pci->dirty.logs);
	works(&w);
	end(&w);
}

Test(vfio_user_manner, a_feature_that_it_does_not_have)
{
	without_features(0);
	without_features(MANNER_EINVAL);
}

static void step(struct world *w, enum vfio_step step)
{
	struct gw_error err;

	cr_assert_eq(vfio_state_step(w->pci->state, step, &err), 0, "%s", err.text);
}

Test(vfio_user_manner, padded_device_data)
{
	struct gw_error err;
	struct world w;
	char buf[64];

	manner_set(MANNER_PADDED);
	begin(&w);
	memcpy(w.s.data, "the state of the device", 23);
	w.s.data_len = 23;
	cr_assert(add(&w), "%s", w.vm->error);
	step(&w, VFIO_STOP);
	memset(buf, 'x', sizeof(buf));
	cr_assert_eq(vfio_state_read(w.pci->state, buf, sizeof(buf), &err), 23, "%s", err.text);
	cr_assert_eq(memcmp(buf, "the state of the devicexx", 25), 0, "and not a byte of padding");
	cr_assert_eq(vfio_state_read(w.pci->state, buf, sizeof(buf), &err), 0, "%s", err.text);
	step(&w, VFIO_RUN);
	works(&w);
	cr_assert_eq(logged(&w, "23 bytes of device data in a reply of 72"), 1, "%s", w.log);
	cr_assert_eq(logged(&w, "against the protocol"), 1, "once, though there were two: %s",
	             w.log);
	end(&w);
}

/* ---- errors ---------------------------------------------------------------------------------- */

Test(vfio_user_manner, an_error_with_a_payload)
{
	struct world w;

	manner_set(MANNER_ERROR_PAYLOAD);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	for (unsigned i = 0; i < 3; i++) {
		w.s.on = WIRE_REGION_READ;
		w.s.nth = 0;
		w.s.lie = LIE_EIO;
		cr_assert_eq(bar_read(&w, 0, 4), 0xffffffff);
		works(&w);
	}
	cr_assert_eq(logged(&w, "an error reply with a payload"), 1, "%s", w.log);
	end(&w);
}

/* ---- registers with an eventfd -----------------------------------------------------------------
 */

#define BELLS 4

static void with_io_fds(unsigned rows, const char *says)
{
	const struct vfu_device *d;
	struct world w;
	unsigned fds;

	manner_set(rows);
	begin(&w);
	fds = open_fds();
	w.s.bells = BELLS;
	cr_assert(add(&w), "%s", w.vm->error);
	d = device_of(&w);
	cr_assert_geq(d->io_count, BELLS, "0x%x", rows);
	for (unsigned i = 0; i < BELLS; i++) {
		cr_assert_eq(d->ios[i].offset, 4 * i);
		cr_assert_eq(d->ios[i].datamatch, 0x100 + i, "0x%x: 0x%llx", rows,
		             (unsigned long long)d->ios[i].datamatch);
		io_eventfd_signal(d->ios[i].fd);
		cr_assert_eq(read(w.s.bell_fds[i], &(uint64_t){ 0 }, 8), 8, "another's descriptor");
	}
	cr_assert_eq(logged(&w, "those registers are trapped"), says != NULL, "%s", w.log);
	cr_assert(!says || logged(&w, says), "%s", w.log);
	works(&w);
	vmachine_free(w.vm);
	vfu_server_stop(&w.s);
	w.vm = vmachine_new(RAM);
	cr_assert_leq(open_fds(), fds, "0x%x: descriptors are left open", rows);
	end(&w);
}

Test(vfio_user_manner, descriptors_for_registers)
{
	with_io_fds(0, NULL);
	with_io_fds(MANNER_WIDE_IO_FDS, NULL);
	with_io_fds(MANNER_SURPLUS_FDS, NULL);
	with_io_fds(MANNER_SHADOW_IO_FDS, "1 of 5 descriptors");
	with_io_fds(MANNER_MANY_IO_FDS, "16 of 80 descriptors");
	with_io_fds(MANNER_ALL, "17 of 81 descriptors");
}

Test(vfio_user_manner, more_descriptors_than_a_message_may_have)
{
	struct world w;

	manner_set(MANNER_SURPLUS_FDS);
	begin(&w);
	w.s.bells = BELLS;
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(logged(&w, "more than 16 descriptors; they are closed"), 1, "%s", w.log);
	end(&w);
}

Test(vfio_user_manner, a_descriptor_for_each_area)
{
	struct world w;
	unsigned fds;

	manner_set(MANNER_FD_PER_AREA);
	begin(&w);
	fds = open_fds();
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(w.pci->window_count, 2, "two pages of BAR 2");
	*(uint32_t *)w.pci->windows[1].hva = 0x1234;
	works(&w);
	cr_assert_eq(logged(&w, "3 descriptors where 1 belong"), 1, "%s", w.log);
	vmachine_free(w.vm);
	vfu_server_stop(&w.s);
	w.vm = vmachine_new(RAM);
	cr_assert_leq(open_fds(), fds, "descriptors are left open");
	end(&w);
}

/* ---- long messages ------------------------------------------------------------------------------
 */

Test(vfio_user_manner, a_server_that_reads_one_piece_of_a_message)
{
	static uint8_t data[200000], back[65536];
	struct gw_error err;
	struct world w;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	manner_set(MANNER_SHORT_RECV);
	begin(&w);
	w.s.caps = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
	cr_assert(add(&w), "%s", w.vm->error);
	step(&w, VFIO_BEGIN_LOAD);
	cr_assert_eq(vfio_state_write(w.pci->state, data, sizeof(data), &err), 0, "%s", err.text);
	step(&w, VFIO_RUN);
	cr_assert_eq(w.s.data_len, sizeof(data));
	cr_assert_eq(memcmp(w.s.data, data, sizeof(data)), 0);
	/* As the data section of migration v1 is written, where it is trapped. */
	cr_assert_eq(vfio_region_write(&w.pci->dev, 2, 0, data, 65536), 0);
	cr_assert_eq(memcmp(w.s.bar2, data, 65536), 0);
	cr_assert_leq(manner_longest(), 32768);
	/* What the server sends may be longer. */
	cr_assert_eq(vfio_region_read(&w.pci->dev, 2, 0, back, 65000), 0);
	cr_assert_eq(memcmp(back, data, 65000), 0);
	works(&w);
	end(&w);
}

/* ---- lost in the middle
 * ---------------------------------------------------------------------------
 */

static cJSON *described(struct world *w)
{
	cJSON *info = cJSON_CreateObject();

	cr_assert(vfio_user_pci_driver.describe(w->device, info));
	return info;
}

static const char *text_of(const cJSON *info, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, name));

	return text ? text : "";
}

static void lose_in_stop_copy(struct world *w)
{
	step(w, VFIO_STOP);
	stop(w);
	cr_assert(vmachine_wait(w->vm, is_broken, w, patience_ms()));
}

static bool was_tried_thrice(void *opaque)
{
	struct world *w = opaque;

	return __atomic_load_n(&w->s.seen[WIRE_DEVICE_GET_INFO], __ATOMIC_ACQUIRE) > w->before + 2;
}

/* It answers, but does not serve the device any more: that is said once, with what can be done. */
Test(vfio_user_manner, a_server_that_stays_stopped)
{
	struct world w;
	cJSON *info;

	manner_set(MANNER_STAYS_STOPPED);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	lose_in_stop_copy(&w);
	w.before = w.s.seen[WIRE_DEVICE_GET_INFO];
	for (unsigned i = 0; i < 3; i++) {
		restart(&w);
		wait_until(__atomic_load_n(&w.s.seen[WIRE_DEVICE_GET_INFO], __ATOMIC_ACQUIRE) >
		           w.before + i);
		/* The first answer has to arrive; the others may be lost on their way, which is a
		 * reason of its own. */
		wait_until(logged(&w, "device_del id=vfio-user-pci0"));
		stop(&w);
	}
	cr_assert(was_tried_thrice(&w));
	cr_assert_eq(logged(&w, "VFIO_DEVICE_GET_INFO: Invalid argument"), 1, "%s", w.log);
	info = described(&w);
	cr_assert(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(info, "connected")));
	cr_assert(text_of(info, "reason")[0]);
	cJSON_Delete(info);
	/* One that was restarted does. */
	manner_set(0);
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	cr_assert_eq(bar_read(&w, 0x100, 4), 0, "the guest reaches it");
	info = described(&w);
	cr_assert(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(info, "connected")));
	cr_assert_str_eq(text_of(info, "reason"), "");
	cJSON_Delete(info);
	end(&w);
}

/* A device that was reset runs, whatever it was in when its server was lost. */
Test(vfio_user_manner, the_state_after_a_reconnect)
{
	struct gw_error err;
	struct world w;
	cJSON *info;

	manner_set(0);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	lose_in_stop_copy(&w);
	/* What a migration does that has failed. */
	cr_assert_eq(vfio_state_run_again(w.pci->state, &err), -ENOTCONN, "%s", err.text);
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	info = described(&w);
	cr_assert_str_eq(text_of(cJSON_GetObjectItemCaseSensitive(info, "state"), "now"),
	                 "running");
	cJSON_Delete(info);
	bar_write(&w, 0x20, 4, 0x77);
	cr_assert_eq(bar_read(&w, 0x20, 4), 0x77, "the guest reaches it");
	step(&w, VFIO_STOP);
	step(&w, VFIO_RUN);
	end(&w);
}

/* ---- all together
 * --------------------------------------------------------------------------------
 */

Test(vfio_user_manner, all_at_once)
{
	struct gw_error err;
	struct world w;
	char buf[64];

	manner_set(MANNER_ALL);
	begin(&w);
	w.s.bells = BELLS;
	memcpy(w.s.data, "the state of the device", 23);
	w.s.data_len = 23;
	cr_assert(add(&w), "%s", w.vm->error);
	step(&w, VFIO_BEGIN_PRE_COPY);
	step(&w, VFIO_STOP);
	cr_assert_eq(vfio_state_read(w.pci->state, buf, sizeof(buf), &err), 23, "%s", err.text);
	step(&w, VFIO_RUN);
	works(&w);
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	vmachine_forget_events(w.vm);
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	works(&w);
	end(&w);
}
