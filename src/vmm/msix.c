/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msix.h"

#include "base/util.h"
#include "vmm/pci.h"

#include <stdlib.h>
#include <string.h>

/* Message control, capability + 2; table at + 4, pending bits at + 8, each with the BAR in its
 * lower three bits (PCI 3.0, 6.8.2.3 to 6.8.2.5). */
#define CONTROL 2
#define CONTROL_SIZE_MASK 0x07ff
#define CONTROL_FUNCTION_MASK 0x4000
#define CONTROL_ENABLE 0x8000
#define TABLE 4
#define PBA 8
#define BAR_MASK 7u

/* Words of a table entry (6.8.2.6 to 6.8.2.9). */
#define ENTRY_ADDRESS 0
#define ENTRY_ADDRESS_HIGH 1
#define ENTRY_DATA 2
#define ENTRY_CONTROL 3
#define ENTRY_WORDS 4
#define ENTRY_CONTROL_MASK 1u

struct msix {
	unsigned count;
	bool enabled, function_mask;
	struct msi_vectors vectors;
	uint32_t *table; /* ENTRY_WORDS a vector */
};

int msix_parse(const uint8_t *cap, struct msix_layout *out, struct gw_error *err)
{
	uint32_t table = pci_get(cap, TABLE, 4), pba = pci_get(cap, PBA, 4);

	*out = (struct msix_layout){
		.vectors = (pci_get(cap, CONTROL, 2) & CONTROL_SIZE_MASK) + 1,
		.table_bar = table & BAR_MASK,
		.pba_bar = pba & BAR_MASK,
		.table_offset = table & ~BAR_MASK,
		.pba_offset = pba & ~BAR_MASK,
	};
	out->table_size = (uint64_t)out->vectors * MSIX_ENTRY_SIZE;
	out->pba_size = DIV_ROUND_UP(out->vectors, 64u) * 8ull;
	if (out->table_bar >= PCI_BARS || out->pba_bar >= PCI_BARS)
		return error_set(err, -EINVAL,
		                 "MSI-X capability: table in BAR %u, pending bits in BAR %u",
		                 out->table_bar, out->pba_bar);
	if (out->table_bar == out->pba_bar && out->table_offset < out->pba_offset + out->pba_size &&
	    out->pba_offset < out->table_offset + out->table_size)
		return error_set(
		        err, -EINVAL,
		        "MSI-X capability: table at 0x%llx and pending bits at 0x%llx overlap",
		        (unsigned long long)out->table_offset, (unsigned long long)out->pba_offset);
	return 0;
}

void msix_wmask(uint8_t *wmask)
{
	pci_set(wmask, CONTROL, 2,
	        pci_get(wmask, CONTROL, 2) | CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
}

static void clear_table(struct msix *x)
{
	memset(x->table, 0, (size_t)x->count * MSIX_ENTRY_SIZE);
	for (unsigned i = 0; i < x->count; i++)
		x->table[i * ENTRY_WORDS + ENTRY_CONTROL] = ENTRY_CONTROL_MASK;
}

int msix_create(unsigned vectors, const struct msi_vector_ops *ops, void *opaque, struct msix **out,
                struct gw_error *err)
{
	struct msix *x;
	int r;

	if (!vectors || vectors > MSIX_VECTORS_MAX)
		return error_set(err, -EINVAL, "MSI-X with %u vectors", vectors);
	x = calloc(1, sizeof(*x));
	if (!x)
		return error_set(err, -ENOMEM, "no memory");
	x->count = vectors;
	x->table = calloc(vectors, MSIX_ENTRY_SIZE);
	r = x->table ? msi_vectors_init(&x->vectors, vectors, ops, opaque, err)
	             : error_set(err, -ENOMEM, "no memory for %u vectors", vectors);
	if (r < 0) {
		free(x->table);
		free(x);
		return r;
	}
	clear_table(x);
	*out = x;
	return 0;
}

void msix_destroy(struct msix *x)
{
	if (!x)
		return;
	msi_vectors_fini(&x->vectors);
	free(x->table);
	free(x);
}

static bool access_ok(uint64_t offset, unsigned size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

/* Makes a vector what the table and the capability say. */
static void update_vector(struct msix *x, unsigned vector)
{
	const uint32_t *e = &x->table[vector * ENTRY_WORDS];
	struct msi_message msg = {
		.address = (uint64_t)e[ENTRY_ADDRESS_HIGH] << 32 | e[ENTRY_ADDRESS],
		.data = e[ENTRY_DATA],
	};
	enum msi_vector_state state = MSI_VECTOR_ON;

	if (!x->enabled)
		state = MSI_VECTOR_OFF;
	else if (x->function_mask || (e[ENTRY_CONTROL] & ENTRY_CONTROL_MASK))
		state = MSI_VECTOR_MASKED;
	msi_vector_set(&x->vectors, vector, state, &msg);
}

uint64_t msix_table_read(struct msix *x, uint64_t offset, unsigned size)
{
	uint64_t word = offset / 4, words = (uint64_t)x->count * ENTRY_WORDS;

	if (!access_ok(offset, size))
		return UINT64_MAX;
	if (word >= words)
		return 0;
	/* Entries are 16 bytes, so the second half of an aligned 8 is inside too. */
	return size == 4 ? x->table[word] : (uint64_t)x->table[word + 1] << 32 | x->table[word];
}

static void write_word(struct msix *x, uint64_t word, uint32_t value)
{
	static const uint32_t writable[ENTRY_WORDS] = {
		[ENTRY_ADDRESS] = ~3u,
		[ENTRY_ADDRESS_HIGH] = ~0u,
		[ENTRY_DATA] = ~0u,
		[ENTRY_CONTROL] = ENTRY_CONTROL_MASK,
	};

	x->table[word] = value & writable[word % ENTRY_WORDS];
}

void msix_table_write(struct msix *x, uint64_t offset, unsigned size, uint64_t value)
{
	uint64_t word = offset / 4, words = (uint64_t)x->count * ENTRY_WORDS;

	if (!access_ok(offset, size) || word >= words)
		return;
	write_word(x, word, (uint32_t)value);
	if (size == 8)
		write_word(x, word + 1, (uint32_t)(value >> 32));
	update_vector(x, (unsigned)(word / ENTRY_WORDS));
	msi_vectors_commit(&x->vectors);
}

/* The 32 pending bits from `first` on. */
static uint32_t pending_word(struct msix *x, uint64_t first)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < 32 && first + i < x->count; i++)
		bits |= (uint32_t)msi_vector_pending(&x->vectors, (unsigned)first + i) << i;
	return bits;
}

uint64_t msix_pba_read(struct msix *x, uint64_t offset, unsigned size)
{
	uint64_t first = offset / 4 * 32, bits;

	if (!access_ok(offset, size))
		return UINT64_MAX;
	if (first >= x->count)
		return 0;
	bits = pending_word(x, first);
	if (size == 8)
		bits |= (uint64_t)pending_word(x, first + 32) << 32;
	return bits;
}

static void set_control(struct msix *x, bool enabled, bool function_mask)
{
	if (x->enabled == enabled && x->function_mask == function_mask)
		return;
	x->enabled = enabled;
	x->function_mask = function_mask;
	for (unsigned i = 0; i < x->count; i++)
		update_vector(x, i);
	msi_vectors_commit(&x->vectors);
}

void msix_update(struct msix *x, const uint8_t *cap)
{
	uint32_t control = pci_get(cap, CONTROL, 2);

	set_control(x, control & CONTROL_ENABLE, control & CONTROL_FUNCTION_MASK);
}

void msix_update_of(struct msix *x, const struct pci_function *f, unsigned cap)
{
	const uint32_t control = pci_get(f->config + cap, CONTROL, 2);

	set_control(x, control & CONTROL_ENABLE,
	            (control & CONTROL_FUNCTION_MASK) || !pci_is_master(f));
}

bool msix_enabled(const struct msix *x)
{
	return x->enabled;
}

void msix_raise(struct msix *x, unsigned vector)
{
	msi_vector_raise(&x->vectors, vector);
}

void msix_reset(struct msix *x)
{
	set_control(x, false, false);
	for (unsigned i = 0; i < x->count; i++)
		msi_vector_set_pending(&x->vectors, i, false);
	clear_table(x);
}

static size_t pba_bytes(const struct msix *x)
{
	return DIV_ROUND_UP(x->count, 32u) * sizeof(uint32_t);
}

size_t msix_state_size(const struct msix *x)
{
	return (size_t)x->count * MSIX_ENTRY_SIZE + pba_bytes(x);
}

void msix_save(struct msix *x, uint8_t *state)
{
	for (unsigned i = 0; i < x->count * ENTRY_WORDS; i++, state += 4)
		pci_set(state, 0, 4, x->table[i]);
	for (unsigned first = 0; first < x->count; first += 32, state += 4)
		pci_set(state, 0, 4, pending_word(x, first));
}

int msix_load(struct msix *x, const uint8_t *state, size_t len, struct gw_error *err)
{
	if (len != msix_state_size(x))
		return error_set(err, -EINVAL,
		                 "MSI-X state of %zu bytes, %zu expected (%u vectors)", len,
		                 msix_state_size(x), x->count);
	msix_reset(x);
	for (unsigned i = 0; i < x->count * ENTRY_WORDS; i++, state += 4)
		write_word(x, i, pci_get(state, 0, 4));
	for (unsigned i = 0; i < x->count; i++)
		msi_vector_set_pending(&x->vectors, i, state[i / 8] >> i % 8 & 1);
	return 0;
}
