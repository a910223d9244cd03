/* SPDX-License-Identifier: Apache-2.0 */
#include "server_client.h"

#include "base/bytes.h"

#include <linux/pci_regs.h>

struct sclient *sclient_new(const char *device, enum gw_server_migration migration,
                            enum gw_server_v1_data v1_data)
{
	struct sclient *c = calloc(1, sizeof(*c));
	struct gw_device_server_options options = {
		.size = sizeof(options),
		.listen_fd = -1,
		.migration = migration,
		.v1_data = v1_data,
	};
	struct gw_error err = { 0 };
	char json[1024];

	cr_assert_not_null(c);
	snprintf(c->path, sizeof(c->path), "/tmp/gw-server-%d", (int)getpid());
	snprintf(json, sizeof(json), "{\"id\":\"dev\",%s}", device);
	options.path = c->path;
	c->socket = c->twin = -1;
	c->reply.payload = malloc(WIRE_MESSAGE_MAX);
	cr_assert_eq(gw_device_server_new(json, &options, &c->server, &err), 0, "%s", err.text);
	sclient_connect(c);
	return c;
}

void sclient_free(struct sclient *c)
{
	sclient_disconnect(c);
	gw_device_server_free(c->server);
	free(c->reply.payload);
	free(c);
}

void sclient_connect(struct sclient *c)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", c->path);
	c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(c->socket, (const struct sockaddr *)&sun, sizeof(sun)), 0);
}

void sclient_disconnect(struct sclient *c)
{
	wire_close_fds(&c->reply);
	if (c->socket >= 0)
		close(c->socket);
	if (c->twin >= 0)
		close(c->twin);
	c->socket = c->twin = -1;
}

void sclient_send(struct sclient *c, unsigned command, uint32_t flags, const void *payload,
                  size_t len, const int *fds, unsigned fd_count)
{
	const struct wire_header header = {
		.id = ++c->id,
		.command = (uint16_t)command,
		.flags = flags,
	};
	const struct iovec part = { (void *)(uintptr_t)payload, len };

	cr_assert_eq(
	        wire_send(c->socket, &header, &part, len ? 1 : 0, fds, fd_count, patience_ms()), 0);
}

int sclient_take(struct sclient *c)
{
	struct pollfd pfd = { .fd = c->socket, .events = POLLIN };
	int r;

	wire_close_fds(&c->reply);
	cr_assert_eq(poll(&pfd, 1, patience_ms()), 1, "the server says nothing");
	r = wire_receive(c->socket, &c->reply, patience_ms());
	if (r < 0)
		return -EPIPE;
	if (c->reply.header.flags & WIRE_ERROR)
		cr_assert_eq(c->reply.len, 0, "an error is a header alone");
	return c->reply.header.flags & WIRE_ERROR ? -(int)c->reply.header.error : 0;
}

int sclient_call(struct sclient *c, unsigned command, const void *payload, size_t len,
                 const int *fds, unsigned fd_count)
{
	int r;

	sclient_send(c, command, WIRE_TYPE_COMMAND, payload, len, fds, fd_count);
	r = sclient_take(c);
	if (r == -EPIPE)
		return r;
	cr_assert_eq(c->reply.header.id, c->id);
	cr_assert_eq(c->reply.header.command, command);
	cr_assert_eq(c->reply.header.flags & WIRE_TYPE_MASK, WIRE_TYPE_REPLY);
	return r;
}

void sclient_version(struct sclient *c, bool twin)
{
	struct {
		struct wire_version version;
		char text[512];
	} m = { .version = { WIRE_MAJOR, WIRE_MINOR } };
	struct wire_caps caps = {
		.max_msg_fds = 8,
		.max_data_xfer_size = 1 << 20,
		.max_dma_maps = 100,
		.pgsizes = 4096,
		.twin_socket = twin,
		.twin_fd = -1,
		.write_multiple = true,
	};
	char *text = wire_caps_print(&caps);
	struct gw_error err = { 0 };
	size_t len;

	len = (size_t)snprintf(m.text, sizeof(m.text), "%s", text) + 1;
	free(text);
	cr_assert_eq(sclient_call(c, WIRE_VERSION, &m, sizeof(m.version) + len, NULL, 0), 0);
	cr_assert_eq(
	        wire_caps_parse((char *)c->reply.payload + 4, c->reply.len - 4, &c->caps, &err), 0,
	        "%s", err.text);
	if (c->caps.twin_socket)
		c->twin = wire_take_fd(&c->reply, (unsigned)c->caps.twin_fd);
}

int sclient_read(struct sclient *c, unsigned region, uint64_t offset, void *buf, uint32_t len)
{
	const struct wire_region_access access = { offset, region, len };
	int r = sclient_call(c, WIRE_REGION_READ, &access, sizeof(access), NULL, 0);

	if (r < 0)
		return r;
	cr_assert_eq(c->reply.len, sizeof(access) + len);
	cr_assert_eq(memcmp(c->reply.payload, &access, sizeof(access)), 0);
	memcpy(buf, c->reply.payload + sizeof(access), len);
	return 0;
}

int sclient_write(struct sclient *c, unsigned region, uint64_t offset, const void *buf,
                  uint32_t len)
{
	const struct wire_region_access access = { offset, region, len };
	autofree uint8_t *m = malloc(sizeof(access) + len);
	int r;

	memcpy(m, &access, sizeof(access));
	memcpy(m + sizeof(access), buf, len);
	r = sclient_call(c, WIRE_REGION_WRITE, m, sizeof(access) + len, NULL, 0);
	if (!r)
		cr_assert_eq(c->reply.len, sizeof(access));
	return r;
}

uint64_t sclient_get(struct sclient *c, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	cr_assert_eq(sclient_read(c, region, offset, &value, size), 0);
	return value;
}

void sclient_set(struct sclient *c, unsigned region, uint64_t offset, unsigned size, uint64_t value)
{
	cr_assert_eq(sclient_write(c, region, offset, &value, size), 0);
}

int sclient_map(struct sclient *c, uint64_t address, uint64_t size, uint64_t offset, uint32_t flags,
                int fd)
{
	const struct wire_dma_map map = { sizeof(map), flags, offset, address, size };

	return sclient_call(c, WIRE_DMA_MAP, &map, sizeof(map), &fd, fd >= 0);
}

int sclient_unmap(struct sclient *c, uint64_t address, uint64_t size)
{
	const struct wire_dma_unmap unmap = { sizeof(unmap), 0, address, size };
	int r = sclient_call(c, WIRE_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0);

	if (!r)
		cr_assert_eq(c->reply.len, sizeof(unmap));
	return r;
}

int sclient_irqs(struct sclient *c, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
                 const int *fds, unsigned fd_count)
{
	const struct vfio_irq_set set = { sizeof(set), flags, index, start, count };

	return sclient_call(c, WIRE_DEVICE_SET_IRQS, &set, sizeof(set), fds, fd_count);
}

int sclient_feature(struct sclient *c, uint32_t flags, const void *data, size_t len, void *out,
                    size_t room)
{
	autofree uint8_t *m = malloc(8 + len);
	const uint32_t head[2] = { (uint32_t)(8 + MAX(len, room)), flags };
	int r;

	memcpy(m, head, 8);
	if (len)
		memcpy(m + 8, data, len);
	r = sclient_call(c, WIRE_DEVICE_FEATURE, m, 8 + len, NULL, 0);
	if (r < 0)
		return r;
	cr_assert_geq(c->reply.len, 8u);
	len = MIN(room, c->reply.len - 8);
	if (len)
		memcpy(out, c->reply.payload + 8, len);
	return (int)(c->reply.len - 8);
}

int sclient_state(struct sclient *c, uint32_t state)
{
	const int32_t data[2] = { (int32_t)state, -1 };
	int r = sclient_feature(c, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | VFIO_DEVICE_FEATURE_SET,
	                        data, sizeof(data), NULL, 0);

	return r < 0 ? r : 0;
}

uint32_t sclient_get_state(struct sclient *c)
{
	uint32_t data[2] = { 99, 0 };

	cr_assert_eq(sclient_feature(c,
	                             VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | VFIO_DEVICE_FEATURE_GET,
	                             NULL, 0, data, sizeof(data)),
	             8);
	return data[0];
}

int sclient_pull(struct sclient *c, struct bytes *out, uint32_t step)
{
	return sclient_pull_past(c, out, step, SIZE_MAX);
}

int sclient_pull_past(struct sclient *c, struct bytes *out, uint32_t step, size_t enough)
{
	while (out->len <= enough) {
		const struct wire_mig_data ask = { step + 8, step };
		uint32_t head[2];
		int r = sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0);

		if (r < 0)
			return r;
		memcpy(head, c->reply.payload, 8);
		cr_assert_eq(head[0], c->reply.len);
		cr_assert_eq(head[1], c->reply.len - 8);
		bytes_put(out, c->reply.payload + 8, head[1]);
		if (head[1] < step)
			break;
	}
	return 0;
}

int sclient_push(struct sclient *c, const void *data, size_t len, uint32_t step)
{
	autofree uint8_t *m = malloc(8 + step);
	int r = 0;

	for (size_t at = 0; at < len && !r; at += step) {
		const uint32_t n = (uint32_t)MIN((size_t)step, len - at);
		const uint32_t head[2] = { 8 + n, n };

		memcpy(m, head, 8);
		memcpy(m + 8, (const uint8_t *)data + at, n);
		r = sclient_call(c, WIRE_MIG_DATA_WRITE, m, 8 + n, NULL, 0);
	}
	return r;
}

void sclient_reset(struct sclient *c, bool by_function)
{
	const unsigned config = VFIO_PCI_CONFIG_REGION_INDEX;
	uint64_t at = sclient_get(c, config, PCI_CAPABILITY_LIST, 1);

	if (!by_function) {
		cr_assert_eq(sclient_call(c, WIRE_DEVICE_RESET, NULL, 0, NULL, 0), 0);
		return;
	}
	while (at && sclient_get(c, config, at, 1) != PCI_CAP_ID_AF)
		at = sclient_get(c, config, at + 1, 1);
	cr_assert(at, "it has no function-level reset");
	cr_assert_eq(sclient_get(c, config, at + PCI_AF_LENGTH, 2), 0x0306, "TP, FLR, 6 bytes");
	/* Nothing but the one bit begins it. */
	sclient_set(c, 0, 0x28, 4, 77);
	sclient_set(c, config, at + PCI_AF_CTRL, 2, 0xfffe);
	sclient_set(c, config, at, 4, UINT32_MAX);
	cr_assert_eq(sclient_get(c, 0, 0x28, 4), 77);
	sclient_set(c, config, at + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
	cr_assert_eq(sclient_get(c, 0, 0x28, 4), 0);
	cr_assert_eq(sclient_get(c, config, at + PCI_AF_CTRL, 2), 0, "it is over");
}

bool sclient_signalled(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	if (poll(&pfd, 1, ms) != 1)
		return false;
	io_eventfd_drain(fd);
	return true;
}
