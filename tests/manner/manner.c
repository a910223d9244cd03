/* SPDX-License-Identifier: Apache-2.0 */
#include "manner/manner.h"

#include "base/util.h"
#include "vfio/uapi.h"
#include "vfio/user/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

/* What arrives at one recv() of a long message. */
#define PIECE 36864u
#define FDS_MAX 253 /* SCM_MAX_FD */
#define IO_FDS 80u
#define SURPLUS 200u
#define SHADOW 2u
#define WIDE 48u
#define DATAMATCH 1u /* of flags, as KVM has it */
#define REMEMBERED 64

int __real_wire_send(int socket, const struct wire_header *header, const struct iovec *parts,
                     unsigned count, const int *fds, unsigned fd_count, int timeout_ms);
int __real_wire_receive(int socket, struct wire_message *out, int timeout_ms);
int __wrap_wire_send(int socket, const struct wire_header *header, const struct iovec *parts,
                     unsigned count, const int *fds, unsigned fd_count, int timeout_ms);
int __wrap_wire_receive(int socket, struct wire_message *out, int timeout_ms);

struct asked {
	struct wire_header header;
	uint8_t payload[48];
};

struct reply {
	struct wire_header header;
	uint8_t *payload; /* WIRE_MESSAGE_MAX bytes */
	size_t len;
	int fds[FDS_MAX];
	unsigned fd_count;
};

/* Atomic, all of them. */
static unsigned rows, longest;
static uint32_t state = VFIO_DEVICE_STATE_RUNNING; /* of the one server's device */
static bool stuck;

/* A server has one thread for its messages. */
static _Thread_local struct asked asked[REMEMBERED];
static _Thread_local unsigned next_asked;

static bool on(unsigned row)
{
	return __atomic_load_n(&rows, __ATOMIC_RELAXED) & row;
}

void manner_set(unsigned set)
{
	__atomic_store_n(&rows, set, __ATOMIC_RELAXED);
	__atomic_store_n(&stuck, false, __ATOMIC_RELAXED);
}

unsigned manner_longest(void)
{
	return __atomic_load_n(&longest, __ATOMIC_RELAXED);
}

static void note_state(uint32_t now)
{
	__atomic_store_n(&state, now, __ATOMIC_RELAXED);
}

/* ---- replies, by command -------------------------------------------------------------------- */

static bool failed(const struct reply *r)
{
	return r->header.flags & WIRE_ERROR;
}

static void fail(struct reply *r, int code)
{
	r->header.flags |= WIRE_ERROR;
	r->header.error = (uint32_t)code;
	r->len = r->fd_count = 0;
}

static void add_zeros(struct reply *r, size_t len)
{
	memset(r->payload + r->len, 0, len);
	r->len += len;
}

static void get_info(struct reply *r, const struct asked *a)
{
	(void)a;
	if (on(MANNER_STAYS_STOPPED) && __atomic_load_n(&stuck, __ATOMIC_RELAXED))
		fail(r, EINVAL);
}

static void region_info(struct reply *r, const struct asked *a)
{
	struct vfio_region_info info;
	struct vfio_region_info_cap_sparse_mmap sparse;

	(void)a;
	if (failed(r) || !r->fd_count || !on(MANNER_FD_PER_AREA))
		return;
	memcpy(&info, r->payload, sizeof(info));
	if (!info.cap_offset || info.cap_offset + sizeof(sparse) > r->len)
		return;
	memcpy(&sparse, r->payload + info.cap_offset, sizeof(sparse));
	/* One for the region as a whole as well, so that there is always one too many. */
	while (r->fd_count <= MIN(sparse.nr_areas, 8u))
		r->fds[r->fd_count++] = r->fds[0];
}

/* Those behind the real ones would be signalled by writes of a value that nobody writes. */
static void fill_io_fds(struct wire_io_fd *list, uint32_t *count, uint32_t most)
{
	const uint32_t own = *count;

	for (; *count < most; ++*count)
		list[*count] = (struct wire_io_fd){
			.offset = list[0].offset,
			.size = 4,
			.fd_index = *count % own,
			.flags = DATAMATCH,
			.datamatch = 0x80000000 + *count,
		};
}

static void io_fds(struct reply *r, const struct asked *a)
{
	const size_t wide = on(MANNER_WIDE_IO_FDS) ? WIDE : sizeof(struct wire_io_fd);
	struct wire_io_fd list[IO_FDS + 1];
	struct wire_io_fds head, ask;

	if (failed(r))
		return;
	memcpy(&ask, a->payload, sizeof(ask));
	memcpy(&head, r->payload, sizeof(head));
	if (!head.count || head.count > 16)
		return;
	memcpy(list, r->payload + sizeof(head), head.count * sizeof(list[0]));
	if (on(MANNER_MANY_IO_FDS))
		fill_io_fds(list, &head.count, IO_FDS);
	if (on(MANNER_SHADOW_IO_FDS))
		list[head.count++] = (struct wire_io_fd){ .size = 4, .type = SHADOW };
	while (on(MANNER_SURPLUS_FDS) && r->fd_count < SURPLUS)
		r->fds[r->fd_count++] = r->fds[0];
	head.argsz = (uint32_t)(sizeof(head) + head.count * wide);
	memcpy(r->payload, &head, sizeof(head));
	r->len = sizeof(head);
	if (head.argsz > ask.argsz)
		return;
	for (uint32_t i = 0; i < head.count; i++) {
		add_zeros(r, wide);
		memcpy(r->payload + r->len - wide, &list[i], 32);
		memcpy(r->payload + r->len - 8, &list[i].datamatch, 8);
	}
}

static void feature(struct reply *r, const struct asked *a)
{
	const uint32_t set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
	struct vfio_device_feature head;
	uint32_t to;

	memcpy(&head, a->payload, sizeof(head));
	memcpy(&to, a->payload + sizeof(head), sizeof(to));
	if (failed(r) && r->header.error == ENOTTY && on(MANNER_EINVAL))
		r->header.error = EINVAL;
	if (!failed(r) && head.flags == set)
		note_state(to);
}

static void reset(struct reply *r, const struct asked *a)
{
	(void)a;
	if (!failed(r))
		note_state(VFIO_DEVICE_STATE_RUNNING);
}

static void mig_data_read(struct reply *r, const struct asked *a)
{
	struct wire_mig_data ask;

	memcpy(&ask, a->payload, sizeof(ask));
	if (!failed(r) && on(MANNER_PADDED))
		add_zeros(r, sizeof(ask) + ask.size - r->len);
}

static void (*const by_command[WIRE_COMMANDS])(struct reply *r, const struct asked *a) = {
	[WIRE_DEVICE_GET_INFO] = get_info,
	[WIRE_DEVICE_GET_REGION_INFO] = region_info,
	[WIRE_DEVICE_GET_REGION_IO_FDS] = io_fds,
	[WIRE_DEVICE_FEATURE] = feature,
	[WIRE_DEVICE_RESET] = reset,
	[WIRE_MIG_DATA_READ] = mig_data_read,
};

/* ---- on the way -------------------------------------------------------------------------------
 */

static const struct asked *find(uint16_t id)
{
	for (unsigned i = 1; i <= REMEMBERED; i++) {
		const struct asked *a = &asked[(next_asked - i) % REMEMBERED];

		if (a->header.id == id)
			return a;
	}
	return &asked[0];
}

/* With more descriptors than wire_send() takes. */
static int send_raw(int socket, struct reply *r)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control = { .head = { CMSG_LEN(sizeof(int) * r->fd_count), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec parts[] = { { &r->header, sizeof(r->header) }, { r->payload, r->len } };
	struct msghdr msg = { .msg_iov = parts,
		              .msg_iovlen = 2,
		              .msg_control = &control,
		              .msg_controllen = CMSG_SPACE(sizeof(int) * r->fd_count) };

	r->header.size = (uint32_t)(sizeof(r->header) + r->len);
	memcpy(CMSG_DATA(&control.head), r->fds, sizeof(int) * r->fd_count);
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)r->header.size ? 0 : -EPIPE;
}

static int send_changed(int socket, struct reply *r, int timeout_ms)
{
	const struct asked *a = find(r->header.id);
	struct iovec part = { r->payload, 0 };

	if (by_command[r->header.command])
		by_command[r->header.command](r, a);
	if (failed(r) && on(MANNER_ERROR_PAYLOAD))
		add_zeros(r, 24);
	if (r->fd_count > WIRE_MAX_FDS)
		return send_raw(socket, r);
	part.iov_len = r->len;
	return __real_wire_send(socket, &r->header, &part, 1, r->fds, r->fd_count, timeout_ms);
}

int __wrap_wire_send(int socket, const struct wire_header *header, const struct iovec *parts,
                     unsigned count, const int *fds, unsigned fd_count, int timeout_ms)
{
	struct reply r = { .header = *header, .fd_count = fd_count };
	int ret;

	/* Only servers answer anything but these two. */
	if (!on(MANNER_ALL) || (header->flags & WIRE_TYPE_MASK) != WIRE_TYPE_REPLY ||
	    header->command >= WIRE_COMMANDS || header->command == WIRE_DMA_READ ||
	    header->command == WIRE_DMA_WRITE)
		return __real_wire_send(socket, header, parts, count, fds, fd_count, timeout_ms);
	r.payload = malloc(WIRE_MESSAGE_MAX);
	if (!r.payload)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		memcpy(r.payload + r.len, parts[i].iov_base, parts[i].iov_len);
		r.len += parts[i].iov_len;
	}
	if (fd_count)
		memcpy(r.fds, fds, sizeof(int) * fd_count);
	ret = send_changed(socket, &r, timeout_ms);
	free(r.payload);
	return ret;
}

static void remember(const struct wire_message *m)
{
	struct asked *a = &asked[next_asked++ % REMEMBERED];

	a->header = m->header;
	memset(a->payload, 0, sizeof(a->payload));
	memcpy(a->payload, m->payload, MIN(m->len, sizeof(a->payload)));
	/* A new client. */
	if (m->header.command == WIRE_VERSION &&
	    __atomic_load_n(&state, __ATOMIC_RELAXED) == VFIO_DEVICE_STATE_STOP_COPY)
		__atomic_store_n(&stuck, true, __ATOMIC_RELAXED);
	if (m->len > manner_longest())
		__atomic_store_n(&longest, (unsigned)m->len, __ATOMIC_RELAXED);
}

int __wrap_wire_receive(int socket, struct wire_message *out, int timeout_ms)
{
	int r = __real_wire_receive(socket, out, timeout_ms);
	const uint16_t command = out->header.command;

	if (r < 0 || (out->header.flags & WIRE_TYPE_MASK) != WIRE_TYPE_COMMAND ||
	    command == WIRE_DMA_READ || command == WIRE_DMA_WRITE)
		return r;
	remember(out);
	if (on(MANNER_SHORT_RECV))
		out->len = MIN(out->len, (size_t)PIECE);
	return 0;
}
