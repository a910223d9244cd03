/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live migration with somebody in the middle, who flips a bit in the first
 * frame of a kind, or cuts the connection there, in either direction. Before GO
 * the guest goes on at its source; never do both sides run; what is damaged is
 * named.
 */
#include "harness.h"

#include "base/io.h"
#include "base/util.h"
#include "migration/frame.h"
#include "vmm/virtio/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum harm { HARM_FLIP, HARM_FLIP_HEADER, HARM_CUT };

struct middle {
	char front[128], back[128]; /* sockets: the source's, the destination's */
	int listen_fd;
	uint16_t type; /* of the frame that is harmed, in whichever direction it goes */
	enum harm harm;
	bool done;
	bool stop;
	bool refused; /* the other side takes nothing any more */
	pthread_t thread;
};

/* One frame from one side to the other. False: the connection is at its end. */
static bool pass_frame(struct middle *m, int from, int to)
{
	static __thread uint8_t frame[FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX];
	uint32_t length;
	uint16_t type;

	if (io_read_full(from, frame, FRAME_HEADER_SIZE) < 0)
		return false;
	memcpy(&type, frame + 4, 2);
	memcpy(&length, frame + 24, 4);
	if (length > FRAME_PAYLOAD_MAX ||
	    (length && io_read_full(from, frame + FRAME_HEADER_SIZE, length) < 0))
		return false;
	if (type == m->type && !m->done) {
		m->done = true;
		if (m->harm == HARM_CUT)
			return false;
		if (m->harm == HARM_FLIP && length)
			frame[FRAME_HEADER_SIZE + length / 2] ^= 0x10;
		else
			frame[8] ^= 0x10;
	}
	if (send(to, frame, FRAME_HEADER_SIZE + length, MSG_NOSIGNAL) ==
	    (ssize_t)(FRAME_HEADER_SIZE + length))
		return true;
	m->refused = true;
	return false;
}

static int connect_to(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sun.sun_path, path);
	cr_assert(connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0, "%s: %s", path,
	          strerror(errno));
	return fd;
}

static void *middle_thread(void *opaque)
{
	struct middle *m = opaque;
	int a = accept(m->listen_fd, NULL, NULL), b = connect_to(m->back);
	bool open = a >= 0;

	while (open && !m->stop) {
		struct pollfd fds[2] = { { a, POLLIN, 0 }, { b, POLLIN, 0 } };

		if (poll(fds, 2, 100) <= 0)
			continue;
		if (fds[0].revents)
			open = pass_frame(m, a, b);
		if (open && fds[1].revents)
			open = pass_frame(m, b, a);
	}
	/* A destination that has closed has said why before. */
	while (m->refused && pass_frame(m, b, a))
		;
	close(a);
	close(b);
	return NULL;
}

static void start_middle(struct middle *m, const char *dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(m->front, sizeof(m->front), "%s/front", dir);
	strcpy(sun.sun_path, m->front);
	m->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert(bind(m->listen_fd, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	cr_assert(listen(m->listen_fd, 1) == 0);
	cr_assert(pthread_create(&m->thread, NULL, middle_thread, m) == 0);
}

static void end_middle(struct middle *m)
{
	m->stop = true;
	pthread_join(m->thread, NULL);
	close(m->listen_fd);
}

static bool runs(struct guest *g)
{
	return gw_vm_state(g->vm) == GW_STATE_RUNNING;
}

/* The source, with `more` in its configuration, and an empty destination, which listens. */
static void pair_with(const char *more, struct guest **a, struct guest **b, char *uri, size_t size)
{
	struct gw_migrate_params params = { .downtime_limit_ms = 2000,
		                            .network_timeout_ms = (uint64_t)patience_ms(),
		                            .switchover_timeout_ms = (uint64_t)patience_ms() };
	struct gw_map map[] = { { "serial.log", NULL } };
	struct gw_error err;
	char log[128];

	*a = guest_made("dirtier", 1, 128, more);
	*b = guest_new();
	snprintf(log, sizeof(log), "%s/out", (*b)->dir);
	map[0].value = log;
	snprintf(uri, size, "unix:%s/back", (*b)->dir);
	cr_assert(gw_vm_set_migrate_params((*a)->vm, &params, &err) == 0);
	cr_assert(gw_vm_incoming((*b)->vm, uri, map, 1, &err) == 0, "%s", err.text);
	cr_assert(gw_vm_cont((*a)->vm, false, &err) == 0, "%s", err.text);
	guest_await(*a, "S\n");
}

static void pair(struct guest **a, struct guest **b, char *uri, size_t size)
{
	pair_with("", a, b, uri, size);
}

static void harm_one(uint16_t type, enum harm harm)
{
	const char *name = frame_type_name(type);
	struct middle m = { .type = type, .harm = harm };
	char uri[160], said_a[2048], said_b[2048];
	struct guest *a, *b;
	struct gw_error err;

	pair(&a, &b, uri, sizeof(uri));
	strcpy(m.back, uri + strlen("unix:"));
	start_middle(&m, a->dir);
	snprintf(uri, sizeof(uri), "unix:%s", m.front);
	cr_assert(gw_vm_migrate(a->vm, uri, &err) == 0, "%s", err.text);
	guest_await_migrated(a, said_a, sizeof(said_a));
	guest_await_migrated(b, said_b, sizeof(said_b));
	end_middle(&m);
	cr_assert(m.done, "%s: no such frame went by", name);
	cr_assert(strstr(said_a, "failed"), "%s: %s", name, said_a);
	cr_assert_not(runs(a) && runs(b), "%s: both run", name);

	/* A damaged GO is refused, and the source has the guest again; of a lost one it cannot
	 * know. */
	if (type == FRAME_GO && harm == HARM_CUT) {
		cr_assert_not(runs(a) || runs(b), "go: %s, %s", said_a, said_b);
		cr_assert_eq(gw_vm_state(a->vm), GW_STATE_POSTMIGRATE);
		cr_assert_eq(gw_vm_cont(a->vm, false, &err), -EPERM);
		cr_assert(strstr(said_a, "handed over"), "%s", said_a);
		cr_assert(gw_vm_cont(a->vm, true, &err) == 0, "%s", err.text);
	} else if (type == FRAME_RUNNING) {
		cr_assert(runs(b) && !runs(a), "running: %s, %s", said_a, said_b);
		cr_assert_eq(gw_vm_cont(a->vm, false, &err), -EPERM);
	} else {
		cr_assert(runs(a), "%s: the source is %s: %s", name,
		          gw_state_name(gw_vm_state(a->vm)), said_a);
		cr_assert_eq(gw_vm_state(b->vm), GW_STATE_INMIGRATE, "%s: %s", name, said_b);
		cr_assert(!b->vm->machine, "%s: something is left", name);
		if (harm != HARM_CUT && type <= FRAME_GO) {
			cr_assert(strstr(said_a, "frame ") && strstr(said_a, "checksum mismatch"),
			          "%s: %s", name, said_a);
			cr_assert(harm != HARM_FLIP || strstr(said_a, name), "%s: %s", name,
			          said_a);
		}
	}
	guest_free(a);
	guest_free(b);
}

static const uint16_t kinds[] = { FRAME_HELLO, FRAME_CONFIG, FRAME_TABLE, FRAME_RECORD,
	                          FRAME_PAGES, FRAME_ZERO,   FRAME_END,   FRAME_GO,
	                          FRAME_READY, FRAME_RUNNING };

Test(faults, a_bit_flipped_in_the_payload_of_each_kind_of_frame)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		harm_one(kinds[i], HARM_FLIP);
}

Test(faults, a_bit_flipped_in_the_header_of_each_kind_of_frame)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		harm_one(kinds[i], HARM_FLIP_HEADER);
}

Test(faults, the_connection_cut_at_each_kind_of_frame)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		harm_one(kinds[i], HARM_CUT);
}

static bool lock_is_free(const char *path)
{
	struct blk_file file;
	struct gw_error err;
	int r;

	cr_assert_eq(blk_file_open(path, -1, false, false, &file, &err), 0, "%s", err.text);
	r = blk_file_lock(&file, &err);
	close(file.fd);
	cr_assert(r == 0 || r == -EBUSY, "%s", err.text);
	return r == 0;
}

/* A source that may have handed over the guest, and is told to run it all the same, but does not:
 * the destination can have the disk's lock. */
Test(faults, a_take_back_that_is_refused_keeps_no_lock)
{
	struct middle m = { .type = FRAME_GO, .harm = HARM_CUT };
	char disk[] = "/tmp/godwit-disk-XXXXXX", more[160], uri[160], said[2048];
	const int fd = mkstemp(disk);
	struct guest *a, *b;
	struct gw_error err;

	cr_assert(fd >= 0 && !ftruncate(fd, 1 << 20));
	close(fd);
	snprintf(more, sizeof(more),
	         "\"devices\":[{\"id\":\"d\",\"type\":\"virtio-blk\",\"file\":\"%s\"}]", disk);
	pair_with(more, &a, &b, uri, sizeof(uri));
	cr_assert_not(lock_is_free(disk), "the source has it");
	strcpy(m.back, uri + strlen("unix:"));
	start_middle(&m, a->dir);
	snprintf(uri, sizeof(uri), "unix:%s", m.front);
	cr_assert(gw_vm_migrate(a->vm, uri, &err) == 0, "%s", err.text);
	guest_await_migrated(a, said, sizeof(said));
	guest_await_migrated(b, said, sizeof(said));
	end_middle(&m);
	cr_assert_eq(gw_vm_state(a->vm), GW_STATE_POSTMIGRATE);
	cr_assert(lock_is_free(disk), "it was handed over");
	gw_vm_quit(a->vm);
	cr_assert_eq(gw_vm_cont(a->vm, true, &err), -ESHUTDOWN, "%s", err.text);
	cr_assert(lock_is_free(disk), "what does not run needs no lock");
	guest_free(a);
	guest_free(b);
	remove(disk);
}

static void migration_says(struct guest *g, char *text, size_t size)
{
	char *json = NULL;

	cr_assert(gw_vm_query_migrate(g->vm, &json, NULL) == 0);
	snprintf(text, size, "%s", json);
	gw_free(json);
}

/* Cancelled as soon as a status is seen; the switchover may win, but then it is complete. */
static void cancel_at(const char *status)
{
	char uri[160], want[64], said[2048] = "";
	struct guest *a, *b;
	struct gw_error err;

	snprintf(want, sizeof(want), "\"status\":\"%s\"", status);
	pair(&a, &b, uri, sizeof(uri));
	cr_assert(gw_vm_migrate(a->vm, uri, &err) == 0, "%s", err.text);
	wait_turning(strstr(said, want) || strstr(said, "completed"),
	             migration_says(a, said, sizeof(said)), "never %s: %s", status, said);
	cr_assert(gw_vm_migrate_cancel(a->vm, &err) == 0);
	guest_await_migrated(a, said, sizeof(said));
	if (strstr(said, "cancelled")) {
		cr_assert(runs(a) && !runs(b));
		/* And again, to the end. */
		guest_free(b);
		b = guest_new();
		snprintf(uri, sizeof(uri), "unix:%s/back", b->dir);
		cr_assert(gw_vm_incoming(b->vm, uri, NULL, 0, &err) == 0, "%s", err.text);
		cr_assert(gw_vm_migrate(a->vm, uri, &err) == 0, "%s", err.text);
		guest_await_migrated(a, said, sizeof(said));
	}
	cr_assert(strstr(said, "completed"), "%s", said);
	cr_assert(!runs(a) && runs(b));
	guest_free(a);
	guest_free(b);
}

Test(faults, cancelled_at_each_phase)
{
	static const char *const phases[] = { "setup", "active", "device" };

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		cancel_at(phases[i]);
}
