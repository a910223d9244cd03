/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtqueue whose rings and tables the guest has filled with anything. What is handed out must
 * lie in guest memory, whole; and there is an end to it.
 */
#include "base/util.h"
#include "vmm/memory_internal.h"
#include "vmm/virtio/virtq.h"

#include <stdlib.h>
#include <string.h>

#define RAM 0x4000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct virtq_chain *c, const uint8_t *ram)
{
	size_t out = 0, in = 0;

	for (unsigned i = 0; i < c->out + c->in; i++) {
		const uint8_t *base = c->iov[i].iov_base;

		if (base < ram || c->iov[i].iov_len > RAM ||
		    (size_t)(base - ram) > RAM - c->iov[i].iov_len || base - ram != (long)c->gpa[i])
			abort();
		*(i < c->out ? &out : &in) += c->iov[i].iov_len;
	}
	if (out != c->out_len || in != c->in_len || !c->slots)
		abort();
}

/* The first bytes choose the layout and where the areas are; the rest is the guest's memory. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory mem = { .size = RAM, .region_count = 1 };
	struct virtq q = { .memory = &mem, .max_size = 64 };
	struct virtq_chain kept[4] = { 0 };
	static const uint8_t zero[16];
	uint8_t *ram, options;
	struct gw_error err;

	if (size < 8)
		return 0;
	ram = malloc(RAM);
	memset(ram, 0, RAM);
	memcpy(ram, data + 8, MIN(size - 8, (size_t)RAM));
	mem.regions[0] = (struct ram_region){ .size = RAM, .hva = ram, .fd = -1 };
	pthread_mutex_init(&mem.lock, NULL);
	options = data[0];
	virtq_reset(&q);
	q.size = data[1] % 80;
	q.desc = data[2] * 64u;
	q.driver = data[3] * 64u + 2u * (data[4] % 8u);
	q.device = data[5] * 64u + 4u * (data[6] % 8u);
	if (!virtq_enable(&q, options & 1, options & 2, options & 4, &err)) {
		struct bytes_reader position = { .data = options & 8 ? data + 8 : zero, .len = 5 };

		if (size >= 13)
			virtq_load(&q, &position, &err);
		for (unsigned round = 0; round < 200; round++) {
			struct virtq_chain *c = &kept[round % ARRAY_SIZE(kept)];

			if (virtq_pop(&q, c) <= 0)
				break;
			check(c, ram);
			if (round % 7 == 3) {
				virtq_unpop(&q, c);
				continue;
			}
			virtq_chain_write(c, round, "godwit", 6);
			virtq_fill(&q, c, (uint32_t)c->in_len);
			if (round % 3 == 0)
				virtq_publish(&q);
			virtq_kicks_on(&q);
			virtq_kicks_off(&q);
		}
		virtq_publish(&q);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		virtq_chain_free(&kept[i]);
	pthread_mutex_destroy(&mem.lock);
	free(ram);
	return 0;
}
