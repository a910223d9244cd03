/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration region of protocol v1: registers, and a data section behind
 * them which is trapped, mapped, or half and half.
 *
 * A bit of device_state that the protocol leaves reserved is set here: a
 * client that does not keep it as it read it is told so.
 * Source: <linux/vfio.h>, struct vfio_device_migration_info, Linux 5.8 to 5.17.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>

#define RUNNING 1u
#define SAVING 2u
#define RESUMING 4u
#define STATE_MASK 7u
#define STATE_ERROR (SAVING | RESUMING)
#define STATE_RESERVED 0x100u

#define DATA_OFFSET PAGE_SIZE
#define DATA_SIZE MIB
#define REGION_SIZE (DATA_OFFSET + DATA_SIZE)

/* ---- made and gone ---- */

int server_v1_create(struct server *s, struct gw_error *err)
{
	struct server_v1 *v1 = &s->v1;
	autoclose int fd = -1;
	void *memory;

	if (s->options.migration != SERVER_MIGRATION_V1)
		return 0;
	fd = memfd_create("godwit-migration", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)REGION_SIZE) < 0 ||
	    /* The client gets it, and must not be able to cut it short. */
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_set_sys(err, -errno, "migration region: memfd");
	memory = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return error_set_sys(err, -errno, "migration region: mmap");
	v1->memory = memory;
	v1->fd = take_fd(&fd);
	server_v1_reset(s);
	return 0;
}

void server_v1_destroy(struct server *s)
{
	if (s->v1.memory)
		munmap(s->v1.memory, REGION_SIZE);
	if (s->v1.fd >= 0)
		close(s->v1.fd);
	s->v1.memory = NULL;
	s->v1.fd = -1;
}

void server_v1_reset(struct server *s)
{
	s->v1.state = RUNNING | STATE_RESERVED;
	s->v1.data_offset = DATA_OFFSET;
	s->v1.data_size = 0;
	s->v1.staged = s->v1.error = false;
}

uint64_t server_v1_size(const struct server *s)
{
	(void)s;
	return REGION_SIZE;
}

void server_v1_mappable(const struct server *s, uint64_t *offset, uint64_t *size)
{
	static const struct {
		uint64_t offset, size;
	} areas[] = {
		[SERVER_V1_TRAPPED] = { 0, 0 },
		[SERVER_V1_MAPPED] = { DATA_OFFSET, DATA_SIZE },
		[SERVER_V1_MIXED] = { DATA_OFFSET + DATA_SIZE / 2, DATA_SIZE / 2 },
	};

	*offset = areas[s->options.v1_data].offset;
	*size = areas[s->options.v1_data].size;
}

/* ---- states ---- */

/* Stopped, running, stop-and-copy, pre-copy, resuming. The device goes from any of them to any
 * other, but not back from stop-and-copy into pre-copy. */
static bool may(uint32_t from, uint32_t to)
{
	return to != (RUNNING | RESUMING) && to != STATE_ERROR && to != STATE_MASK &&
	       !(from == SAVING && to == (SAVING | RUNNING));
}

static int enter(struct server *s, uint32_t from, uint32_t to, struct gw_error *err)
{
	int r = 0;

	if (from == RESUMING)
		r = server_end_load(s, err);
	if (r < 0)
		return r;
	if ((from & SAVING) && !(to & SAVING))
		server_end_save(s);
	if ((from & RUNNING) && !(to & RUNNING))
		server_pause(s);
	if (!(from & SAVING) && (to & SAVING))
		r = server_begin_save(s, !(to & RUNNING), err);
	else if (to == SAVING)
		s->stream.final = true;
	if (!r && to == RESUMING)
		r = server_begin_load(s, err);
	/* A device that could not go where it was to go runs on if it ran. */
	if (((r < 0 ? from : to) & RUNNING) && s->paused)
		server_run(s);
	return r;
}

static int set_state(struct server *s, uint32_t value)
{
	struct server_v1 *v1 = &s->v1;
	const uint32_t from = v1->state & STATE_MASK, to = value & STATE_MASK;
	struct gw_error err = { 0 };
	bool to_error = false;
	int r;

	if ((value ^ v1->state) & ~STATE_MASK || !may(from, to))
		return -EINVAL;
	if (v1->error)
		return -EIO;
	if (from == to)
		return 0;
	r = server_faults_arc(&s->options.faults, SERVER_FAULT_V1 + from, SERVER_FAULT_V1 + to,
	                      &to_error);
	if (r < 0)
		error_set_sys(&err, r, "as was asked for");
	else
		r = enter(s, from, to, &err);
	v1->staged = false;
	if (r < 0)
		log_warn(s->options.log, "device %s: migration state %x -> %x: %s", s->device->id,
		         from, to, err.text);
	if (r < 0 && (from == RESUMING || to_error)) {
		server_pause(s);
		v1->error = true;
		v1->state = STATE_RESERVED | STATE_ERROR;
	} else if (!r) {
		v1->state = value;
	}
	return r;
}

/* ---- data ---- */

/* The chunk that was staged is the client's now; how much is there beyond it? */
static int get_pending(struct server *s, uint64_t *out)
{
	int64_t n = 0;

	s->v1.staged = false;
	if (s->stream.kind == STREAM_SAVING)
		n = stream_pending(s);
	*out = n < 0 ? 0 : (uint64_t)n;
	return n < 0 ? (int)n : 0;
}

/* Stages the next chunk, or says where one may be put. */
static int get_offset(struct server *s, uint64_t *out)
{
	ssize_t n;

	*out = s->v1.data_offset;
	if (s->stream.kind != STREAM_SAVING || s->v1.staged)
		return 0;
	n = stream_pull(s, s->v1.memory + DATA_OFFSET, DATA_SIZE);
	if (n < 0)
		return (int)n;
	s->v1.data_size = (uint64_t)n;
	s->v1.staged = true;
	return 0;
}

static int get_size(struct server *s, uint64_t *out)
{
	*out = s->v1.data_size;
	return 0;
}

static int set_size(struct server *s, uint64_t value)
{
	if (s->stream.kind != STREAM_LOADING || value > DATA_SIZE)
		return -EINVAL;
	s->v1.data_size = value;
	return stream_push(s, s->v1.memory + DATA_OFFSET, value);
}

static int get_state(struct server *s, uint64_t *out)
{
	*out = s->v1.state;
	return 0;
}

static int write_state(struct server *s, uint64_t value)
{
	return set_state(s, (uint32_t)value);
}

/* ---- the region ---- */

static const struct v1_register {
	uint64_t offset;
	size_t size;
	int (*get)(struct server *s, uint64_t *out);
	int (*set)(struct server *s, uint64_t value); /* NULL: read-only */
} registers[] = {
	{ 0, 4, get_state, write_state },
	{ 8, 8, get_pending, NULL },
	{ 16, 8, get_offset, NULL },
	{ 24, 8, get_size, set_size },
};

static const struct v1_register *find(uint64_t offset, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		if (registers[i].offset == offset && registers[i].size == len)
			return &registers[i];
	return NULL;
}

int server_v1_read(struct server *s, uint64_t offset, void *buf, size_t len)
{
	const struct v1_register *reg = find(offset, len);
	uint64_t value;
	int r;

	if (offset >= DATA_OFFSET) {
		memcpy(buf, s->v1.memory + offset, len);
		return 0;
	}
	r = reg ? reg->get(s, &value) : -EINVAL;
	if (!r)
		memcpy(buf, &value, len);
	return r;
}

int server_v1_write(struct server *s, uint64_t offset, const void *buf, size_t len)
{
	const struct v1_register *reg = find(offset, len);
	uint64_t value = 0;

	if (offset >= DATA_OFFSET) {
		memcpy(s->v1.memory + offset, buf, len);
		return 0;
	}
	if (!reg || !reg->set)
		return -EINVAL;
	memcpy(&value, buf, len);
	return reg->set(s, value);
}
