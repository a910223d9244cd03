/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtqueue as the device sees it, split or packed.
 *
 * The rings lie in guest memory and the guest may change them at any time:
 * each index, descriptor and length is read once into memory of our own and
 * checked there. What does not hold (an index outside the ring, a chain that
 * is a loop, an address that is no RAM) makes the queue `broken`, with the
 * reason; nothing of such a chain is handed out.
 *
 * One thread at a time. Usual order on the device's side:
 *
 *      do {
 *              virtq_kicks_off(q);
 *              while ((r = virtq_pop(q, &chain)) > 0) {
 *                      ... read chain's out part, write its in part ...
 *                      virtq_fill(q, &chain, written);
 *              }
 *              if (virtq_publish(q))
 *                      virtio_interrupt(...);
 *      } while (r == 0 && virtq_kicks_on(q));
 *
 * Source: VIRTIO 1.2, 2.6 (virtqueues), 2.7 (split), 2.8 (packed).
 */
#ifndef VMM_VIRTIO_VIRTQ_H
#define VMM_VIRTIO_VIRTQ_H

#include "base/bytes.h"
#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct memory;

#define VIRTQ_SIZE_MAX 1024
/* Pieces that a chain may have, indirect ones counted: the largest queue's size (2.6.5.3.1). */
#define VIRTQ_CHAIN_MAX 1024

/* A buffer of the guest's: pieces to read, then pieces to write. All zero: empty; the room for
 * pieces is kept from one virtq_pop() to the next. */
struct virtq_chain {
	uint16_t id;      /* split: index of the first descriptor; packed: buffer id */
	uint16_t slots;   /* places in the ring that it takes; split: 1 */
	unsigned out, in; /* iov[0 .. out) is to be read, iov[out .. out + in) to be written */
	size_t out_len, in_len; /* bytes in each part */
	struct iovec *iov;
	uint64_t *gpa; /* of each piece, for the dirty log */
	unsigned room;
};
void virtq_chain_free(struct virtq_chain *c);

/* Copies out of the pieces to read, from `offset` on; into the pieces to write. The number of bytes
 * that there were. */
size_t virtq_chain_read(const struct virtq_chain *c, size_t offset, void *buf, size_t len);
size_t virtq_chain_write(const struct virtq_chain *c, size_t offset, const void *buf, size_t len);

struct virtq {
	struct memory *memory;
	/* What the driver has set (transport); fixed while enabled. */
	uint16_t max_size;
	uint16_t size;
	uint64_t desc, driver, device; /* gpa: 2.7 and 2.8 call the areas so */
	bool enabled;

	/* From here on: virtq_enable() and below. */
	bool packed, event_idx, indirect;
	const char *broken; /* why; NULL: it is not */
	void *desc_hva, *driver_hva, *device_hva;
	uint16_t next_avail, next_used; /* split: free-running; packed: place in the ring */
	bool avail_wrap, used_wrap;     /* packed */
	uint16_t popped;                /* places handed out and not yet shown as used */
	bool first_publish;             /* since the queue was enabled: always tell the driver */
	uint16_t filled;                /* places used and not yet shown */
	uint16_t first_flags;           /* packed: of the first of them, written last */
	uint16_t first_slot;
};

/* Power-on: nothing configured, sizes as offered. */
void virtq_reset(struct virtq *q);

/*
 * Takes the rings into use as configured. Indices begin at zero; virtq_load_position() comes after.
 * -EINVAL: size not a power of two (split) or too large; -EFAULT: an area that is not aligned or
 * not RAM; with text.
 */
int virtq_enable(struct virtq *q, bool packed, bool event_idx, bool indirect, struct gw_error *err);

/* Guest memory has moved in this process: where the rings are now. False: not all of them are
 * anywhere, and the queue must not be used. */
bool virtq_find_again(struct virtq *q);

/* The next buffer: 1; 0 if there is none; -EPROTO if the queue is (now) broken; -ENOMEM. */
int virtq_pop(struct virtq *q, struct virtq_chain *c);
/* Gives back the buffer that was popped last, as if it had not been. */
void virtq_unpop(struct virtq *q, const struct virtq_chain *c);

/* The device is done with a buffer, having written at most the first `written` bytes of its in
 * part (they are marked dirty). The driver sees it after virtq_publish(). */
void virtq_fill(struct virtq *q, const struct virtq_chain *c, uint32_t written);
/* Shows the driver all that was filled; true: it wants an interrupt. */
bool virtq_publish(struct virtq *q);
/* Both, for one buffer. */
bool virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written);

/* The driver need not kick while we look; or is to kick again. virtq_kicks_on() says true if
 * buffers have come in between, which no kick may tell of. */
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);
/* Is there a buffer? */
bool virtq_has_avail(struct virtq *q);

/* Where the device stands in the rings: with nothing in flight. */
void virtq_save(const struct virtq *q, struct bytes *out);
int virtq_load(struct virtq *q, struct bytes_reader *in, struct gw_error *err);

#endif
