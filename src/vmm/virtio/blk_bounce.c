/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk_request.h"

#include "base/util.h"

#include <string.h>

#define BOUNCE_MAX (256 * KIB)
#define BOUNCE_ALIGN 4096u /* at least */

static const struct blk_file *file_of(const struct blk_request *r)
{
	return &r->bq->blk->file;
}

/* The driver promises nothing of where its pieces are, and speaks of sectors, whatever the host's
 * blocks. */
bool blk_bounce_is_needed(const struct blk_request *r)
{
	const struct blk_file *file = file_of(r);

	if ((r->op.offset | r->op.len) % file->align)
		return true;
	for (unsigned i = 0; i < r->op.iov_count; i++)
		if ((uintptr_t)r->op.iov[i].iov_base % file->memory_align ||
		    r->op.iov[i].iov_len % file->align)
			return true;
	return false;
}

/* Where in the buffer the part is. */
static uint64_t skip(const struct blk_request *r)
{
	return (r->begin + r->bounced) % file_of(r)->align;
}

static void do_io(struct blk_request *r, enum blk_aio_kind kind)
{
	const uint32_t align = file_of(r)->align;
	const uint64_t len = DIV_ROUND_UP(skip(r) + r->part, align) * align;

	r->bounce_iov = (struct iovec){ .iov_base = r->bounce, .iov_len = len };
	r->op.kind = kind;
	r->op.iov = &r->bounce_iov;
	r->op.iov_count = 1;
	r->op.offset = r->begin + r->bounced - skip(r);
	r->op.len = len;
}

static void write_part(struct blk_request *r)
{
	char *at = (char *)r->bounce + skip(r);

	if (r->type == BLK_T_OUT)
		virtq_chain_read(&r->chain, BLK_HEADER_SIZE + r->bounced, at, r->part);
	else
		memset(at, 0, r->part);
	r->completing = false;
	do_io(r, BLK_AIO_WRITE);
}

static void begin_part(struct blk_request *r)
{
	r->part = MIN(r->len - r->bounced, BOUNCE_MAX - skip(r));
	if (r->type == BLK_T_IN) {
		do_io(r, BLK_AIO_READ);
		return;
	}
	r->completing = (skip(r) | r->part) % file_of(r)->align;
	if (r->completing)
		do_io(r, BLK_AIO_READ);
	else
		write_part(r);
}

/* The buffer is small, however long the request: it is the guest that says how many of these there
 * are at a time. */
int blk_bounce_begin(struct blk_request *r)
{
	const struct blk_file *file = file_of(r);
	const size_t align = MAX(MAX(file->align, file->memory_align), BOUNCE_ALIGN);
	const uint64_t most = DIV_ROUND_UP(r->op.len, (uint64_t)align) * align + align;

	if (posix_memalign(&r->bounce, align, MIN(most, (uint64_t)BOUNCE_MAX)))
		return -ENOMEM;
	r->begin = r->op.offset;
	r->len = r->op.len;
	r->bounced = 0;
	begin_part(r);
	return 0;
}

bool blk_bounce_next(struct blk_request *r)
{
	if (!r->op.result && r->completing) {
		write_part(r);
		return true;
	}
	if (!r->op.result) {
		if (r->type == BLK_T_IN)
			virtq_chain_write(&r->chain, r->bounced, (char *)r->bounce + skip(r),
			                  r->part);
		r->bounced += r->part;
		if (r->bounced < r->len) {
			begin_part(r);
			return true;
		}
	}
	free(r->bounce);
	r->bounce = NULL;
	return false;
}
