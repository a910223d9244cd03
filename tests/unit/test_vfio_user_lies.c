/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: a server that lies breaks its device, or gets none; the reason is told. */
#include "vfu_world.h"

/* What ends by the time for a reply running out. */
static bool is_no_reply(enum vfu_lie lie)
{
	return lie == LIE_SILENCE || lie == LIE_STALL || lie == LIE_LATE;
}

/* While the guest reads a register: the device is broken, and the reason given. */
Test(vfio_user, lies_in_a_reply)
{
	static const struct {
		enum vfu_lie lie;
		const char *why;
	} lies[] = {
		{ LIE_ID, "nobody waits for" },
		{ LIE_COMMAND, "names another command" },
		{ LIE_TWICE, "nobody waits for" },
		{ LIE_TYPE, "neither command nor reply" },
		{ LIE_TINY, "a message of a size" },
		{ LIE_HUGE, "a message of a size" },
		{ LIE_CLOSE, "has closed the connection" },
		{ LIE_CLOSE_WITHIN, "in the middle of a message" },
		{ LIE_SILENCE, "no reply to REGION_READ within 200 ms" },
		{ LIE_STALL, "" }, /* who waits, or who reads, notices it first */
		{ LIE_LATE, "no reply to REGION_READ within 200 ms" },
		{ LIE_FIRST_BYTES, "another came" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct world w;

		begin(&w);
		cr_assert(add(&w), "%s", w.vm->error);
		if (is_no_reply(lies[i].lie))
			hurry(&w);
		w.s.on = WIRE_REGION_READ;
		w.s.lie = lies[i].lie;
		memset(w.s.bar0, 0x11, 4);
		/* A right reply that comes twice is right the first time. */
		cr_assert_eq(bar_read(&w, 0, 4), lies[i].lie == LIE_TWICE ? 0x11111111 : 0xffffffff,
		             "%zu", i);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()),
		          "%zu: nothing is noticed", i);
		cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), lies[i].why), "%zu: %s", i,
		          vmachine_event(w.vm, "DEVICE_BROKEN"));
		cr_assert_eq(bar_read(&w, 0, 4), 0xffffffff);
		end(&w);
	}
}

/* What does no harm is logged once, and the device goes on. */
Test(vfio_user, departures_that_are_tolerated)
{
	static const struct {
		enum vfu_lie lie;
		uint32_t value; /* that the guest reads */
		const char *says;
	} departures[] = {
		{ LIE_LARGER, 0x11111111, "a reply of 28 bytes where 20 were asked for; the rest" },
		{ LIE_SHORTER, 0xffffffff, "a reply of 16 bytes; the request has failed" },
		{ LIE_FDS, 0x11111111, "16 descriptors where 0 belong; they are closed" },
		{ LIE_TOO_MANY_FDS, 0x11111111, "more than 16 descriptors; they are closed" },
		{ LIE_ERROR_PAYLOAD, 0xffffffff, "an error reply with a payload; it is ignored" },
		{ LIE_FLAGS, 0x11111111, "flags that do not exist" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(departures); i++) {
		struct world w;

		begin(&w);
		cr_assert(add(&w), "%s", w.vm->error);
		memset(w.s.bar0, 0x11, 4);
		for (unsigned n = 0; n < 2; n++) {
			w.s.on = WIRE_REGION_READ;
			w.s.nth = 0;
			w.s.lie = departures[i].lie;
			cr_assert_eq(bar_read(&w, 0, 4), departures[i].value, "%zu", i);
			cr_assert_eq(bar_read(&w, 0, 4), 0x11111111, "%zu: the next reply", i);
		}
		cr_assert_eq(logged(&w, departures[i].says), 1, "%zu: %s", i, w.log);
		cr_assert_eq(logged(&w, "against the protocol"), 1, "%zu: %s", i, w.log);
		cr_assert_not(vmachine_event(w.vm, "DEVICE_BROKEN"));
		end(&w);
	}
}

/* In each connection again. */
Test(vfio_user, departures_are_logged_once_a_connection)
{
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	for (unsigned n = 1; n <= 2; n++) {
		w.s.on = WIRE_REGION_READ;
		w.s.nth = 0;
		w.s.lie = LIE_FLAGS;
		bar_read(&w, 0, 4);
		cr_assert_eq(logged(&w, "flags that do not exist"), n);
		stop(&w);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
		vmachine_forget_events(w.vm);
		restart(&w);
		cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
		vmachine_forget_events(w.vm);
	}
	end(&w);
}

Test(vfio_user, an_error_is_no_lie)
{
	static const enum vfu_lie errors[] = { LIE_EIO, LIE_ERRNO };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct world w;

		begin(&w);
		cr_assert(add(&w), "%s", w.vm->error);
		w.s.on = WIRE_REGION_READ;
		w.s.lie = errors[i];
		cr_assert_eq(bar_read(&w, 0, 4), 0xffffffff);
		cr_assert_eq(bar_read(&w, 0, 4), 0, "it goes on");
		cr_assert_not(vmachine_event(w.vm, "DEVICE_BROKEN"));
		end(&w);
	}
}

static struct vfio_region_info region_lie(uint32_t argsz, uint32_t index, uint64_t size,
                                          uint64_t offset)
{
	return (struct vfio_region_info){
		.argsz = argsz, .flags = 7, .index = index, .size = size, .offset = offset
	};
}

/* While it is made: it is not, and the reason given. */
Test(vfio_user, lies_about_what_it_is)
{
	const struct vfio_region_info wrong_index = region_lie(32, 1, 4096, 0);
	const struct vfio_region_info endless = region_lie(32, 0, UINT64_MAX, 4096);
	const struct vfio_region_info far = region_lie(32, 0, 4096, INT64_MAX);
	const struct vfio_region_info huge_argsz = region_lie(UINT32_MAX, 0, 4096, 0);
	const struct vfio_region_info odd = region_lie(32, 0, 4097, 0);
	const uint32_t no_pci[] = { 16, VFIO_DEVICE_FLAGS_RESET, 9, 5 };
	const uint32_t few[] = { 16, VFIO_DEVICE_FLAGS_PCI, 7, 5 };
	const uint32_t irqs[] = { 16, 1, 0, 0xffffffff };
	const struct wire_version minor = { WIRE_MAJOR, WIRE_MINOR + 1 }, major = { 1, 0 };
	const char twin[] = "\0\0\1\0{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}";
	const char huge_page[] = "\0\0\1\0{\"capabilities\":{\"pgsizes\":2097152}}";
	const struct {
		enum wire_command on;
		enum vfu_lie lie;
		const char *why;
		const void *payload;
		size_t len;
		unsigned nth;
	} lies[] = {
		{ WIRE_VERSION, LIE_SILENCE, "no reply within 200 ms", NULL, 0, 0 },
		{ WIRE_VERSION, LIE_CLOSE, "no reply", NULL, 0, 0 },
		{ WIRE_VERSION, LIE_HUGE, "no reply", NULL, 0, 0 },
		{ WIRE_VERSION, LIE_EIO, "refuses", NULL, 0, 0 },
		{ WIRE_VERSION, LIE_COMMAND, "something else", NULL, 0, 0 },
		{ WIRE_VERSION, LIE_PAYLOAD, "speaks 0.", &minor, sizeof(minor), 0 },
		{ WIRE_VERSION, LIE_PAYLOAD, "speaks 1.0", &major, sizeof(major), 0 },
		{ WIRE_VERSION, LIE_PAYLOAD, "reply of 2 bytes", &major, 2, 0 },
		{ WIRE_VERSION, LIE_PAYLOAD, "pages of 4096", huge_page, sizeof(huge_page), 0 },
		{ WIRE_VERSION, LIE_PAYLOAD, "without its descriptor", twin, sizeof(twin), 0 },
		{ WIRE_DEVICE_GET_INFO, LIE_SHORTER, "a device info of 12 bytes", NULL, 0, 0 },
		{ WIRE_DEVICE_GET_INFO, LIE_PAYLOAD, "not a PCI device", no_pci, sizeof(no_pci),
		  0 },
		{ WIRE_DEVICE_GET_INFO, LIE_PAYLOAD, "not a PCI device", few, sizeof(few), 0 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_PAYLOAD,
		  "info of region 1 where that of region 0 was asked for", &wrong_index,
		  sizeof(wrong_index), 0 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_PAYLOAD, "ends beyond all files", &endless,
		  sizeof(endless), 0 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_PAYLOAD, "ends beyond all files", &far,
		  sizeof(far), 0 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_PAYLOAD, "4294967295 bytes", &huge_argsz,
		  sizeof(huge_argsz), 0 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_PAYLOAD, "BAR 0", &odd, sizeof(odd), 1 },
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_SHORTER, "info of region 0 in 28 bytes", NULL, 0,
		  0 },
		{ WIRE_DEVICE_GET_IRQ_INFO, LIE_PAYLOAD, "4294967295 interrupts of index 0", irqs,
		  sizeof(irqs), 0 },
		{ WIRE_DMA_MAP, LIE_EIO, "DMA_MAP of 0x800000 bytes at 0x0", NULL, 0, 0 },
		{ WIRE_DEVICE_RESET, LIE_EIO, "VFIO_DEVICE_RESET", NULL, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct world w;

		begin(&w);
		w.s.on = lies[i].on;
		w.s.lie = lies[i].lie;
		w.s.payload = lies[i].payload;
		w.s.payload_len = lies[i].len;
		w.s.nth = lies[i].nth;
		if (lies[i].lie == LIE_SILENCE)
			w.options.timeout = 200;
		cr_assert_null(add(&w), "%zu was taken for the truth", i);
		cr_assert(strcasestr(w.vm->error, lies[i].why), "%zu: %s", i, w.vm->error);
		cr_assert_null(w.vm->m->devices);
		cr_assert_null(w.vm->m->vfio, "%zu: an address space is left", i);
		end(&w);
	}
}

/* What it says besides, and need not: the device is made, and whatever is wrong is not used. */
Test(vfio_user, departures_while_it_is_made)
{
	const uint32_t ios[][14] = {
		{ 16 + 40, 0, 0, 1, 0, 0, 4, 0, 9, 0, 0, 0, 0, 0 },      /* no such descriptor */
		{ 16 + 40, 0, 3, 1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 },      /* another region */
		{ 16 + 40, 0, 0, 1, 0x2000, 0, 4, 0, 0, 0, 0, 0, 0, 0 }, /* behind the region */
		{ 16 + 40, 0, 0, 1, 0, 0, 4, 0, 0, 77, 0, 0, 0, 0 },     /* no such type */
		{ 16 + 40, 0, 0, UINT32_MAX, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 },
		{ 0, 0, 0, 5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 },
		{ UINT32_MAX, 0, 0, 1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 },
	};
	const uint32_t head_only[] = { 65536 * 2, 0, 0, 9999 };
	const struct {
		enum wire_command on;
		enum vfu_lie lie;
		const char *says;
		const void *payload;
		size_t len;
	} departures[] = {
		{ WIRE_DEVICE_GET_REGION_INFO, LIE_FDS, "16 descriptors where 1 belong", NULL, 0 },
		{ WIRE_DEVICE_RESET, LIE_LARGER, "8 bytes where 0 were asked for", NULL, 0 },
		{ WIRE_DMA_MAP, LIE_LARGER, "8 bytes where 0 were asked for", NULL, 0 },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[0], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[1], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[2], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[3], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[4], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[5], sizeof(ios[0]) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[6], sizeof(ios[0]) },
		{ WIRE_DEVICE_SET_IRQS, LIE_EIO, "it cannot say that it is wanted back", NULL, 0 },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "9999 of 9999", head_only,
		  sizeof(head_only) },
		{ WIRE_DEVICE_GET_REGION_IO_FDS, LIE_PAYLOAD, "trapped", ios[0], 8 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(departures); i++) {
		struct world w;

		begin(&w);
		w.s.on = departures[i].on;
		w.s.lie = departures[i].lie;
		w.s.payload = departures[i].payload;
		w.s.payload_len = departures[i].len;
		w.s.notifies = 1;
		cr_assert(add(&w), "%zu: %s", i, w.vm->error);
		cr_assert_eq(((struct vfu_device *)w.pci->backend)->io_count, 0, "%zu", i);
		cr_assert_eq(logged(&w, departures[i].says), 1, "%zu: %s", i, w.log);
		bar_write(&w, 0, 4, 5);
		cr_assert_eq(bar_read(&w, 0, 4), 5, "%zu", i);
		end(&w);
	}
}

/* I/O space has other limits than memory: it is named. */
Test(vfio_user, too_large_a_bar_of_io_space)
{
	struct world w;

	begin(&w);
	w.s.config[0x10] = 1;
	w.s.bar0_size = 512;
	cr_assert_null(add(&w));
	cr_assert(strstr(w.vm->error, "BAR 0 of 0x200 bytes of I/O space: a power of two from 0x4 "
	                              "to 0x100"),
	          "%s", w.vm->error);
	end(&w);
}
