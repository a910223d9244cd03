/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_wire.h"

#include "base/io.h"
#include "base/util.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int unix_socket(const char *path, struct sockaddr_un *un)
{
	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(un->sun_path, sizeof(un->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

void wire_cut(struct wire *w)
{
	shutdown(w->fds[0], SHUT_RDWR);
	shutdown(w->fds[1], SHUT_RDWR);
}

static bool put(struct wire *w, int direction, const uint8_t *buf, size_t len)
{
	const size_t left = w->harm == HARM_CUT_AT && w->direction == direction
	                            ? (size_t)MIN(w->offset - w->bytes[direction], (uint64_t)len)
	                            : len;

	for (size_t done = 0; done < left;) {
		ssize_t n = send(w->fds[direction], buf + done, left - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += (size_t)n;
		__atomic_add_fetch(&w->bytes[direction], (size_t)n, __ATOMIC_RELEASE);
	}
	if (left == len)
		return true;
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	wire_cut(w);
	return false;
}

/* True: the frame goes on its way. */
static bool do_harm(struct wire *w, uint8_t *frame, size_t len)
{
	uint8_t *payload = frame + FRAME_HEADER_SIZE;
	size_t bits = (len - FRAME_HEADER_SIZE) * 8;

	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	switch (w->harm) {
	case HARM_FLIP_HEADER:
		frame[w->bit / 8 % FRAME_HEADER_SIZE] ^= (uint8_t)(1u << (w->bit % 8));
		return true;
	case HARM_FLIP_PAYLOAD:
		if (bits)
			payload[w->bit % bits / 8] ^= (uint8_t)(1u << (w->bit % 8));
		return true;
	case HARM_CUT_BEFORE:
		wire_cut(w);
		return false;
	case HARM_KILL_BEFORE:
		kill(w->victim, SIGKILL);
		return false;
	case HARM_HOLD:
		return false;
	default:
		return true;
	}
}

static void after(struct wire *w)
{
	if (w->harm == HARM_CUT_AFTER)
		wire_cut(w);
	else if (w->harm == HARM_KILL_AFTER)
		kill(w->victim, SIGKILL);
}

static void *forward(struct wire *w, int direction)
{
	const int from = w->fds[!direction];
	autofree uint8_t *frame = malloc(FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX);
	unsigned seen[FRAME_TYPES] = { 0 };
	bool held = false;

	while (io_read_full(from, frame, FRAME_HEADER_SIZE) == 0) {
		uint32_t len;
		unsigned type = frame[4] % FRAME_TYPES;
		bool hit = w->harm && w->harm != HARM_CUT_AT && w->direction == direction &&
		           w->type == type && w->nth == seen[type]++;

		memcpy(&len, frame + 24, sizeof(len));
		if (io_read_full(from, frame + FRAME_HEADER_SIZE, len))
			break;
		len += FRAME_HEADER_SIZE;
		if (hit && !do_harm(w, frame, len))
			held = true;
		if (held)
			continue;
		/* A destination that takes nothing has closed, and the other direction tells. */
		if (!put(w, direction, frame, len))
			return NULL;
		if (!hit || w->harm == HARM_CUT_AFTER || w->harm == HARM_KILL_AFTER)
			__atomic_add_fetch(&w->passed[direction][type], 1, __ATOMIC_RELEASE);
		if (hit)
			after(w);
	}
	wire_cut(w);
	return NULL;
}

static void *forward_to_source(void *opaque)
{
	return forward(opaque, TO_SOURCE);
}

static void *serve(void *opaque)
{
	struct wire *w = opaque;
	struct pollfd fds[2] = { { .fd = w->listen_fd, .events = POLLIN },
		                 { .fd = w->stop_fd, .events = POLLIN } };
	struct sockaddr_un un;
	pthread_t other;

	poll(fds, 2, -1);
	if (!fds[0].revents)
		return NULL;
	w->fds[TO_SOURCE] = accept(w->listen_fd, NULL, NULL);
	w->fds[TO_DESTINATION] = unix_socket(w->to, &un);
	if (connect(w->fds[TO_DESTINATION], (struct sockaddr *)&un, sizeof(un)) < 0)
		abort();
	w->connected = true;
	pthread_create(&other, NULL, forward_to_source, w);
	forward(w, TO_DESTINATION);
	pthread_join(other, NULL);
	close(w->fds[0]);
	close(w->fds[1]);
	return NULL;
}

void wire_start(struct wire *w)
{
	struct sockaddr_un un;

	w->listen_fd = unix_socket(w->from, &un);
	w->stop_fd = io_eventfd();
	if (bind(w->listen_fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(w->listen_fd, 1) < 0 || pthread_create(&w->thread, NULL, serve, w))
		abort();
}

void wire_stop(struct wire *w)
{
	io_eventfd_signal(w->stop_fd);
	pthread_join(w->thread, NULL);
	close(w->listen_fd);
	close(w->stop_fd);
	unlink(w->from);
}
