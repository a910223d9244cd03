/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/util.h"
#include "migration/transport.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

static void *dribble(void *fd)
{
	while (send(*(const int *)fd, "x", 1, MSG_NOSIGNAL) == 1)
		usleep(5000);
	return NULL;
}

/* Whoever waits with a guest that stands still waits no longer for one who never comes to an end.
 */
Test(transport, a_peer_that_dribbles_is_not_waited_for)
{
	struct gw_error err;
	char word[1 << 16];
	pthread_t thread;
	struct channel ch = { .cancel_fd = -1 };
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	cr_assert_eq(pthread_create(&thread, NULL, dribble, &fds[1]), 0);
	ch.fd = fds[0];

	cr_assert_eq(channel_read(&ch, word, sizeof(word), 200, &err), -ETIMEDOUT);
	cr_assert(strstr(err.text, "200 ms"), "%s", err.text);
	channel_close(&ch);
	pthread_join(thread, NULL);
	close(fds[1]);
}
