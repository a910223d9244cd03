/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that a client has sent (SCM_RIGHTS) and that no command has taken yet: first in,
 * first out. */
#ifndef CONTROL_INBOX_H
#define CONTROL_INBOX_H

#define INBOX_MAX 16

/* All zero: empty. */
struct inbox {
	int fd[INBOX_MAX];
	unsigned count;
};

/* Takes fd over; the oldest has to go where there is no room. */
void inbox_put(struct inbox *inbox, int fd);
/* The oldest, which is the caller's now; -1: none. */
int inbox_take(struct inbox *inbox);
void inbox_close(struct inbox *inbox);

#endif
