/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk_request.h"

#include "base/util.h"

static bool conflict(const struct blk_request *a, const struct blk_request *b)
{
	return (a->exclusive || b->exclusive) && a->first < b->end && b->first < a->end;
}

/* Behind one that came earlier, and has not ended? */
static bool has_to_wait(const struct blk_request *r)
{
	for (const struct blk_request *e = r->before; e; e = e->before)
		if (conflict(e, r))
			return true;
	return false;
}

static bool is_ordered(const struct blk_request *r)
{
	return r->bq->blk->file.align > BLK_SECTOR && r->type != BLK_T_IN && r->type != BLK_T_FLUSH;
}

bool blk_order_enter(struct blk_request *r)
{
	struct blk_order *order = &r->bq->blk->order;
	const uint32_t align = r->bq->blk->file.align;
	const uint64_t begin = r->bounce ? r->begin : r->op.offset;
	const uint64_t len = r->bounce ? r->len : r->op.len;
	bool waits;

	r->ordered = is_ordered(r);
	if (!r->ordered)
		return true;
	r->first = begin / align;
	r->end = DIV_ROUND_UP(begin + len, align);
	r->exclusive = (begin | len) % align;
	pthread_mutex_lock(&order->lock);
	r->after = NULL;
	r->before = order->newest;
	if (r->before)
		r->before->after = r;
	else
		order->oldest = r;
	order->newest = r;
	r->waits = waits = has_to_wait(r);
	order->waiting += waits;
	pthread_mutex_unlock(&order->lock);
	return !waits;
}

/* With the order's lock held. */
static void take_out(struct blk_order *order, struct blk_request *r)
{
	if (r->before)
		r->before->after = r->after;
	else
		order->oldest = r->after;
	if (r->after)
		r->after->before = r->before;
	else
		order->newest = r->before;
}

void blk_order_leave(struct blk_request *r)
{
	struct blk_order *order = &r->bq->blk->order;

	if (!r->ordered)
		return;
	r->ordered = false;
	pthread_mutex_lock(&order->lock);
	take_out(order, r);
	for (struct blk_request *w = r->after; w && order->waiting; w = w->after) {
		if (!w->waits || has_to_wait(w))
			continue;
		w->waits = false;
		order->waiting--;
		w->next = w->bq->ready;
		w->bq->ready = w;
		blk_aio_wake(w->bq->aio);
	}
	pthread_mutex_unlock(&order->lock);
}

void blk_order_resume(struct blk_queue *bq)
{
	struct blk_order *order = &bq->blk->order;

	pthread_mutex_lock(&order->lock);
	while (bq->ready) {
		struct blk_request *r = bq->ready;

		bq->ready = r->next;
		blk_aio_submit(bq->aio, &r->op);
	}
	pthread_mutex_unlock(&order->lock);
}
