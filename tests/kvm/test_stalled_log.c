/* SPDX-License-Identifier: Apache-2.0 */
/* A log file whose disk has stalled, which here is a pipe that is full and not read. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Test(stalled_log, holds_up_neither_the_guest_nor_its_stop)
{
	struct guest *g = guest_new();
	char path[128], text[4096];
	struct gw_error err;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/out", g->dir);
	cr_assert_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	memset(text, '.', sizeof(text));
	while (write(fd, text, sizeof(text)) > 0)
		;
	cr_assert_eq(guest_configure(g, "mixer", 1, 32, "", &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	usleep(10000);
	cr_assert_eq(gw_vm_stop(g->vm, &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	/* It prints before and after its work, and powers off. */
	cr_assert_eq(gw_vm_wait(g->vm, patience_ms(), &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_SHUTDOWN);
	do
		n = read(fd, text, sizeof(text));
	while (n > 0 && !memchr(text, 'S', (size_t)n));
	close(fd);
	guest_free(g);
}
