/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as the client maps it: by descriptor, which is mapped here, or
 * without, which is read and written by messages to the client.
 *
 * A file may be cut short by the client at any time, and touching what is gone
 * raises SIGBUS: at the moment of mapping the file has to be long enough; what
 * comes later is the process's to survive (see gw_device_server_new()).
 * Source: the vfio-user protocol specification, VFIO_USER_DMA_MAP and below.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* ---- the list ---- */

unsigned server_dma_find_after(const struct server_dma *dma, uint64_t address)
{
	unsigned low = 0, high = dma->count;

	while (low < high) {
		const unsigned mid = (low + high) / 2;
		const struct dma_map *m = &dma->maps[mid];

		if (m->address + (m->size - 1) < address)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The map that all of [address, address + len) lies in. */
static struct dma_map *find(const struct server_dma *dma, uint64_t address, uint64_t len)
{
	const unsigned i = server_dma_find_after(dma, address);
	struct dma_map *m = i < dma->count ? &dma->maps[i] : NULL;

	if (!m || address < m->address || len > m->size - (address - m->address))
		return NULL;
	return m;
}

static void release(struct dma_map *m)
{
	if (m->mapping)
		munmap(m->mapping, m->mapping_len);
	free(m->dirty);
}

/* ---- mapping ---- */

/* Pages that mmap() wants offset and length to be multiples of. */
static uint64_t page_of(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && (uint64_t)fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return PAGE_SIZE;
}

static int map_file(struct dma_map *m, int fd, uint64_t offset, bool readable)
{
	const uint64_t page = page_of(fd), skip = offset % page;
	struct stat st;
	uint64_t end;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || offset % PAGE_SIZE || add_overflows(offset, m->size, &end) ||
	    end > (uint64_t)st.st_size)
		return -EINVAL;
	if (!readable && !m->writable)
		return -EINVAL;
	m->mapping_len = ALIGN_UP(m->size + skip, page);
	/* What is not to be written to is mapped privately: a write stays in here. */
	m->mapping = mmap(NULL, m->mapping_len, PROT_READ | PROT_WRITE,
	                  (m->writable ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE, fd,
	                  (off_t)(offset - skip));
	if (m->mapping == MAP_FAILED) {
		m->mapping = NULL;
		return -errno;
	}
	m->hva = (uint8_t *)m->mapping + skip;
	return 0;
}

static int make_room(struct server_dma *dma)
{
	const unsigned room = dma->room ? 2 * dma->room : 16;
	struct dma_map *maps;

	if (dma->count < dma->room)
		return 0;
	maps = realloc(dma->maps, room * sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	dma->maps = maps;
	dma->room = room;
	return 0;
}

static int insert(struct server *s, const struct dma_map *m)
{
	struct server_dma *dma = &s->dma;
	const unsigned at = server_dma_find_after(dma, m->address);
	int r;

	pthread_rwlock_wrlock(&dma->lock);
	r = make_room(dma);
	if (!r) {
		memmove(&dma->maps[at + 1], &dma->maps[at],
		        (dma->count - at) * sizeof(dma->maps[0]));
		dma->maps[at] = *m;
		dma->count++;
	}
	pthread_rwlock_unlock(&dma->lock);
	return r;
}

static bool overlaps(const struct server_dma *dma, const struct dma_map *m)
{
	const unsigned i = server_dma_find_after(dma, m->address);

	return i < dma->count && dma->maps[i].address <= m->address + (m->size - 1);
}

int server_dma_map(struct server *s, struct request *q)
{
	const uint32_t known = WIRE_DMA_FLAG_READ | WIRE_DMA_FLAG_WRITE;
	struct wire_dma_map asked;
	struct dma_map m;
	int r = 0;

	memcpy(&asked, q->data, sizeof(asked));
	m = (struct dma_map){
		.address = asked.address,
		.size = asked.size,
		.writable = asked.flags & WIRE_DMA_FLAG_WRITE,
	};
	if (asked.argsz < sizeof(asked) || (asked.flags & ~known) || !m.size ||
	    m.size - 1 > UINT64_MAX - m.address || (m.address | m.size) % PAGE_SIZE ||
	    q->message->fd_count > 1)
		return -EINVAL;
	if (overlaps(&s->dma, &m))
		return -EEXIST;
	if (s->dma.count == SERVER_DMA_MAPS_MAX)
		return -ENOSPC;
	if (q->message->fd_count)
		r = map_file(&m, q->message->fds[0], asked.offset,
		             asked.flags & WIRE_DMA_FLAG_READ);
	if (!r)
		r = server_log_attach(s, &m);
	if (!r)
		r = insert(s, &m);
	if (r < 0)
		release(&m);
	else if (!s->paused)
		machine_rerun_outside(s->machine);
	return r;
}

/* ---- unmapping ---- */

/* With nothing in flight: no device has an address of it in hand. */
static void remove_at(struct server_dma *dma, unsigned i)
{
	struct dma_map gone = dma->maps[i];

	pthread_rwlock_wrlock(&dma->lock);
	dma->count--;
	memmove(&dma->maps[i], &dma->maps[i + 1], (dma->count - i) * sizeof(dma->maps[0]));
	pthread_rwlock_unlock(&dma->lock);
	release(&gone);
}

static void unmap(struct server *s, unsigned from, unsigned count)
{
	const bool ran = !s->paused;

	if (ran)
		machine_pause(s->machine);
	while (count--)
		remove_at(&s->dma, from + count);
	if (ran)
		machine_run(s->machine);
}

int server_dma_unmap(struct server *s, struct request *q)
{
	const struct server_dma *dma = &s->dma;
	struct wire_dma_unmap asked;
	const struct dma_map *m;
	unsigned i;

	memcpy(&asked, q->data, sizeof(asked));
	if (asked.flags == VFIO_DMA_UNMAP_FLAG_ALL && !asked.address && !asked.size) {
		unmap(s, 0, dma->count);
	} else {
		i = server_dma_find_after(dma, asked.address);
		m = i < dma->count ? &dma->maps[i] : NULL;
		if (asked.flags || !m || m->address != asked.address || m->size != asked.size)
			return asked.flags ? -EINVAL : -ENOENT;
		unmap(s, i, 1);
	}
	memcpy(q->reply, &asked, sizeof(asked));
	q->reply_len = sizeof(asked);
	return 0;
}

void server_dma_drop(struct server *s)
{
	server_log_stop(s);
	unmap(s, 0, s->dma.count);
}

/* ---- used by the device ---- */

void *server_dma_hva(void *opaque, uint64_t address, uint64_t len)
{
	struct server_dma *dma = &((struct server *)opaque)->dma;
	const struct dma_map *m;
	void *hva;

	pthread_rwlock_rdlock(&dma->lock);
	m = find(dma, address, len);
	hva = m && m->hva ? m->hva + (address - m->address) : NULL;
	pthread_rwlock_unlock(&dma->lock);
	return hva;
}

static int ask_read(struct server *s, uint64_t address, void *buf, size_t len)
{
	struct wire_dma_access access = { address, len }, *reply;
	const struct iovec part = { &access, sizeof(access) };
	autofree uint8_t *room = malloc(sizeof(*reply) + len);
	ssize_t n;

	if (!room)
		return -ENOMEM;
	reply = (void *)room;
	n = server_ask(s, WIRE_DMA_READ, &part, 1, room, sizeof(*reply) + len);
	if (n < 0)
		return (int)n;
	if ((size_t)n != sizeof(*reply) + len || reply->address != address || reply->count != len)
		return -EFAULT;
	memcpy(buf, room + sizeof(*reply), len);
	return 0;
}

/* The reply's count is 4 bytes in the specification's table and 8 elsewhere: only what both have
 * in common is looked at. */
static int ask_write(struct server *s, uint64_t address, const void *buf, size_t len)
{
	struct wire_dma_access access = { address, len }, reply = { 0 };
	const struct iovec parts[] = {
		{ &access, sizeof(access) },
		{ (void *)(uintptr_t)buf, len },
	};
	ssize_t n = server_ask(s, WIRE_DMA_WRITE, parts, 2, &reply, sizeof(reply));

	if (n < 0)
		return (int)n;
	return n < 12 || reply.address != address || (uint32_t)reply.count != len ? -EFAULT : 0;
}

static int by_message(struct server *s, uint64_t address, uint8_t *buf, size_t len, bool write)
{
	const size_t most = MIN((size_t)s->caps.max_data_xfer_size, (size_t)WIRE_MAX_DATA);
	int r = 0;

	for (size_t n; len && !r; address += n, buf += n, len -= n) {
		n = MIN(len, most);
		r = write ? ask_write(s, address, buf, n) : ask_read(s, address, buf, n);
	}
	return r;
}

/* Maps do not change meanwhile: that happens on this thread, too. */
int server_dma_access(void *opaque, uint64_t address, void *buf, size_t len, bool write)
{
	struct server *s = opaque;
	const struct dma_map *m = find(&s->dma, address, len);
	uint8_t *at;

	if (!m || (write && !m->writable))
		return -EFAULT;
	if (!m->hva)
		return by_message(s, address, buf, len, write);
	at = m->hva + (address - m->address);
	memcpy(write ? at : buf, write ? buf : at, len);
	if (write)
		server_dma_dirty(s, address, len);
	return 0;
}

/* ---- made and gone ---- */

int server_dma_init(struct server *s, struct gw_error *err)
{
	const int r = pthread_rwlock_init(&s->dma.lock, NULL);

	return r ? error_set_sys(err, -r, "memory map: lock") : 0;
}

void server_dma_fini(struct server *s)
{
	for (unsigned i = 0; i < s->dma.count; i++)
		release(&s->dma.maps[i]);
	free(s->dma.maps);
	pthread_rwlock_destroy(&s->dma.lock);
}
