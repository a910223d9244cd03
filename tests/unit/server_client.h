/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A raw client for tests of the vfio-user server: a device server of its own in this process, and
 * messages to it as they go over the socket, well-formed or not.
 */
#ifndef UNIT_SERVER_CLIENT_H
#define UNIT_SERVER_CLIENT_H

#include <criterion/criterion.h>

#include "patience.h"

#include "base/io.h"
#include "base/util.h"
#include "vfio/uapi.h"
#include "vfio/user/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

struct sclient {
	struct gw_device_server *server;
	char path[64];
	int socket, twin;
	uint16_t id;
	struct wire_message reply; /* of the last call */
	struct wire_caps caps;
};

/* The device's configuration, without id; migration as the options have it. */
struct sclient *sclient_new(const char *device, enum gw_server_migration migration,
                            enum gw_server_v1_data v1_data);
void sclient_free(struct sclient *c);
/* Connects, without a word. */
void sclient_connect(struct sclient *c);
void sclient_disconnect(struct sclient *c);
/* Exchanges versions, with all capabilities. */
void sclient_version(struct sclient *c, bool twin);

/* Sends a command. */
void sclient_send(struct sclient *c, unsigned command, uint32_t flags, const void *payload,
                  size_t len, const int *fds, unsigned fd_count);
/* Takes what comes next; its error, 0 if it is none; -EPIPE if the server has hung up. */
int sclient_take(struct sclient *c);
/* Both; the reply has to be that command's. */
int sclient_call(struct sclient *c, unsigned command, const void *payload, size_t len,
                 const int *fds, unsigned fd_count);

int sclient_read(struct sclient *c, unsigned region, uint64_t offset, void *buf, uint32_t len);
int sclient_write(struct sclient *c, unsigned region, uint64_t offset, const void *buf,
                  uint32_t len);
uint64_t sclient_get(struct sclient *c, unsigned region, uint64_t offset, unsigned size);
void sclient_set(struct sclient *c, unsigned region, uint64_t offset, unsigned size,
                 uint64_t value);
int sclient_map(struct sclient *c, uint64_t address, uint64_t size, uint64_t offset, uint32_t flags,
                int fd);
int sclient_unmap(struct sclient *c, uint64_t address, uint64_t size);
int sclient_irqs(struct sclient *c, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
                 const int *fds, unsigned fd_count);
/* DEVICE_FEATURE; the reply's data are put into `out`, their number is returned; or the error. */
int sclient_feature(struct sclient *c, uint32_t flags, const void *data, size_t len, void *out,
                    size_t room);
int sclient_state(struct sclient *c, uint32_t state);
uint32_t sclient_get_state(struct sclient *c);
/* All of a saving session's data, to where there are no more. */
struct bytes;
int sclient_pull(struct sclient *c, struct bytes *out, uint32_t step);
/* Of a device that changes meanwhile, faster perhaps than that is read: until `out` has more than
 * `enough`, at the latest. */
int sclient_pull_past(struct sclient *c, struct bytes *out, uint32_t step, size_t enough);
int sclient_push(struct sclient *c, const void *data, size_t len, uint32_t step);

/* A reset as the protocol has it, or a function-level one as a guest asks for it (Advanced
 * Features). */
void sclient_reset(struct sclient *c, bool by_function);

/* Has the eventfd been signalled within so many ms? Takes the signal. */
bool sclient_signalled(int fd, int ms);

#endif
