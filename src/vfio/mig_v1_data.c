/* SPDX-License-Identifier: Apache-2.0 */
/* Protocol v1: chunks out of the data section, and into it. */
#include "vfio/mig_v1.h"

#include "base/util.h"

#include <endian.h>
#include <string.h>
#include <sys/mman.h>

#define INFO_OFFSET(field) offsetof(struct vfio_device_migration_info, field)
#define INFO_SIZE sizeof(struct vfio_device_migration_info)

static const struct vfio_region *region_of(const struct mig_v1 *m)
{
	return &m->state.dev->regions[m->region];
}

int mig_v1_data_init(struct mig_v1 *m, struct gw_error *err)
{
	for (unsigned i = 0; i < VFIO_AREAS_MAX; i++)
		m->maps[i] = MAP_FAILED;
	m->stage = MAP_FAILED;
	m->stage_fd = memfd_create("vfio-migration", MFD_CLOEXEC);
	if (m->stage_fd < 0 || ftruncate(m->stage_fd, MIG_V1_PIECE) < 0)
		return error_set_sys(err, -errno, "migration region: memfd");
	m->stage = mmap(NULL, MIG_V1_PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, m->stage_fd, 0);
	if (m->stage == MAP_FAILED)
		return error_set_sys(err, -errno, "migration region: mmap");
	return 0;
}

static void unmap(struct mig_v1 *m)
{
	const struct vfio_region *r = region_of(m);

	for (unsigned i = 0; i < r->area_count; i++) {
		if (m->maps[i] != MAP_FAILED)
			munmap(m->maps[i], r->areas[i].size);
		m->maps[i] = MAP_FAILED;
	}
}

void mig_v1_data_fini(struct mig_v1 *m)
{
	unmap(m);
	if (m->stage != MAP_FAILED)
		munmap(m->stage, MIG_V1_PIECE);
	if (m->stage_fd >= 0)
		close(m->stage_fd);
}

void mig_v1_data_restart(struct mig_v1 *m, bool moves_data)
{
	const struct vfio_region *r = region_of(m);

	if (!moves_data)
		unmap(m);
	/* What cannot be mapped is trapped: slower, but as good. */
	for (unsigned i = 0; moves_data && i < r->area_count; i++)
		if (m->maps[i] == MAP_FAILED)
			m->maps[i] = vfio_area_map(m->state.dev, m->region, &r->areas[i]);
	m->chunk = (struct mig_v1_chunk){ 0 };
	m->stage_len = m->stage_at = 0;
	m->head_len = 0;
}

static int get_u64(struct mig_v1 *m, size_t offset, const char *name, uint64_t *out,
                   struct gw_error *err)
{
	int r = vfio_region_read(m->state.dev, m->region, offset, out, sizeof(*out));

	return r < 0 ? error_set_sys(err, r, "migration region: %s", name) : 0;
}

int mig_v1_pending_bytes(struct mig_v1 *m, uint64_t *out, struct gw_error *err)
{
	return get_u64(m, INFO_OFFSET(pending_bytes), "pending_bytes", out, err);
}

/* ---- the section --------------------------------------------------------------------------- */

/* Where `offset` is mapped, NULL if it is not; *len is cut to what is alike. */
static void *mapped_at(struct mig_v1 *m, uint64_t offset, size_t *len)
{
	const struct vfio_region *r = region_of(m);

	for (unsigned i = 0; i < r->area_count; i++) {
		const struct vfio_area *a = &r->areas[i];

		if (m->maps[i] == MAP_FAILED || a->offset + a->size <= offset)
			continue;
		if (a->offset > offset) {
			*len = MIN(*len, a->offset - offset);
			continue;
		}
		*len = MIN(*len, a->offset + a->size - offset);
		return (char *)m->maps[i] + (offset - a->offset);
	}
	return NULL;
}

/* By the kernel, between the stage's file and what is mapped: a page that is not there any more
 * gives EFAULT. */
static int copy_mapped(struct mig_v1 *m, void *mapped, size_t at, size_t len, bool in)
{
	size_t done = 0;

	while (done < len) {
		off_t offset = (off_t)(at + done);
		char *p = (char *)mapped + done;
		ssize_t n = in ? pwrite(m->stage_fd, p, len - done, offset)
		               : pread(m->stage_fd, p, len - done, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* [0, len) of the stage from (`in`) or to the section. */
static int move(struct mig_v1 *m, uint64_t offset, size_t len, bool in, struct gw_error *err)
{
	struct vfio_dev *dev = m->state.dev;

	for (size_t at = 0; at < len;) {
		size_t n = len - at;
		void *mapped = mapped_at(m, offset + at, &n);
		int r;

		if (mapped)
			r = copy_mapped(m, mapped, at, n, in);
		else if (in)
			r = vfio_region_read(dev, m->region, offset + at, m->stage + at, n);
		else
			r = vfio_region_write(dev, m->region, offset + at, m->stage + at, n);
		if (r < 0)
			return error_set_sys(err, r,
			                     "migration region: %zu bytes of data at 0x%llx", n,
			                     (unsigned long long)(offset + at));
		at += n;
	}
	return 0;
}

/* Where the device wants the next chunk, or has it. */
static int place_chunk(struct mig_v1 *m, uint64_t size, struct gw_error *err)
{
	const uint64_t room = region_of(m)->size;

	if (!size || m->chunk.offset < INFO_SIZE || m->chunk.offset > room ||
	    size > room - m->chunk.offset)
		return error_set(err, -EPROTO,
		                 "migration region: a chunk of %llu bytes at 0x%llx, in 0x%llx",
		                 (unsigned long long)size, (unsigned long long)m->chunk.offset,
		                 (unsigned long long)room);
	m->chunk.size = size;
	m->chunk.done = 0;
	m->chunk.open = true;
	return 0;
}

static size_t next_piece(const struct mig_v1 *m)
{
	return MIN((uint64_t)MIG_V1_PIECE, m->chunk.size - m->chunk.done);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* The next chunk's length goes into the stage. 0: there is none. */
static int open_chunk(struct mig_v1 *m, struct gw_error *err)
{
	uint64_t pending, size;
	int r = mig_v1_pending_bytes(m, &pending, err);

	if (r < 0 || !pending)
		return r;
	r = get_u64(m, INFO_OFFSET(data_offset), "data_offset", &m->chunk.offset, err);
	if (!r)
		r = get_u64(m, INFO_OFFSET(data_size), "data_size", &size, err);
	/* "None yet" is not in the protocol, but devices that say so in pre-copy exist. */
	if (!r && !size && m->state.now == MIG_V1_PRE_COPY)
		return 0;
	if (!r)
		r = place_chunk(m, size, err);
	if (r < 0)
		return r;
	size = htole64(size);
	memcpy(m->stage, &size, sizeof(size));
	m->stage_at = 0;
	m->stage_len = sizeof(size);
	return 1;
}

/* 1: there is something in the stage now. */
static int fill_stage(struct mig_v1 *m, struct gw_error *err)
{
	size_t len = next_piece(m);
	uint64_t pending;
	int r;

	if (!m->chunk.open)
		return open_chunk(m, err);
	r = move(m, m->chunk.offset + m->chunk.done, len, true, err);
	if (r < 0)
		return r;
	m->stage_at = 0;
	m->stage_len = len;
	m->chunk.done += len;
	if (m->chunk.done < m->chunk.size)
		return 1;
	/* With this the device knows that its chunk was taken. */
	m->chunk.open = false;
	r = mig_v1_pending_bytes(m, &pending, err);
	return r < 0 ? r : 1;
}

ssize_t mig_v1_read(struct mig_v1 *m, uint8_t *buf, size_t len, struct gw_error *err)
{
	size_t done = 0;

	while (done < len) {
		size_t n = MIN(m->stage_len - m->stage_at, len - done);

		if (!n) {
			int r = fill_stage(m, err);

			if (r < 0)
				return r;
			if (!r)
				break;
			continue;
		}
		memcpy(buf + done, m->stage + m->stage_at, n);
		m->stage_at += n;
		done += n;
	}
	return (ssize_t)done;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int begin_chunk(struct mig_v1 *m, struct gw_error *err)
{
	uint64_t size;
	int r = get_u64(m, INFO_OFFSET(data_offset), "data_offset", &m->chunk.offset, err);

	memcpy(&size, m->head, sizeof(size));
	m->head_len = 0;
	m->stage_len = 0;
	return r ? r : place_chunk(m, le64toh(size), err);
}

static int put_piece(struct mig_v1 *m, struct gw_error *err)
{
	int r = move(m, m->chunk.offset + m->chunk.done, m->stage_len, false, err);

	if (r < 0)
		return r;
	m->chunk.done += m->stage_len;
	m->stage_len = 0;
	if (m->chunk.done < m->chunk.size)
		return 0;
	/* With this the device takes the chunk. */
	m->chunk.open = false;
	r = vfio_region_write(m->state.dev, m->region, INFO_OFFSET(data_size), &m->chunk.size,
	                      sizeof(m->chunk.size));
	return r < 0 ? error_set_sys(err, r, "migration region: data_size (%llu)",
	                             (unsigned long long)m->chunk.size)
	             : 0;
}

int mig_v1_write(struct mig_v1 *m, const uint8_t *buf, size_t len, struct gw_error *err)
{
	int r = 0;

	while (len && !r) {
		const bool head = !m->chunk.open;
		uint8_t *to = head ? m->head + m->head_len : m->stage + m->stage_len;
		size_t room = head ? sizeof(m->head) - m->head_len : next_piece(m) - m->stage_len;
		size_t n = MIN(len, room);

		memcpy(to, buf, n);
		buf += n;
		len -= n;
		if (head)
			m->head_len += (unsigned)n;
		else
			m->stage_len += n;
		if (n == room)
			r = head ? begin_chunk(m, err) : put_piece(m, err);
	}
	return r;
}
