/* SPDX-License-Identifier: Apache-2.0 */
/* A reply of the test's vfio-user server, and what becomes of it when the server lies. */
#ifndef UNIT_VFU_LIES_H
#define UNIT_VFU_LIES_H

#include "vfu_server.h"

struct vfu_reply {
	struct wire_header head;
	uint8_t payload[65536];
	size_t len;
	int fds[WIRE_MAX_FDS];
	unsigned fd_count;
};

void vfu_put(struct vfu_reply *r, const void *data, size_t len);
/* An error instead. Returns 0. */
int vfu_failed(struct vfu_reply *r, int code);
void vfu_send_reply(struct vfu_server *s, const struct vfu_reply *r);
/* Sends what the lie makes of it. False: the server is to say no more. */
bool vfu_lie(struct vfu_server *s, struct vfu_reply *r, enum vfu_lie what);

#endif
