/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

static void *signal_thread(void *opaque)
{
	struct signals *s = opaque;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = s->stop_fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
		};
		struct signalfd_siginfo info;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		if (read(s->signal_fd, &info, sizeof(info)) == sizeof(info))
			s->on_signal(s->opaque, (int)info.ssi_signo);
	}
}

static void close_all(struct signals *s)
{
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
}

static sigset_t wanted(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	return set;
}

void signals_block(void)
{
	const sigset_t set = wanted();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int signals_start(struct signals *s, void (*on_signal)(void *opaque, int signal), void *opaque,
                  struct gw_error *err)
{
	const sigset_t set = wanted();
	int r;

	*s = (struct signals){ .on_signal = on_signal, .opaque = opaque, .stop_fd = -1 };
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return error_set_sys(err, -errno, "signalfd");
	s->stop_fd = io_eventfd();
	r = s->stop_fd < 0 ? s->stop_fd : -pthread_create(&s->thread, NULL, signal_thread, s);
	if (r < 0) {
		close_all(s);
		return error_set_sys(err, r, "thread for signals");
	}
	return 0;
}

void signals_stop(struct signals *s)
{
	io_eventfd_signal(s->stop_fd);
	pthread_join(s->thread, NULL);
	close_all(s);
}
