/* SPDX-License-Identifier: Apache-2.0 */
#include "control/inbox.h"

#include <string.h>
#include <unistd.h>

void inbox_put(struct inbox *inbox, int fd)
{
	if (inbox->count == INBOX_MAX)
		close(inbox_take(inbox));
	inbox->fd[inbox->count++] = fd;
}

int inbox_take(struct inbox *inbox)
{
	int fd;

	if (!inbox->count)
		return -1;
	fd = inbox->fd[0];
	inbox->count--;
	memmove(inbox->fd, inbox->fd + 1, inbox->count * sizeof(inbox->fd[0]));
	return fd;
}

void inbox_close(struct inbox *inbox)
{
	while (inbox->count)
		close(inbox->fd[--inbox->count]);
}
