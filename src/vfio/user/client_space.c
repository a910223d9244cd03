/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address space of a device in another process. RAM goes there by its
 * descriptor, and the server maps it; what has none is read and written by
 * messages, and then it is for us to say what became dirty. A device can do no
 * DMA to another device's memory: that would hand out the other's descriptor.
 *
 * Mappings are kept to be told again to a server that comes back, and to check
 * what it asks for. A mapping that is asked for while there is no server is
 * only kept.
 */
#include "vfio/user/client_device.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <string.h>

/* A server may report dirty pages of whole mappings only, in one message. */
#define PIECE_MAX (16 * GIB)

struct vfu_mapping {
	uint64_t iova, size;
	uint8_t *hva;
	int fd;
	uint64_t fd_offset;
	bool readonly;
	uint64_t *dirty; /* what the server has reported and nobody has asked for; a bit a page */
	struct vfu_mapping *next;
};

struct vfu_space {
	struct vfio_space space;
	const char *name;
	struct vfu *vfu;
	/* Mappings change, and are told, one at a time; taken before `lock`. */
	pthread_mutex_t changing;
	pthread_mutex_t lock; /* the list; never held while a reply is waited for */
	struct vfu_mapping *mappings;
	uint32_t count;
	bool stale; /* something has changed of which the server was not told; by `changing` */
};

static struct vfu_space *of(struct vfio_space *s)
{
	return container_of(s, struct vfu_space, space);
}

/* ---- telling the server -----------------------------------------------------------------------
 */

static int tell(struct vfu_space *s, const struct vfu_mapping *m, struct gw_error *err)
{
	struct wire_dma_map map = {
		.argsz = sizeof(map),
		.flags = WIRE_DMA_FLAG_READ | (m->readonly ? 0 : WIRE_DMA_FLAG_WRITE),
		.offset = m->fd_offset,
		.address = m->iova,
		.size = m->size,
	};
	const bool by_fd = vfu_caps(s->vfu).max_msg_fds > 0;
	struct vfu_request r = {
		.command = WIRE_DMA_MAP,
		.parts = { { &map, sizeof(map) } },
		.part_count = 1,
		.fds = &m->fd,
		.fd_count = by_fd,
	};
	int ret;

	if (!by_fd)
		map.offset = 0;
	ret = vfu_call(s->vfu, &r);
	return ret < 0 ? error_set_sys(err, ret, "%s: DMA_MAP of 0x%llx bytes at 0x%llx", s->name,
	                               (unsigned long long)m->size, (unsigned long long)m->iova)
	               : 0;
}

/* Its reply means that the server has no reference left, so that the memory may be given away. */
static void take_back(struct vfu_space *s, const struct vfu_mapping *m)
{
	struct wire_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.address = m->iova,
		.size = m->size,
	};
	struct wire_dma_unmap echo;
	ssize_t ret = vfu_ask(s->vfu, WIRE_DMA_UNMAP, &unmap, sizeof(unmap), &echo, sizeof(echo));

	if (ret == -ENOTCONN)
		s->stale = true;
	/* A server that keeps guest memory is better gone. */
	else if (ret < 0)
		vfu_departs(s->vfu, VFU_KEEPS_MEMORY, "DMA_UNMAP at 0x%llx: %s",
		            (unsigned long long)m->iova, strerror((int)-ret));
}

/* ---- mappings
 * -------------------------------------------------------------------------------------- */

static void forget(struct vfu_space *s, uint64_t iova)
{
	struct vfu_mapping *gone = NULL;

	pthread_mutex_lock(&s->lock);
	for (struct vfu_mapping **pp = &s->mappings; *pp; pp = &(*pp)->next) {
		if ((*pp)->iova != iova)
			continue;
		gone = *pp;
		*pp = gone->next;
		s->count--;
		break;
	}
	pthread_mutex_unlock(&s->lock);
	if (gone)
		free(gone->dirty);
	free(gone);
}

static int map_piece(struct vfu_space *s, const struct vfio_mapping *all, uint64_t at,
                     struct gw_error *err)
{
	struct vfu_mapping *m = calloc(1, sizeof(*m));
	uint32_t most;
	int r = 0;

	if (!m)
		return error_set(err, -ENOMEM, "out of memory");
	m->iova = all->iova + at;
	m->size = MIN(PIECE_MAX, all->size - at);
	m->hva = all->hva ? (uint8_t *)all->hva + at : NULL;
	m->fd = all->fd;
	m->fd_offset = all->fd_offset + at;
	m->readonly = all->readonly;
	pthread_mutex_lock(&s->lock);
	m->next = s->mappings;
	s->mappings = m;
	s->count++;
	pthread_mutex_unlock(&s->lock);
	if (!s->vfu)
		return 0;
	most = vfu_caps(s->vfu).max_dma_maps;
	if (s->count > most)
		r = error_set(err, -ENOSPC, "%s: it takes no more than %u mappings", s->name, most);
	if (!r)
		r = tell(s, m, err);
	if (r == -ENOTCONN) {
		s->stale = true;
		r = 0;
	}
	if (r < 0)
		forget(s, m->iova);
	return r;
}

/* The next mapping that begins in [iova, iova + size). Only who holds `changing` takes it away. */
static struct vfu_mapping *within(struct vfu_space *s, uint64_t iova, uint64_t size)
{
	struct vfu_mapping *m;

	pthread_mutex_lock(&s->lock);
	for (m = s->mappings; m && (m->iova < iova || m->iova - iova >= size); m = m->next)
		;
	pthread_mutex_unlock(&s->lock);
	return m;
}

static void unmap(struct vfio_space *base, uint64_t iova, uint64_t size)
{
	struct vfu_space *s = of(base);
	struct vfu_mapping *m;

	/* Another device's memory, say: that need not wait for this one's server. */
	if (!within(s, iova, size))
		return;
	pthread_mutex_lock(&s->changing);
	while ((m = within(s, iova, size))) {
		if (s->vfu)
			take_back(s, m);
		forget(s, m->iova);
	}
	pthread_mutex_unlock(&s->changing);
}

static int map(struct vfio_space *base, const struct vfio_mapping *mapping, struct gw_error *err)
{
	struct vfu_space *s = of(base);
	int r = 0;

	if (mapping->device)
		return error_set(err, -EOPNOTSUPP,
		                 "a device in another process reaches no other device's memory");
	if (mapping->fd < 0)
		return error_set(err, -EOPNOTSUPP,
		                 "%s: guest RAM at 0x%llx is not shared, so no other process can "
		                 "map it; set backing.shared in the configuration that the "
		                 "machine starts with",
		                 s->name, (unsigned long long)mapping->iova);
	pthread_mutex_lock(&s->changing);
	for (uint64_t at = 0; at < mapping->size && !r; at += PIECE_MAX)
		r = map_piece(s, mapping, at, err);
	pthread_mutex_unlock(&s->changing);
	if (r < 0)
		unmap(base, mapping->iova, mapping->size);
	return r;
}

int vfu_space_tell_again(struct vfu_space *s, struct gw_error *err)
{
	int r = 0;

	pthread_mutex_lock(&s->changing);
	s->stale = false;
	/* The device is being taken away. */
	if (!s->vfu)
		r = error_set(err, -ENOTCONN, "%s: it is not needed any more", s->name);
	for (struct vfu_mapping *m = s->mappings; m && !r; m = m->next)
		r = tell(s, m, err);
	pthread_mutex_unlock(&s->changing);
	return r;
}

bool vfu_space_is_stale(struct vfu_space *s)
{
	bool stale;

	pthread_mutex_lock(&s->changing);
	stale = s->stale;
	pthread_mutex_unlock(&s->changing);
	return stale;
}

/* ---- DMA by message
 * ----------------------------------------------------------------------------------- */

static const struct vfu_mapping *holds(const struct vfu_space *s, uint64_t address)
{
	for (const struct vfu_mapping *m = s->mappings; m; m = m->next)
		if (address >= m->iova && address - m->iova < m->size)
			return m;
	return NULL;
}

int vfu_space_access(struct vfu_space *s, bool write, uint64_t address, void *buf, size_t len)
{
	size_t done = 0;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (done < len && !r) {
		const uint64_t at = address + done;
		const struct vfu_mapping *m = at < address ? NULL : holds(s, at);
		size_t n = m ? MIN(len - done, (size_t)(m->size - (at - m->iova))) : 0;

		if (!m || (write && m->readonly)) {
			r = -EFAULT;
		} else if (write) {
			memcpy(m->hva + (at - m->iova), (uint8_t *)buf + done, n);
			memory_mark_dirty(s->space.machine->memory, at, n);
		} else {
			memcpy((uint8_t *)buf + done, m->hva + (at - m->iova), n);
		}
		done += n;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* ---- what the device has written
 * ------------------------------------------------------------------------ */

/* A mapping's bitmap from the server, which has forgotten it then; it is added to `dirty`. */
static int fetch(struct vfu_space *s, struct vfu_mapping *m)
{
	const size_t bytes = ALIGN_UP(DIV_ROUND_UP(m->size / PAGE_SIZE, 8ull), 8ull);
	struct {
		struct vfio_device_feature head;
		struct wire_logging_report report;
	} ask = {
		.head = { .argsz = (uint32_t)(sizeof(ask) + bytes),
		          .flags = VFIO_DEVICE_FEATURE_GET |
		                   VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT },
		.report = { m->iova, m->size, PAGE_SIZE },
	};
	autofree uint8_t *reply = malloc(sizeof(ask) + bytes);
	ssize_t n;

	if (!m->dirty)
		m->dirty = calloc(1, bytes);
	if (!reply || !m->dirty)
		return -ENOMEM;
	n = vfu_ask(s->vfu, WIRE_DEVICE_FEATURE, &ask, sizeof(ask), reply, sizeof(ask) + bytes);
	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(ask) + bytes)
		return vfu_departs(s->vfu, VFU_SHORT_REPLY, "a report of dirty pages in %zd bytes",
		                   n);
	if (memcmp(reply + sizeof(ask.head), &ask.report, sizeof(ask.report)))
		return vfu_departs(s->vfu, VFU_OTHER_REPLY, "a report of other dirty pages");
	for (size_t w = 0; w < bytes / 8; w++) {
		uint64_t bits;

		memcpy(&bits, reply + sizeof(ask) + w * 8, 8);
		m->dirty[w] |= bits;
	}
	return 0;
}

/* Hands out what is in the mapping and in [iova, end). */
static void hand_out(struct vfu_mapping *m, uint64_t iova, uint64_t end, uint64_t page,
                     uint64_t *bits)
{
	const uint64_t from = MAX(iova, m->iova), to = MIN(end, m->iova + m->size);

	for (uint64_t at = from; at < to; at += PAGE_SIZE) {
		const uint64_t n = (at - m->iova) / PAGE_SIZE, out = (at - iova) / page;

		if (!m->dirty[n / 64] && !(n % 64) && to - at >= 64 * PAGE_SIZE) {
			at += 63 * PAGE_SIZE;
			continue;
		}
		if (!(m->dirty[n / 64] >> (n % 64) & 1))
			continue;
		m->dirty[n / 64] &= ~(1ull << (n % 64));
		bits[out / 64] |= 1ull << (out % 64);
	}
}

int vfu_space_report(struct vfu_space *s, uint64_t iova, uint64_t len, uint64_t page,
                     uint64_t *bits)
{
	uint64_t end;
	int r = 0;

	if (!len || add_overflows(iova, len, &end) || page < PAGE_SIZE || (page & (page - 1)) ||
	    iova % PAGE_SIZE)
		return -EINVAL;
	pthread_mutex_lock(&s->changing);
	for (struct vfu_mapping *m = s->mappings; m && !r; m = m->next) {
		if (m->iova >= end || iova >= m->iova + m->size)
			continue;
		r = fetch(s, m);
		if (!r)
			hand_out(m, iova, end, page, bits);
	}
	pthread_mutex_unlock(&s->changing);
	return r;
}

/* ---- life
 * -------------------------------------------------------------------------------------------- */

static void destroy(struct vfio_space *base)
{
	struct vfu_space *s = of(base);

	vfio_space_fini(base);
	while (s->mappings)
		forget(s, s->mappings->iova);
	pthread_mutex_destroy(&s->changing);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct vfio_space_ops space_ops = {
	.backend = "vfio-user",
	.map = map,
	.unmap = unmap,
	.destroy = destroy,
};

int vfu_space_create(struct machine *m, const char *name, struct vfu_space **out,
                     struct gw_error *err)
{
	struct vfu_space *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->name = name;
	pthread_mutex_init(&s->changing, NULL);
	pthread_mutex_init(&s->lock, NULL);
	vfio_space_init(&s->space, &space_ops, m);
	/* A server that comes back has other memory there, and whoever has pinned the old would go
	 * on with that. */
	s->space.alone = true;
	/* A page that is given back to the host goes from the server's mapping as well. */
	s->space.listener.pins_nothing = true;
	*out = s;
	return 0;
}

struct vfio_space *vfu_space_base(struct vfu_space *s)
{
	return &s->space;
}

void vfu_space_set(struct vfu_space *s, struct vfu *vfu)
{
	pthread_mutex_lock(&s->changing);
	s->vfu = vfu;
	pthread_mutex_unlock(&s->changing);
}
