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

enum { ENDS, TOLERATED, UNUSED };

static const struct {
	int outcome; /* UNUSED: tolerated, and the protocol allows it, but it is of no use here */
	const char *words; /* for the log */
} rules[VFU_DEPARTURES] = {
	[VFU_BAD_FRAMING] = { ENDS, NULL },
	[VFU_OTHER_REPLY] = { ENDS, NULL },
	[VFU_BAD_NUMBERS] = { ENDS, NULL },
	[VFU_BAD_DMA] = { ENDS, NULL },
	[VFU_KEEPS_MEMORY] = { ENDS, NULL },
	[VFU_SHORT_REPLY] = { TOLERATED, "the request has failed" },
	[VFU_LONG_REPLY] = { TOLERATED, "the rest is ignored" },
	[VFU_ERROR_PAYLOAD] = { TOLERATED, "it is ignored" },
	[VFU_SURPLUS_FDS] = { TOLERATED, "they are closed" },
	[VFU_UNKNOWN_FLAGS] = { TOLERATED, "they are ignored" },
	[VFU_BESIDE_TWIN] = { TOLERATED, "it is answered there" },
	[VFU_USELESS_IO_FDS] = { UNUSED, "those registers are trapped" },
};

int vfu_departs(struct vfu *c, enum vfu_departure kind, const char *format, ...)
{
	char what[200];
	va_list args;
	bool news;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (rules[kind].outcome == ENDS)
		return vfu_give_up(c, "%s", what);
	pthread_mutex_lock(&c->lock);
	news = !(c->departed & 1u << kind);
	c->departed |= 1u << kind;
	if (kind == VFU_SHORT_REPLY)
		snprintf(c->departure, sizeof(c->departure), "%s", what);
	pthread_mutex_unlock(&c->lock);
	if (news)
		log_warn(c->owner.log, "%s: %s%s; %s", c->owner.name,
		         rules[kind].outcome == UNUSED ? "" : "against the protocol: ", what,
		         rules[kind].words);
	return -EPROTO;
}

size_t vfu_data_max(struct vfu *c, size_t head)
{
	return MIN((size_t)vfu_caps(c).max_data_xfer_size, VFU_PAYLOAD_MAX - head);
}
