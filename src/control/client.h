/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: requests are taken one after the other, and each is answered
 * before the next is looked at. What may wait for the VM runs on a thread of
 * its own, so that the server's thread serves the other clients meanwhile.
 *
 * A client that does not read what is sent is not read from either; when
 * events have piled up to CLIENT_OUT_MAX for it, it is dropped.
 */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include "base/loop.h"
#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_OUT_MAX (1024 * 1024)

struct client;

/* What all clients of a server have in common. */
struct client_host {
	struct gw_vm *vm;
	struct loop *loop;
	int wake_fd; /* eventfd, signalled when a command on a thread has ended */
};

/* Takes fd over in every case, and sends the greeting. `gone` is called on the loop's thread
 * when the connection has ended; client_destroy() is then due. */
int client_create(const struct client_host *host, int fd,
                  void (*gone)(void *opaque, struct client *client), void *opaque,
                  struct client **out, struct gw_error *err);
/* Waits for a command under way. */
void client_destroy(struct client *client);

/* ---- on the loop's thread, or when it has ended ---- */

/* Sends an event, if the negotiation is over. May call `gone`. */
void client_event(struct client *client, const char *line);
/* Sends the reply if a command on a thread has ended, and goes on. May call `gone`. */
void client_look(struct client *client);
/* The end has come: takes no further request, and waits for the command under way. */
void client_stop(struct client *client);
/* Afterwards: sends that command's reply and all that waits, until `deadline_ms`. */
void client_finish(struct client *client, int64_t deadline_ms);

#endif
