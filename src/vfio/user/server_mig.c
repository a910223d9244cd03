/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's migration state by protocol v2, as the kernel's drivers have
 * it: a row an arc, and from any state to any other the way that the kernel
 * takes (mig_v2_next()). The session's data go by MIG_DATA_READ and _WRITE.
 *
 * In the P2P states and when stopped the device's queues stand and what was in
 * flight is done; so it starts no DMA, and none comes from it.
 * Source: <linux/vfio.h>, enum vfio_device_mig_state.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

uint64_t server_mig_flags(const struct server *s)
{
	uint64_t flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P;

	if (s->options.migration != SERVER_MIGRATION_V2)
		return 0;
	if (s->options.pre_copy && s->participant->ops->iterate)
		flags |= VFIO_MIGRATION_PRE_COPY;
	return flags;
}

/* ---- what arcs consist of ---- */

int server_begin_save(struct server *s, bool final, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	const char *blocker = ops->blocker ? ops->blocker(s->participant) : NULL;
	int r = 0;

	if (blocker)
		return error_set(err, -EBUSY, "%s", blocker);
	/* Whoever gives its state piece by piece begins here, also where nothing runs any more. */
	if (ops->prepare)
		r = ops->prepare(s->participant, ops->iterate != NULL, err);
	if (!r)
		r = stream_begin_save(s, final, err);
	if (r < 0 && ops->rollback)
		ops->rollback(s->participant, NULL);
	return r;
}

void server_end_save(struct server *s)
{
	const struct participant_ops *ops = s->participant->ops;

	if (s->stream.ended && ops->finish)
		ops->finish(s->participant, true);
	else if (!s->stream.ended && ops->rollback)
		ops->rollback(s->participant, NULL);
	stream_end(s);
}

int server_begin_load(struct server *s, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	int r = ops->begin_load ? ops->begin_load(s->participant, err) : 0;

	return r < 0 ? r : stream_begin_load(s, err);
}

int server_end_load(struct server *s, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	const bool whole = s->stream.ended && !s->stream.broken;
	int r = 0;

	if (!whole)
		r = error_set(err, -EINVAL, "its state %s",
		              s->stream.broken ? "was refused" : "has not come to its end");
	stream_end(s);
	if (!r && ops->settle)
		r = ops->settle(s->participant, err);
	if (r < 0) {
		if (ops->discard)
			ops->discard(s->participant);
		return r;
	}
	/* Which eventfds there are is this side's. */
	machine_lock(s->machine);
	server_irqs_apply(s);
	machine_unlock(s->machine);
	return 0;
}

/* ---- arcs ---- */

static int arc_nothing(struct server *s, struct gw_error *err)
{
	(void)s;
	(void)err;
	return 0;
}

static int arc_pause(struct server *s, struct gw_error *err)
{
	(void)err;
	server_pause(s);
	return 0;
}

static int arc_run(struct server *s, struct gw_error *err)
{
	(void)err;
	server_run(s);
	return 0;
}

static int arc_begin_pre_copy(struct server *s, struct gw_error *err)
{
	return server_begin_save(s, false, err);
}

static int arc_begin_stop_copy(struct server *s, struct gw_error *err)
{
	return server_begin_save(s, true, err);
}

static int arc_become_final(struct server *s, struct gw_error *err)
{
	(void)err;
	s->stream.final = true;
	return 0;
}

static int arc_end_save(struct server *s, struct gw_error *err)
{
	(void)err;
	server_end_save(s);
	return 0;
}

static const struct arc {
	uint8_t from, to;
	int (*act)(struct server *s, struct gw_error *err);
	bool ends_in_error; /* if it fails there is no state left that could be gone back to */
} arcs[] = {
	{ MIG_RUNNING, MIG_RUNNING_P2P, arc_pause, false },
	{ MIG_RUNNING_P2P, MIG_RUNNING, arc_run, false },
	{ MIG_RUNNING_P2P, MIG_STOP, arc_nothing, false },
	{ MIG_STOP, MIG_RUNNING_P2P, arc_nothing, false },
	{ MIG_STOP, MIG_STOP_COPY, arc_begin_stop_copy, false },
	{ MIG_STOP_COPY, MIG_STOP, arc_end_save, false },
	{ MIG_STOP, MIG_RESUMING, server_begin_load, false },
	{ MIG_RESUMING, MIG_STOP, server_end_load, true },
	{ MIG_RUNNING, MIG_PRE_COPY, arc_begin_pre_copy, false },
	{ MIG_PRE_COPY, MIG_RUNNING, arc_end_save, false },
	{ MIG_PRE_COPY, MIG_PRE_COPY_P2P, arc_pause, false },
	{ MIG_PRE_COPY_P2P, MIG_PRE_COPY, arc_run, false },
	{ MIG_RUNNING_P2P, MIG_PRE_COPY_P2P, arc_begin_pre_copy, false },
	{ MIG_PRE_COPY_P2P, MIG_RUNNING_P2P, arc_end_save, false },
	{ MIG_PRE_COPY_P2P, MIG_STOP_COPY, arc_become_final, false },
};

static const struct arc *find_arc(enum mig_state from, enum mig_state to)
{
	for (size_t i = 0; i < ARRAY_SIZE(arcs); i++)
		if (arcs[i].from == from && arcs[i].to == to)
			return &arcs[i];
	return NULL;
}

static int take_arc(struct server *s, const struct arc *arc, struct gw_error *err)
{
	bool to_error = false;
	int r = server_faults_arc(&s->options.faults, arc->from, arc->to, &to_error);

	if (r < 0)
		error_set_sys(err, r, "as was asked for");
	else
		r = arc->act(s, err);
	if (r < 0 && (to_error || arc->ends_in_error)) {
		server_pause(s);
		s->state = MIG_ERROR;
	} else if (!r) {
		s->state = arc->to;
	}
	return r;
}

int server_mig_set(struct server *s, enum mig_state to, struct gw_error *err)
{
	const uint64_t flags = server_mig_flags(s);

	if (!mig_v2_may(flags, s->state, to))
		return error_set(err, -EINVAL, "there is no way");
	while (s->state != to) {
		const enum mig_state next = mig_v2_next(flags, s->state, to);
		const struct arc *arc = next == MIG_ERROR ? NULL : find_arc(s->state, next);
		int r;

		if (!arc)
			return error_set(err, -EINVAL, "there is no way");
		r = take_arc(s, arc, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the session's data ---- */

int server_mig_data_read(struct server *s, struct request *q)
{
	struct wire_mig_data head;
	ssize_t n;

	memcpy(&head, q->data, sizeof(head));
	if (head.argsz < sizeof(head) || head.size > s->caps.max_data_xfer_size ||
	    head.size > head.argsz - sizeof(head) || s->stream.kind != STREAM_SAVING ||
	    s->options.migration != SERVER_MIGRATION_V2)
		return -EINVAL;
	n = stream_pull(s, q->reply + sizeof(head), head.size);
	if (n < 0)
		return (int)n;
	head.size = (uint32_t)n;
	head.argsz = (uint32_t)(sizeof(head) + (size_t)n);
	memcpy(q->reply, &head, sizeof(head));
	q->reply_len = head.argsz;
	return 0;
}

int server_mig_data_write(struct server *s, struct request *q)
{
	struct wire_mig_data head;

	memcpy(&head, q->data, sizeof(head));
	if (head.size != q->len - sizeof(head) || head.size > s->caps.max_data_xfer_size ||
	    s->state != MIG_RESUMING)
		return -EINVAL;
	return stream_push(s, q->data + sizeof(head), head.size);
}

/* ---- the end of a client ---- */

void server_mig_drop(struct server *s)
{
	const struct participant_ops *ops = s->participant->ops;
	const bool loading = s->stream.kind == STREAM_LOADING;

	if (s->stream.kind == STREAM_SAVING)
		server_end_save(s);
	stream_end(s);
	if (loading && ops->discard)
		ops->discard(s->participant);
	/* What a device is that has been half loaded nobody can say. */
	if (loading || s->state == MIG_ERROR || s->v1.error)
		server_reset_device(s);
	s->state = MIG_RUNNING;
	server_v1_reset(s);
}
