/* SPDX-License-Identifier: Apache-2.0 */
/* What the two layouts of a virtqueue share. */
#ifndef VMM_VIRTIO_VIRTQ_INTERNAL_H
#define VMM_VIRTIO_VIRTQ_INTERNAL_H

#include "vmm/virtio/virtq.h"

/* Flags of a descriptor (2.7.5, 2.8.1). */
#define VIRTQ_DESC_NEXT 1u
#define VIRTQ_DESC_WRITE 2u
#define VIRTQ_DESC_INDIRECT 4u

/* Both layouts' descriptors are of this size. */
#define VIRTQ_DESC_SIZE 16u

struct virtq_layout {
	/* Alignment and size in bytes of the three areas, for a queue of q->size. */
	unsigned desc_align, driver_align, device_align;
	uint64_t (*desc_len)(const struct virtq *q);
	uint64_t (*driver_len)(const struct virtq *q);
	uint64_t (*device_len)(const struct virtq *q);

	int (*pop)(struct virtq *q, struct virtq_chain *c);
	void (*unpop)(struct virtq *q, const struct virtq_chain *c);
	void (*fill)(struct virtq *q, const struct virtq_chain *c, uint32_t written);
	bool (*publish)(struct virtq *q);
	void (*kicks_off)(struct virtq *q);
	bool (*kicks_on)(struct virtq *q);
	bool (*has_avail)(struct virtq *q);
};
extern const struct virtq_layout virtq_split, virtq_packed;

/* Notes why, and returns -EPROTO. `why` is constant. */
int virtq_break(struct virtq *q, const char *why);
void virtq_chain_begin(struct virtq_chain *c);
/* Adds one piece, checked. */
int virtq_chain_add(struct virtq *q, struct virtq_chain *c, uint64_t gpa, uint32_t len,
                    uint16_t flags);
/* The table that an indirect descriptor names; NULL: broken. Its number of entries in *count. */
const uint8_t *virtq_indirect(struct virtq *q, uint64_t gpa, uint32_t len, uint16_t flags,
                              unsigned *count);

/* 2.7.10.1: has the index passed `event` on its way from `old` to `now`? */
static inline bool virtq_passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

#endif
