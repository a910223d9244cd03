/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: requests are taken one after the other, and each is answered
 * before the next is begun; what may be executed out of band does not wait for
 * them.
 *
 * A client that does not read what is sent is not read from either; when
 * events have piled up to CLIENT_OUT_MAX for it, it is dropped. So is one with
 * which TLS is not agreed upon after CLIENT_HANDSHAKE_MS.
 */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include "base/loop.h"
#include "control/channel.h"
#include "control/hub.h"
#include "control/places.h"
#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_OUT_MAX (1024 * 1024)
#define CLIENT_HANDSHAKE_MS 10000
/* Requests that are read ahead, with out-of-band execution: QMP lets a client have 8 under way. */
#define CLIENT_QUEUE_MAX 8
#define CLIENT_OOB_MAX 8

struct client;

/* What all clients of a server have in common. */
struct client_host {
	struct gw_vm *vm;
	struct loop *loop;
	struct hub *hub;
	int wake_fd; /* eventfd, signalled when a command on a thread has ended */
};

/* Takes the channel over in every case, and sends the greeting. `gone` is called on the loop's
 * thread when the connection has ended; client_destroy() is then due. */
int client_create(const struct client_host *host, struct channel *channel,
                  void (*gone)(void *opaque, struct client *client), void *opaque,
                  struct client **out, struct gw_error *err);
/* What it is doing now. */
struct standing client_standing(const struct client *client);
/* Waits for commands under way. */
void client_destroy(struct client *client);

/* ---- on the loop's thread, or when it has ended ---- */

/* Sends an event, if the negotiation is over. May call `gone`. */
void client_event(struct client *client, const char *line);
/* Sends the replies of commands on a thread that have ended, and goes on. May call `gone`. */
void client_look(struct client *client);
/* The end has come: takes no further request, and waits for commands under way. */
void client_stop(struct client *client);
/* Afterwards: sends those commands' replies and all that waits, until `deadline_ms`. */
void client_finish(struct client *client, int64_t deadline_ms);

#endif
