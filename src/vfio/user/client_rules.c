/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server may do against the protocol, and what becomes of it: what
 * could corrupt memory, or have one reply taken for another, ends the
 * connection. Anything else is logged once and tolerated: what came in surplus
 * is dropped, a request whose answer is missing fails, and an optional feature
 * that fails is not used.
 */
#include "vfio/user/client_internal.h"

#include "base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	bool ends;
	const char *outcome; /* of what is tolerated */
} rules[VFU_DEPARTURES] = {
	[VFU_BAD_FRAMING] = { true, NULL },
	[VFU_OTHER_REPLY] = { true, NULL },
	[VFU_BAD_NUMBERS] = { true, NULL },
	[VFU_BAD_DMA] = { true, NULL },
	[VFU_KEEPS_MEMORY] = { true, NULL },
	[VFU_SHORT_REPLY] = { false, "the request has failed" },
	[VFU_LONG_REPLY] = { false, "the rest is ignored" },
	[VFU_ERROR_PAYLOAD] = { false, "it is ignored" },
	[VFU_SURPLUS_FDS] = { false, "they are closed" },
	[VFU_UNKNOWN_FLAGS] = { false, "they are ignored" },
	[VFU_BESIDE_TWIN] = { false, "it is answered there" },
	[VFU_BAD_IO_FDS] = { false, "those registers are trapped" },
};

int vfu_departs(struct vfu *c, enum vfu_departure kind, const char *format, ...)
{
	char what[200];
	va_list args;
	bool news;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (rules[kind].ends)
		return vfu_give_up(c, "%s", what);
	pthread_mutex_lock(&c->lock);
	news = !(c->departed & 1u << kind);
	c->departed |= 1u << kind;
	if (kind == VFU_SHORT_REPLY)
		snprintf(c->departure, sizeof(c->departure), "%s", what);
	pthread_mutex_unlock(&c->lock);
	if (news)
		log_warn(c->owner.log, "%s: against the protocol: %s; %s", c->owner.name, what,
		         rules[kind].outcome);
	return -EPROTO;
}

size_t vfu_data_max(struct vfu *c, size_t head)
{
	return MIN((size_t)vfu_caps(c).max_data_xfer_size, VFU_PAYLOAD_MAX - head);
}
