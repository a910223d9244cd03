/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msi.h"

#include "base/util.h"
#include "vmm/pci.h"

#include <stdlib.h>

/* Message control, capability + 2, then the address (PCI 3.0, 6.8.1.3 and 6.8.1.4). */
#define CONTROL 2
#define CONTROL_ENABLE 0x0001
#define CONTROL_CAPABLE_SHIFT 1
#define CONTROL_GRANTED_SHIFT 4
#define CONTROL_COUNT_MASK 7u
#define CONTROL_64 0x0080
#define CONTROL_MASKABLE 0x0100
#define ADDRESS 4
#define ADDRESS_HIGH 8

#define COUNT_LOG2_MAX 5

struct msi {
	struct msi_layout layout;
	bool enabled;
	struct msi_vectors vectors;
};

int msi_parse(const uint8_t *cap, struct msi_layout *out, struct gw_error *err)
{
	uint32_t control = pci_get(cap, CONTROL, 2);
	unsigned log2 = control >> CONTROL_CAPABLE_SHIFT & CONTROL_COUNT_MASK;
	unsigned data;

	if (log2 > COUNT_LOG2_MAX)
		return error_set(err, -EINVAL, "MSI capability: message control 0x%04x", control);
	*out = (struct msi_layout){
		.vectors = 1u << log2,
		.is_64 = control & CONTROL_64,
		.maskable = control & CONTROL_MASKABLE,
	};
	/* The registers follow each other; data is 16 bits, with 16 reserved before a mask. */
	data = out->is_64 ? 12 : 8;
	out->data_offset = data;
	out->mask_offset = out->maskable ? data + 4 : 0;
	out->pending_offset = out->maskable ? data + 8 : 0;
	out->size = out->maskable ? data + 12 : data + 2;
	return 0;
}

static void allow(uint8_t *wmask, unsigned offset, unsigned size, uint32_t bits)
{
	pci_set(wmask, offset, size, pci_get(wmask, offset, size) | bits);
}

static uint32_t vector_bits(unsigned vectors)
{
	return vectors >= 32 ? UINT32_MAX : (1u << vectors) - 1;
}

void msi_wmask(const struct msi_layout *layout, uint8_t *wmask)
{
	allow(wmask, CONTROL, 2, CONTROL_ENABLE | CONTROL_COUNT_MASK << CONTROL_GRANTED_SHIFT);
	allow(wmask, ADDRESS, 4, ~3u);
	if (layout->is_64)
		allow(wmask, ADDRESS_HIGH, 4, ~0u);
	allow(wmask, layout->data_offset, 2, 0xffff);
	if (layout->maskable)
		allow(wmask, layout->mask_offset, 4, vector_bits(layout->vectors));
}

int msi_create(const struct msi_layout *layout, const struct msi_vector_ops *ops, void *opaque,
               struct msi **out, struct gw_error *err)
{
	struct msi *msi;
	int r;

	if (!layout->vectors || layout->vectors > MSI_VECTORS_MAX)
		return error_set(err, -EINVAL, "MSI with %u vectors", layout->vectors);
	msi = calloc(1, sizeof(*msi));
	if (!msi)
		return error_set(err, -ENOMEM, "no memory");
	msi->layout = *layout;
	r = msi_vectors_init(&msi->vectors, layout->vectors, ops, opaque, err);
	if (r < 0) {
		free(msi);
		return r;
	}
	*out = msi;
	return 0;
}

void msi_destroy(struct msi *msi)
{
	if (!msi)
		return;
	msi_vectors_fini(&msi->vectors);
	free(msi);
}

/* How many vectors the guest has granted; it may not grant more than were asked for. */
static unsigned granted(const struct msi *msi, uint32_t control)
{
	unsigned log2 = MIN(control >> CONTROL_GRANTED_SHIFT & CONTROL_COUNT_MASK,
	                    (unsigned)COUNT_LOG2_MAX);

	return MIN(1u << log2, msi->layout.vectors);
}

void msi_update(struct msi *msi, const uint8_t *cap)
{
	const struct msi_layout *l = &msi->layout;
	uint32_t control = pci_get(cap, CONTROL, 2);
	uint32_t data = pci_get(cap, l->data_offset, 2);
	uint32_t masked = l->maskable ? pci_get(cap, l->mask_offset, 4) : 0;
	uint64_t address = pci_get(cap, ADDRESS, 4);
	unsigned count = granted(msi, control);

	if (l->is_64)
		address |= (uint64_t)pci_get(cap, ADDRESS_HIGH, 4) << 32;
	msi->enabled = control & CONTROL_ENABLE;
	for (unsigned i = 0; i < l->vectors; i++) {
		/* A vector is the message's data with its number in the lowest bits (6.8.1.6). */
		struct msi_message msg = { .address = address, .data = (data & ~(count - 1)) | i };
		enum msi_vector_state state = MSI_VECTOR_ON;

		if (!msi->enabled || i >= count)
			state = MSI_VECTOR_OFF;
		else if (masked >> i & 1)
			state = MSI_VECTOR_MASKED;
		msi_vector_set(&msi->vectors, i, state, &msg);
	}
	msi_vectors_commit(&msi->vectors);
}

bool msi_enabled(const struct msi *msi)
{
	return msi->enabled;
}

uint32_t msi_pending(struct msi *msi)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < msi->layout.vectors; i++)
		bits |= (uint32_t)msi_vector_pending(&msi->vectors, i) << i;
	return bits;
}

void msi_raise(struct msi *msi, unsigned vector)
{
	msi_vector_raise(&msi->vectors, vector);
}

void msi_reset(struct msi *msi)
{
	msi->enabled = false;
	for (unsigned i = 0; i < msi->layout.vectors; i++) {
		msi_vector_set(&msi->vectors, i, MSI_VECTOR_OFF, &msi->vectors.v[i].msg);
		msi_vector_set_pending(&msi->vectors, i, false);
	}
	msi_vectors_commit(&msi->vectors);
}

void msi_save(struct msi *msi, uint8_t state[MSI_STATE_SIZE])
{
	pci_set(state, 0, 4, msi_pending(msi));
}

void msi_load(struct msi *msi, const uint8_t state[MSI_STATE_SIZE])
{
	uint32_t bits = pci_get(state, 0, 4);

	msi_reset(msi);
	for (unsigned i = 0; i < msi->layout.vectors; i++)
		msi_vector_set_pending(&msi->vectors, i, bits >> i & 1);
}
