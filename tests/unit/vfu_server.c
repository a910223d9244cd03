/* SPDX-License-Identifier: Apache-2.0 */
#include "vfu_lies.h"

#include "base/io.h"
#include "base/util.h"
#include "vfio/uapi.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static const char twin_caps[] =
        "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":4096,"
        "\"twin_socket\":{\"supported\":true,\"fd_index\":0},\"write_multiple\":true}}";

/* ---- what it answers ------------------------------------------------------------------------ */

static void version(struct vfu_server *s, struct vfu_reply *r)
{
	const char *caps = s->caps ? s->caps : twin_caps;
	const struct wire_version v = { WIRE_MAJOR, s->minor };
	int pair[2];

	vfu_put(r, &v, sizeof(v));
	vfu_put(r, caps, strlen(caps) + 1);
	if (!strstr(caps, "fd_index"))
		return;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->twin = pair[0];
	r->fds[r->fd_count++] = pair[1];
}

static void device_info(struct vfu_server *s, struct vfu_reply *r)
{
	const uint32_t info[] = { 16, VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
		                  VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS };

	(void)s;
	vfu_put(r, info, sizeof(info));
}

static uint64_t region_size(const struct vfu_server *s, uint32_t index)
{
	switch (index) {
	case 0:
		return s->bar0_size ? s->bar0_size : 4096;
	case 2:
		return 65536;
	case 4:
		return 4096;
	case VFIO_PCI_ROM_REGION_INDEX:
		return s->rom_size;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return 4096;
	default:
		return 0;
	}
}

static void region_info(struct vfu_server *s, const uint8_t *in, struct vfu_reply *r)
{
	struct {
		struct vfio_region_info head;
		struct vfio_region_info_cap_sparse_mmap sparse;
		struct vfio_region_sparse_mmap_area areas[2];
	} info = { 0 };
	struct vfio_region_info ask;

	memcpy(&ask, in, sizeof(ask));
	info.head.argsz = sizeof(info.head);
	info.head.index = ask.index;
	info.head.size = region_size(s, ask.index);
	info.head.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (ask.index == 2) {
		info.head.argsz = sizeof(info);
		info.head.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
		info.head.cap_offset = sizeof(info.head);
		info.head.offset = 0x1000;
		info.sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		info.sparse.header.version = 1;
		info.sparse.nr_areas = 2;
		info.areas[0] = (struct vfio_region_sparse_mmap_area){ 0x2000, 0x1000 };
		info.areas[1] = (struct vfio_region_sparse_mmap_area){ 0x8000, 0x1000 };
		r->fds[r->fd_count++] = fcntl(s->bar2_fd, F_DUPFD_CLOEXEC, 3);
	}
	vfu_put(r, &info, info.head.argsz <= ask.argsz ? info.head.argsz : sizeof(info.head));
}

static int io_fds(struct vfu_server *s, const uint8_t *in, struct vfu_reply *r)
{
	struct wire_io_fds head;

	memcpy(&head, in, sizeof(head));
	if (!s->bells || head.index >= 6)
		return vfu_failed(r, EOPNOTSUPP);
	head.count = head.index == 0 ? s->bells : 0;
	head.argsz = (uint32_t)(sizeof(head) + head.count * sizeof(struct wire_io_fd));
	vfu_put(r, &head, sizeof(head));
	for (unsigned i = 0; i < head.count; i++) {
		const struct wire_io_fd entry = { .offset = 4 * i,
			                          .size = 4,
			                          .fd_index = i,
			                          .flags = 1,
			                          .datamatch = 0x100 + i };

		if (s->bell_fds[i] < 0)
			s->bell_fds[i] = io_eventfd();
		vfu_put(r, &entry, sizeof(entry));
		r->fds[r->fd_count++] = fcntl(s->bell_fds[i], F_DUPFD_CLOEXEC, 3);
	}
	return 0;
}

static void irq_info(const struct vfu_server *s, const uint8_t *in, struct vfu_reply *r)
{
	struct vfio_irq_info info;

	memcpy(&info, in, sizeof(info));
	info.argsz = sizeof(info);
	info.flags = VFIO_IRQ_INFO_EVENTFD;
	info.count = info.index == VFIO_PCI_MSIX_IRQ_INDEX  ? 4
	             : info.index >= VFIO_PCI_ERR_IRQ_INDEX ? s->notifies
	                                                    : 0;
	vfu_put(r, &info, sizeof(info));
}

static int set_irqs(struct vfu_server *s, struct wire_message *m, struct vfu_reply *r)
{
	struct vfio_irq_set set;
	int *fds = s->vectors;
	unsigned most = 4;

	memcpy(&set, m->payload, sizeof(set));
	if (set.index >= VFIO_PCI_ERR_IRQ_INDEX && s->notifies) {
		fds = set.index == VFIO_PCI_ERR_IRQ_INDEX ? &s->error_fd : &s->request_fd;
		most = 1;
	} else if (set.index != VFIO_PCI_MSIX_IRQ_INDEX) {
		return vfu_failed(r, EINVAL);
	}
	if (set.start + set.count > most)
		return vfu_failed(r, EINVAL);
	if (set.flags & VFIO_IRQ_SET_DATA_NONE)
		set.count = most;
	else if (m->fd_count && m->fd_count != set.count)
		return vfu_failed(r, EINVAL);
	for (unsigned i = 0; i < set.count; i++) {
		if (fds[set.start + i] >= 0)
			close(fds[set.start + i]);
		fds[set.start + i] = wire_take_fd(m, i);
	}
	return 0;
}

static uint8_t *region_at(struct vfu_server *s, const struct wire_region_access *a)
{
	if (a->region == VFIO_PCI_CONFIG_REGION_INDEX && a->offset + a->count <= 4096)
		return s->config + a->offset;
	if (a->region == 0 && a->offset + a->count <= 4096)
		return s->bar0 + a->offset;
	/* By message other bytes than in its file: a test has to see which was used. */
	if (a->region == 2 && a->offset + a->count <= sizeof(s->bar2))
		return s->bar2 + a->offset;
	if (a->region == VFIO_PCI_ROM_REGION_INDEX && a->offset + a->count <= s->rom_size)
		return s->rom + a->offset;
	return NULL;
}

static int region_access(struct vfu_server *s, const struct wire_message *m, bool write,
                         struct vfu_reply *r)
{
	const uint8_t *in = m->payload;
	struct wire_region_access a;
	uint8_t *at;

	memcpy(&a, in, sizeof(a));
	at = region_at(s, &a);
	if (!at || m->len != sizeof(a) + (write ? a.count : 0))
		return vfu_failed(r, EINVAL);
	vfu_put(r, &a, sizeof(a));
	if (write)
		memcpy(at, in + sizeof(a), a.count);
	else
		vfu_put(r, at, a.count);
	return 0;
}

static void write_multi(struct vfu_server *s, const uint8_t *in)
{
	uint64_t count;

	memcpy(&count, in, 8);
	for (uint64_t i = 0; i < count; i++) {
		struct wire_write w;

		memcpy(&w, in + 8 + i * sizeof(w), sizeof(w));
		if (w.region == 0 && w.offset + w.count <= 4096 && w.count <= 8)
			memcpy(s->bar0 + w.offset, w.data, w.count);
	}
}

static int dma_map(struct vfu_server *s, const struct wire_message *m, struct vfu_reply *r)
{
	struct wire_dma_map map;

	memcpy(&map, m->payload, sizeof(map));
	for (unsigned i = 0; i < s->map_count; i++)
		if (s->maps[i].address == map.address)
			return vfu_failed(r, EEXIST);
	cr_assert_lt(s->map_count, ARRAY_SIZE(s->maps));
	s->maps[s->map_count].address = map.address;
	s->maps[s->map_count].size = map.size;
	s->maps[s->map_count++].by_fd = m->fd_count == 1;
	return 0;
}

static int dma_unmap(struct vfu_server *s, const uint8_t *in, struct vfu_reply *r)
{
	struct wire_dma_unmap unmap;

	memcpy(&unmap, in, sizeof(unmap));
	for (unsigned i = 0; i < s->map_count; i++) {
		if (s->maps[i].address != unmap.address || s->maps[i].size != unmap.size)
			continue;
		s->maps[i] = s->maps[--s->map_count];
		vfu_put(r, &unmap, sizeof(unmap));
		return 0;
	}
	return vfu_failed(r, EINVAL);
}

static int log_report(struct vfu_server *s, const uint8_t *in, struct vfu_reply *r)
{
	struct wire_logging_report ask;
	uint8_t *bits;
	bool whole = false;

	memcpy(&ask, in + 8, sizeof(ask));
	for (unsigned i = 0; i < s->map_count; i++)
		whole = whole || (s->maps[i].address == ask.iova && s->maps[i].size == ask.length);
	if (!whole)
		return vfu_failed(r, EINVAL);
	vfu_put(r, in, 8 + sizeof(ask));
	bits = r->payload + r->len;
	r->len += ALIGN_UP(ask.length / 4096 / 8, 8ull);
	memset(bits, 0, r->len - 8 - sizeof(ask));
	if (s->dirty)
		bits[(s->dirty - ask.iova) / 4096 / 8] |=
		        (uint8_t)(1 << (s->dirty - ask.iova) / 4096 % 8);
	s->dirty = 0;
	return 0;
}

static int feature(struct vfu_server *s, const struct wire_message *m, struct vfu_reply *r)
{
	struct vfio_device_feature f;
	const uint64_t offers = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY;
	uint32_t state[2];

	memcpy(&f, m->payload, sizeof(f));
	if (s->no_features)
		return vfu_failed(r, ENOTTY);
	if (f.flags & VFIO_DEVICE_FEATURE_PROBE) {
		vfu_put(r, m->payload, m->len);
		return 0;
	}
	switch (f.flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
		vfu_put(r, &f, sizeof(f));
		vfu_put(r, &offers, 8);
		return 0;
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		if (f.flags & VFIO_DEVICE_FEATURE_SET) {
			memcpy(&s->state, m->payload + 8, 4);
			s->data_at = 0;
		}
		state[0] = s->state;
		state[1] = 0;
		vfu_put(r, &f, sizeof(f));
		vfu_put(r, state, sizeof(state));
		return 0;
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
		vfu_put(r, m->payload, m->len);
		return 0;
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
		return log_report(s, m->payload, r);
	default:
		return vfu_failed(r, ENOTTY);
	}
}

static int mig_data(struct vfu_server *s, const struct wire_message *m, bool write,
                    struct vfu_reply *r)
{
	struct wire_mig_data d;

	memcpy(&d, m->payload, sizeof(d));
	if (write) {
		if (m->len != sizeof(d) + d.size)
			return vfu_failed(r, EINVAL);
		cr_assert_leq(s->data_len + d.size, sizeof(s->data));
		memcpy(s->data + s->data_len, m->payload + sizeof(d), d.size);
		s->data_len += d.size;
		return 0;
	}
	d.size = MIN(d.size, s->data_len - s->data_at);
	d.argsz = (uint32_t)sizeof(d) + d.size;
	vfu_put(r, &d, sizeof(d));
	vfu_put(r, s->data + s->data_at, d.size);
	s->data_at += d.size;
	return 0;
}

static void answer(struct vfu_server *s, struct wire_message *m, struct vfu_reply *r)
{
	switch (m->header.command) {
	case WIRE_VERSION:
		version(s, r);
		break;
	case WIRE_DMA_MAP:
		dma_map(s, m, r);
		break;
	case WIRE_DMA_UNMAP:
		dma_unmap(s, m->payload, r);
		break;
	case WIRE_DEVICE_GET_INFO:
		device_info(s, r);
		break;
	case WIRE_DEVICE_GET_REGION_INFO:
		region_info(s, m->payload, r);
		break;
	case WIRE_DEVICE_GET_REGION_IO_FDS:
		io_fds(s, m->payload, r);
		break;
	case WIRE_DEVICE_GET_IRQ_INFO:
		irq_info(s, m->payload, r);
		break;
	case WIRE_DEVICE_SET_IRQS:
		set_irqs(s, m, r);
		break;
	case WIRE_REGION_READ:
	case WIRE_REGION_WRITE:
		region_access(s, m, m->header.command == WIRE_REGION_WRITE, r);
		break;
	case WIRE_REGION_WRITE_MULTI:
		write_multi(s, m->payload);
		break;
	case WIRE_DEVICE_RESET:
		s->state = 2;
		break;
	case WIRE_DEVICE_FEATURE:
		feature(s, m, r);
		break;
	case WIRE_MIG_DATA_READ:
	case WIRE_MIG_DATA_WRITE:
		mig_data(s, m, m->header.command == WIRE_MIG_DATA_WRITE, r);
		break;
	default:
		vfu_failed(r, EOPNOTSUPP);
	}
}

/* ---- the thread
 * ----------------------------------------------------------------------------------- */

static bool serve(struct vfu_server *s, struct wire_message *m)
{
	static const struct vfu_reply none;
	struct vfu_reply *r = malloc(sizeof(*r));
	enum vfu_lie what = LIE_NONE;
	bool more = true;

	cr_assert_lt(m->header.command, WIRE_COMMANDS);
	memcpy(r, &none, sizeof(none));
	r->head = m->header;
	r->head.flags = WIRE_TYPE_REPLY;
	if (s->lie && m->header.command == s->on && s->nth-- == 0) {
		what = s->lie;
		__atomic_store_n(&s->lie, LIE_NONE, __ATOMIC_RELEASE);
	}
	answer(s, m, r);
	__atomic_fetch_add(&s->seen[m->header.command], 1, __ATOMIC_RELEASE);
	if (what)
		more = vfu_lie(s, r, what);
	else if (!(m->header.flags & WIRE_NO_REPLY))
		vfu_send_reply(s, r);
	for (unsigned i = 0; i < r->fd_count; i++)
		close(r->fds[i]);
	free(r);
	return more;
}

static void *server_main(void *opaque)
{
	struct vfu_server *s = opaque;
	struct wire_message m = { .payload = malloc(WIRE_MESSAGE_MAX) };
	bool more = true;

	while (more && wire_receive(s->socket, &m, patience_ms()) == 0) {
		more = serve(s, &m);
		wire_close_fds(&m);
	}
	shutdown(s->socket, SHUT_RDWR);
	free(m.payload);
	return NULL;
}

/* ---- life
 * ------------------------------------------------------------------------------------------ */

static void fill_config(uint8_t *c)
{
	c[0] = 0x34;
	c[1] = 0x12;
	c[2] = 0x78;
	c[3] = 0x56;
	c[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	c[PCI_CLASS_DEVICE + 1] = 0xff;
	c[PCI_CAPABILITY_LIST] = 0x40;
	c[0x40] = PCI_CAP_ID_MSIX;
	c[0x42] = 3; /* four vectors */
	c[0x44] = 4; /* table at the beginning of BAR 4 */
	c[0x48] = 4; /* and what is pending */
	c[0x49] = 0x08;
}

void vfu_server_init(struct vfu_server *s)
{
	memset(s, 0, sizeof(*s));
	s->client = s->socket = s->twin = s->bar2_fd = s->request_fd = s->error_fd = -1;
	s->minor = WIRE_MINOR;
	s->state = 2;
	memset(s->vectors, 0xff, sizeof(s->vectors));
	memset(s->bell_fds, 0xff, sizeof(s->bell_fds));
	fill_config(s->config);
}

void vfu_server_start(struct vfu_server *s)
{
	int pair[2];

	s->map_count = 0;
	s->bar2_fd = memfd_create("bar2", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(ftruncate(s->bar2_fd, 0x11000), 0);
	if (!s->plain_file)
		cr_assert_eq(fcntl(s->bar2_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->client = pair[0];
	s->socket = pair[1];
	cr_assert_eq(pthread_create(&s->thread, NULL, server_main, s), 0);
	s->started = true;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vfu_server_stop(struct vfu_server *s)
{
	if (!s->started)
		return;
	shutdown(s->socket, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	s->started = false;
	close_one(&s->socket);
	close_one(&s->client);
	close_one(&s->twin);
	close_one(&s->bar2_fd);
	close_one(&s->request_fd);
	close_one(&s->error_fd);
	for (unsigned i = 0; i < ARRAY_SIZE(s->vectors); i++)
		close_one(&s->vectors[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(s->bell_fds); i++)
		close_one(&s->bell_fds[i]);
}

void vfu_server_free(struct vfu_server *s)
{
	vfu_server_stop(s);
}

int vfu_server_dma(struct vfu_server *s, bool write, uint64_t address, void *buf, uint32_t len)
{
	const struct wire_header h = { .id = 0x4321,
		                       .command = write ? WIRE_DMA_WRITE : WIRE_DMA_READ };
	struct wire_dma_access a = { address, len };
	const struct iovec parts[] = { { &a, sizeof(a) }, { buf, write ? len : 0 } };
	struct wire_message m = { .payload = malloc(WIRE_MESSAGE_MAX) };
	int r;

	cr_assert_eq(wire_send(s->twin, &h, parts, 2, NULL, 0, patience_ms()), 0);
	r = wire_receive(s->twin, &m, patience_ms());
	if (!r) {
		cr_assert_eq(m.header.id, 0x4321);
		cr_assert_eq(m.header.command, h.command);
		r = m.header.flags & WIRE_ERROR ? (int)m.header.error : 0;
		if (!r && !write)
			memcpy(buf, m.payload + sizeof(a), len);
		cr_assert_eq(m.len, r ? 0 : sizeof(a) + (write ? 0 : len));
	}
	free(m.payload);
	return r;
}
