/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI function that is good for nothing but being moved: for tests and
 * benches of whoever drives a migration. Its state is as large as one likes,
 * and is checked byte by byte where it arrives; part of it changes while the
 * device runs. No driver is needed.
 *
 * BAR 0, 16 KiB: registers in its first page, memory in the others (it may be
 * mapped).
 *
 *      0x00  u32  "BALL"                     0x28  u32  DMA: length, up to 12288
 *      0x08  u64  size of the state          0x2c  u32  DMA: 1 guest -> memory, 2 back
 *      0x10  u64  seed of the state          0x30  u32  DMA: 0, or the errno
 *      0x18  u64  digest of the state        0x34  u32  write: raises a vector, or the pin
 *      0x20  u64  DMA: guest address         0x38  u32  pin is high; reading lowers it
 *                                            0x3c  u32  write: so many blocks change
 *                                            0x40  u64  how often its state was loaded
 *
 * BAR 2, 4 KiB, holds the MSI-X table.
 *
 * The state is blocks of 64 KiB, each made of seed, index and a generation,
 * which rises when the block changes: what a block must hold can be worked
 * out, so that none of it need be kept.
 */
#ifndef VFIO_USER_BALLAST_H
#define VFIO_USER_BALLAST_H

#include "vfio/user/server.h"
#include "vmm/msix.h"
#include "vmm/pci_device.h"

#define BALLAST_BLOCK (64u << 10)
#define BALLAST_PAGE 4096u
#define BALLAST_MEMORY (3 * BALLAST_PAGE)
#define BALLAST_VECTORS 4

struct ballast_options {
	uint64_t size;
	bool pre_copy;
	uint64_t rate, dirty_rate;
	uint32_t interrupt; /* enum ballast_interrupt */
	char fail[256];
	char die_at[48];
};
enum ballast_interrupt { BALLAST_MSIX, BALLAST_INTX };

struct ballast {
	struct pci_device d;
	struct ballast_options options;
	int fd; /* memfd: a page of nothing, then the memory */
	uint8_t *memory;
	struct msix *msix;
	struct msi_irqfds *irqfds;
	unsigned msix_cap;
	bool pin_high;
	uint64_t dma_address;
	uint32_t dma_length, dma_status;

	/* The state. With the device lock. */
	uint64_t seed, loads;
	uint32_t blocks;
	uint32_t *generation;
	uint64_t *dirty; /* one bit a block: to be sent */
	uint32_t dirty_count, next_change, cursor;
	bool announced; /* saving: size and seed are out */
	bool running;
	int64_t changed_us; /* until when the changes of dirty_rate have been made */
	/* What is loaded; NULL: nothing is. */
	struct ballast_load {
		uint64_t seed, digest, loads;
		uint32_t *generation;
		uint32_t have;
		bool begun, ended;
		uint8_t config[PCI_FUNCTION_STATE_SIZE];
		uint8_t *rest; /* memory, registers, MSI-X */
		size_t rest_len;
	} * load;
};

extern const struct device_driver ballast_driver;
extern const struct participant_ops ballast_participant;

/* What its options ask of the server. */
int ballast_server_options(const struct ballast_options *o, struct server_options *out,
                           struct gw_error *err);

/* ballast.c: the rest of the device's state. */
void ballast_save_device(struct ballast *b, struct bytes *out);
int ballast_load_device(struct ballast *b, struct bytes_reader *in, struct gw_error *err);

/* ballast_state.c; with the device lock. */
uint64_t ballast_digest(const struct ballast *b, uint64_t seed, const uint32_t *generation);
void ballast_change(struct ballast *b, uint32_t blocks);
/* Makes the changes that are due by the clock. */
void ballast_catch_up(struct ballast *b);
void ballast_reset_state(struct ballast *b);
void ballast_drop_load(struct ballast *b);

#endif
