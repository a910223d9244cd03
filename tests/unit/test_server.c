/* SPDX-License-Identifier: Apache-2.0 */
/* The vfio-user server: what it says of a device, accesses, interrupts; hostile clients. */
#include "server_client.h"

#include <sys/eventfd.h>

#define BALLAST "\"type\":\"ballast\",\"size\":\"64K\""
#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX
#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

static struct sclient *ballast(void)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);

	sclient_version(c, false);
	return c;
}

/* ---- versions ---- */

Test(server, capabilities_are_agreed)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);

	sclient_version(c, true);
	cr_assert(c->caps.twin_socket);
	cr_assert_geq(c->twin, 0);
	cr_assert(c->caps.write_multiple);
	cr_assert_eq(c->caps.max_dma_maps, 100, "not more than was proposed");
	cr_assert_eq(c->caps.max_msg_fds, 16);
	/* Once is enough. */
	cr_assert_eq(sclient_call(c, WIRE_VERSION, "\0\0\1\0", 4, NULL, 0), -EINVAL);
	sclient_free(c);
}

Test(server, version_without_capabilities_is_enough)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);
	const struct wire_version version = { 0, 7 };
	struct wire_version got;

	cr_assert_eq(sclient_call(c, WIRE_VERSION, &version, sizeof(version), NULL, 0), 0);
	memcpy(&got, c->reply.payload, sizeof(got));
	cr_assert_eq(got.major, 0);
	cr_assert_eq(got.minor, 1, "the minor version is the smaller one");
	cr_assert_eq(c->reply.fd_count, 0);
	sclient_free(c);
}

static void hangs_up(const void *payload, size_t len, unsigned command)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);

	cr_assert_eq(sclient_call(c, command, payload, len, NULL, 0), -EINVAL);
	cr_assert_eq(sclient_take(c), -EPIPE);
	/* The next one is served. */
	sclient_disconnect(c);
	sclient_connect(c);
	sclient_version(c, false);
	cr_assert_eq(sclient_get(c, 0, 0, 4), 0x4c4c4142);
	sclient_free(c);
}

Test(server, versions_that_do_not_fit_end_the_connection)
{
	static const struct {
		struct wire_version version;
		char text[40];
	} bad = { { 0, 1 }, "{\"capabilities\":{\"max_msg_fds\":-1}}" },
	  no_json = { { 0, 1 }, "{\"capabilities\":" }, major = { { 1, 0 }, "" };

	hangs_up(&major, 4, WIRE_VERSION);
	hangs_up(&bad, 4 + sizeof("{\"capabilities\":{\"max_msg_fds\":-1}}"), WIRE_VERSION);
	hangs_up(&no_json, 4 + sizeof("{\"capabilities\":"), WIRE_VERSION);
	hangs_up(&no_json, 4 + 5, WIRE_VERSION);
	hangs_up(&major, 2, WIRE_VERSION);
	hangs_up(&major, 4, WIRE_DEVICE_GET_INFO);
}

/* ---- what it says of the device ---- */

Test(server, device_and_regions_are_described)
{
	struct sclient *c = ballast();
	uint32_t info[4] = { 16 };
	struct vfio_region_info region = { .argsz = sizeof(region) };
	struct vfio_region_info *reply = (void *)c->reply.payload;
	const struct vfio_region_info_cap_sparse_mmap *sparse;

	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_INFO, info, sizeof(info), NULL, 0), 0);
	memcpy(info, c->reply.payload, sizeof(info));
	cr_assert_eq(info[0], 16);
	cr_assert_eq(info[1], VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI);
	cr_assert_eq(info[2], VFIO_PCI_NUM_REGIONS);
	cr_assert_eq(info[3], VFIO_PCI_NUM_IRQS);
	/* Too little room: how much is needed, and no descriptor. */
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             0);
	cr_assert_eq(c->reply.len, sizeof(region));
	cr_assert_gt(reply->argsz, sizeof(region));
	cr_assert_eq(c->reply.fd_count, 0);
	region.argsz = reply->argsz;
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             0);
	cr_assert_eq(c->reply.len, region.argsz);
	cr_assert_eq(reply->size, 16384);
	cr_assert(reply->flags & VFIO_REGION_INFO_FLAG_MMAP);
	sparse = (void *)(c->reply.payload + reply->cap_offset);
	cr_assert_eq(sparse->header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	cr_assert_eq(sparse->areas[0].offset, 4096);
	cr_assert_eq(sparse->areas[0].size, 12288);
	cr_assert_eq(c->reply.fd_count, 1);
	region.index = CONFIG;
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             0);
	cr_assert_eq(reply->size, 256);
	region.index = 9;
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             -EINVAL);
	region.index = 0;
	region.argsz = 31;
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             -EINVAL);
	sclient_free(c);
}

Test(server, a_client_that_takes_no_descriptors_gets_none)
{
	static const struct {
		struct wire_version version;
		char text[40];
	} none = { { WIRE_MAJOR, WIRE_MINOR }, "{\"capabilities\":{\"max_msg_fds\":0}}" };
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);
	struct vfio_region_info region = { .argsz = 4096 };
	const struct vfio_region_info *reply = (void *)c->reply.payload;

	cr_assert_eq(sclient_call(c, WIRE_VERSION, &none, 4 + strlen(none.text) + 1, NULL, 0), 0);
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &region, sizeof(region), NULL, 0),
	             0);
	cr_assert_eq(reply->size, 16384);
	cr_assert_eq(reply->flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
	cr_assert_eq(c->reply.fd_count, 0);
	sclient_free(c);
}

Test(server, interrupts_are_described)
{
	struct sclient *c = ballast();
	const uint32_t counts[VFIO_PCI_NUM_IRQS] = { 1, 0, 4, 0, 0 };
	struct vfio_irq_info info = { .argsz = sizeof(info) }, got;

	for (info.index = 0; info.index < VFIO_PCI_NUM_IRQS; info.index++) {
		cr_assert_eq(
		        sclient_call(c, WIRE_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0), 0);
		memcpy(&got, c->reply.payload, sizeof(got));
		cr_assert_eq(got.count, counts[info.index]);
	}
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0),
	             -EINVAL);
	sclient_free(c);
}

/* ---- accesses ---- */

Test(server, regions_are_read_and_written_within_their_bounds)
{
	struct sclient *c = ballast();
	uint8_t pattern[301], back[301];
	struct wire_region_access access = { 0, 0, 100 };
	uint32_t room[64] = { 0 };

	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7);
	cr_assert_eq(sclient_write(c, 0, 4096 + 13, pattern, sizeof(pattern)), 0);
	cr_assert_eq(sclient_read(c, 0, 4096 + 13, back, sizeof(back)), 0);
	cr_assert_arr_eq(back, pattern, sizeof(back));
	cr_assert_eq(sclient_get(c, CONFIG, 0, 4), 0x10f01af4);
	/* Beyond the end, over it, far away, another region. */
	cr_assert_eq(sclient_read(c, 0, 16384, back, 1), -EINVAL);
	cr_assert_eq(sclient_read(c, 0, 16380, back, 8), -EINVAL);
	cr_assert_eq(sclient_read(c, 0, UINT64_MAX, back, 8), -EINVAL);
	cr_assert_eq(sclient_read(c, CONFIG, 256, back, 1), -EINVAL);
	cr_assert_eq(sclient_read(c, 1, 0, back, 1), -EINVAL);
	cr_assert_eq(sclient_read(c, 12345, 0, back, 1), -EINVAL);
	cr_assert_eq(sclient_write(c, 0, 16380, pattern, 8), -EINVAL);
	/* A length that the message does not have. */
	memcpy(room, &access, sizeof(access));
	cr_assert_eq(sclient_call(c, WIRE_REGION_WRITE, room, sizeof(access) + 8, NULL, 0),
	             -EINVAL);
	access.count = UINT32_MAX;
	cr_assert_eq(sclient_call(c, WIRE_REGION_READ, &access, sizeof(access), NULL, 0), -EINVAL);
	sclient_free(c);
}

Test(server, several_writes_in_one_message)
{
	struct sclient *c = ballast();
	struct {
		uint64_t count;
		struct wire_write writes[3];
	} m = { 3, { { 4096, 0, 8, "abcdefgh" }, { 4104, 0, 2, "ij" }, { 99999, 0, 1, "x" } } };
	uint64_t done;
	char back[10];

	cr_assert_eq(sclient_call(c, WIRE_REGION_WRITE_MULTI, &m, sizeof(m), NULL, 0), 0);
	memcpy(&done, c->reply.payload, 8);
	cr_assert_eq(done, 2, "the third is nowhere");
	cr_assert_eq(sclient_read(c, 0, 4096, back, 10), 0);
	cr_assert_eq(memcmp(back, "abcdefghij", 10), 0);
	m.count = UINT64_MAX;
	cr_assert_eq(sclient_call(c, WIRE_REGION_WRITE_MULTI, &m, sizeof(m), NULL, 0), -EINVAL);
	m.count = 3;
	cr_assert_eq(sclient_call(c, WIRE_REGION_WRITE_MULTI, &m, sizeof(m) - 1, NULL, 0), -EINVAL);
	sclient_free(c);
}

Test(server, no_reply_means_none)
{
	struct sclient *c = ballast();
	struct {
		struct wire_region_access access;
		char data[4];
	} __attribute__((packed)) m = { { 4096, 0, 4 }, "wxyz" };

	sclient_send(c, WIRE_REGION_WRITE, WIRE_NO_REPLY, &m, sizeof(m), NULL, 0);
	m.access.region = 77; /* nor an error */
	sclient_send(c, WIRE_REGION_WRITE, WIRE_NO_REPLY, &m, sizeof(m), NULL, 0);
	cr_assert_eq(sclient_get(c, 0, 4096, 4), 0x7a797877, "and it is done before what follows");
	sclient_free(c);
}

/* ---- interrupts ---- */

Test(server, vectors_go_to_their_eventfds)
{
	struct sclient *c = ballast();
	int fds[4];

	for (unsigned i = 0; i < 4; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
	/* Raised while there is no eventfd, but MSI-X is on: pending until there is one. */
	cr_assert_eq(sclient_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX, TRIGGER, 0, 1, fds, 1), 0);
	sclient_set(c, 0, 0x34, 4, 2);
	cr_assert_not(sclient_signalled(fds[2], 0));
	cr_assert_eq(sclient_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX, TRIGGER, 1, 3, fds + 1, 3), 0);
	cr_assert(sclient_signalled(fds[2], patience_ms()));
	for (unsigned i = 0; i < 4; i++) {
		sclient_set(c, 0, 0x34, 4, i);
		cr_assert(sclient_signalled(fds[i], patience_ms()));
	}
	/* By the client itself, all but one. */
	{
		struct {
			struct vfio_irq_set set;
			uint8_t which[4];
		} __attribute__((packed))
		m = { { 24, VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER,
			VFIO_PCI_MSIX_IRQ_INDEX, 0, 4 },
		      { 1, 0, 1, 1 } };

		cr_assert_eq(sclient_call(c, WIRE_DEVICE_SET_IRQS, &m, sizeof(m), NULL, 0), 0);
		cr_assert(sclient_signalled(fds[0], patience_ms()));
		cr_assert_not(sclient_signalled(fds[1], 0));
		cr_assert(sclient_signalled(fds[2], 0) && sclient_signalled(fds[3], 0));
		cr_assert_eq(sclient_call(c, WIRE_DEVICE_SET_IRQS, &m, sizeof(m) - 1, NULL, 0),
		             -EINVAL);
	}
	/* One is taken away, then all; a reset leaves them alone. */
	sclient_reset(c, false);
	sclient_reset(c, true);
	cr_assert_eq(sclient_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX, TRIGGER, 3, 1, NULL, 0), 0);
	sclient_set(c, 0, 0x34, 4, 3);
	sclient_set(c, 0, 0x34, 4, 1);
	cr_assert(sclient_signalled(fds[1], patience_ms()));
	cr_assert_not(sclient_signalled(fds[3], 0));
	cr_assert_eq(sclient_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX,
	                          VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL,
	                          0),
	             0);
	sclient_set(c, 0, 0x34, 4, 1);
	cr_assert_not(sclient_signalled(fds[1], 0));
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	sclient_free(c);
}

Test(server, the_pin_masks_itself)
{
	struct sclient *c =
	        sclient_new(BALLAST ",\"interrupt\":\"intx\"", GW_SERVER_V2, GW_SERVER_TRAPPED);
	int fd = eventfd(0, EFD_NONBLOCK), unmask = eventfd(0, EFD_NONBLOCK);
	const uint32_t none = VFIO_IRQ_SET_DATA_NONE;

	sclient_version(c, false);
	cr_assert_eq(sclient_irqs(c, 0, TRIGGER, 0, 1, &fd, 1), 0);
	sclient_set(c, 0, 0x34, 4, 0);
	cr_assert(sclient_signalled(fd, patience_ms()));
	sclient_set(c, 0, 0x34, 4, 0);
	cr_assert_not(sclient_signalled(fd, 0), "masked since it was signalled");
	/* Still high when it is unmasked: again. */
	cr_assert_eq(sclient_irqs(c, 0, none | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL, 0), 0);
	cr_assert(sclient_signalled(fd, patience_ms()));
	cr_assert_eq(sclient_irqs(c, 0, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK, 0,
	                          1, &unmask, 1),
	             0);
	io_eventfd_signal(unmask);
	cr_assert(sclient_signalled(fd, patience_ms()));
	/* Low again: nothing. */
	cr_assert_eq(sclient_get(c, 0, 0x38, 4), 1);
	io_eventfd_signal(unmask);
	cr_assert_not(sclient_signalled(fd, 50));
	cr_assert_eq(sclient_irqs(c, 0, none | VFIO_IRQ_SET_ACTION_MASK, 0, 1, NULL, 0), 0);
	sclient_set(c, 0, 0x34, 4, 0);
	cr_assert_not(sclient_signalled(fd, 50));
	close(fd);
	close(unmask);
	sclient_free(c);
}

Test(server, irqs_that_make_no_sense_are_refused)
{
	struct sclient *c = ballast();
	const uint32_t msix = VFIO_PCI_MSIX_IRQ_INDEX;
	const uint32_t bits = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
	int fds[4] = { eventfd(0, 0), eventfd(0, 0), -1, -1 };
	int pair[2];

	cr_assert_eq(pipe(pair), 0);
	cr_assert_eq(sclient_irqs(c, 5, TRIGGER, 0, 1, fds, 1), -EINVAL);
	cr_assert_eq(sclient_irqs(c, UINT32_MAX, TRIGGER, 0, 1, fds, 1), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, 4, 1, fds, 1), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, 3, 2, fds, 2), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, UINT32_MAX, 2, fds, 2), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, 0, 3, fds, 2), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, 0, 1, fds, 2), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, bits, 0, 1, fds, 1), -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER | VFIO_IRQ_SET_DATA_NONE, 0, 1, fds, 1),
	             -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER | VFIO_IRQ_SET_ACTION_MASK, 0, 1, fds, 1),
	             -EINVAL);
	cr_assert_eq(sclient_irqs(c, msix, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 0, 1,
	                          NULL, 0),
	             -ENOTTY);
	/* No eventfd. */
	cr_assert_eq(sclient_irqs(c, msix, TRIGGER, 0, 1, &pair[1], 1), -EINVAL);
	cr_assert_eq(sclient_irqs(c, 0, TRIGGER, 0, 1, &pair[1], 1), -EINVAL);
	for (unsigned i = 0; i < 2; i++) {
		close(fds[i]);
		close(pair[i]);
	}
	sclient_free(c);
}

/* ---- features ---- */

Test(server, features_are_probed)
{
	struct sclient *c = ballast();
	const uint32_t probe = VFIO_DEVICE_FEATURE_PROBE;
	const uint32_t get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;

	cr_assert_eq(sclient_feature(c, 1 | probe | get, NULL, 0, NULL, 0), 0);
	cr_assert_eq(sclient_feature(c, 2 | probe | get | set, NULL, 0, NULL, 0), 0);
	cr_assert_eq(sclient_feature(c, 1 | probe | set, NULL, 0, NULL, 0), -EINVAL);
	cr_assert_eq(sclient_feature(c, 8 | probe | set, NULL, 0, NULL, 0), -EINVAL);
	cr_assert_eq(sclient_feature(c, 9 | probe | get, NULL, 0, NULL, 0), -ENOTTY);
	cr_assert_eq(sclient_feature(c, 1 | get | set, NULL, 0, NULL, 0), -EINVAL);
	cr_assert_eq(sclient_feature(c, 1, NULL, 0, NULL, 0), -EINVAL);
	cr_assert_eq(sclient_feature(c, 2 | set, NULL, 0, NULL, 0), -EINVAL);
	sclient_free(c);
}

/* ---- broken framing ---- */

static void breaks(const void *bytes, size_t len)
{
	struct sclient *c = ballast();

	cr_assert_eq(io_write_full(c->socket, bytes, len), 0);
	cr_assert_eq(sclient_take(c), -EPIPE);
	sclient_disconnect(c);
	sclient_connect(c);
	sclient_version(c, false);
	sclient_free(c);
}

Test(server, broken_framing_ends_the_connection)
{
	const struct wire_header small = { 1, WIRE_REGION_READ, 15, 0, 0 };
	const struct wire_header large = { 1, WIRE_REGION_READ, UINT32_MAX, 0, 0 };
	const struct wire_header reply = { 1, WIRE_REGION_READ, 16, WIRE_TYPE_REPLY, 0 };

	breaks(&small, sizeof(small));
	breaks(&large, sizeof(large));
	breaks(&reply, sizeof(reply));
}

Test(server, unknown_commands_are_refused)
{
	struct sclient *c = ballast();

	cr_assert_eq(sclient_call(c, 0, NULL, 0, NULL, 0), -ENOTSUP);
	cr_assert_eq(sclient_call(c, WIRE_DMA_READ, NULL, 0, NULL, 0), -ENOTSUP);
	cr_assert_eq(sclient_call(c, 14, NULL, 0, NULL, 0), -ENOTSUP);
	cr_assert_eq(sclient_call(c, WIRE_COMMANDS, NULL, 0, NULL, 0), -ENOTSUP);
	cr_assert_eq(sclient_call(c, 0xffff, NULL, 0, NULL, 0), -ENOTSUP);
	for (unsigned command = 1; command < WIRE_COMMANDS; command++)
		if (command != WIRE_DEVICE_RESET)
			cr_assert_lt(sclient_call(c, command, "", 1, NULL, 0), 0);
	cr_assert_eq(sclient_get(c, 0, 0, 4), 0x4c4c4142);
	sclient_free(c);
}

Test(server, the_msix_table_is_the_clients_business)
{
	struct sclient *c = ballast();
	int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t cap = sclient_get(c, CONFIG, 0x34, 1);

	cr_assert_eq(sclient_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX, TRIGGER, 0, 1, &fd, 1), 0);
	sclient_set(c, 2, 12, 4, 1);
	sclient_set(c, CONFIG, cap + 2, 2, 0);
	sclient_set(c, 0, 0x34, 4, 0);
	cr_assert(sclient_signalled(fd, patience_ms()));
	close(fd);
	sclient_free(c);
}
