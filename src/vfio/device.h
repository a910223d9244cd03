/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VFIO device in hand: its regions, what of them may be mapped, its
 * interrupts, its reset, whoever serves it (host.h).
 * Source: <linux/vfio.h>, VFIO_DEVICE_GET_INFO and following.
 */
#ifndef VFIO_DEVICE_H
#define VFIO_DEVICE_H

#include "base/error.h"
#include "vfio/host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFIO_PCI_REGIONS 9 /* BARs, ROM, configuration space, VGA: as PCI numbers them */
#define VFIO_REGIONS 16    /* and those behind them, which say of what type they are */
#define VFIO_AREAS_MAX 8

/* A piece of a region that may be mapped. */
struct vfio_area {
	uint64_t offset, size;
};

struct vfio_region {
	uint64_t size, offset; /* offset: in the descriptor */
	bool readable, writable, mappable;
	struct vfio_area areas[VFIO_AREAS_MAX]; /* mappable pieces, page-aligned, in order */
	unsigned area_count;
	bool msix_mappable;     /* the MSI-X table may be mapped along */
	uint32_t type, subtype; /* of a region behind the PCI ones; 0: it does not say */
};

struct vfio_dirty;

struct vfio_dev {
	const struct vfio_host_ops *ops;
	int fd;           /* the kernel's; -1 */
	void *connection; /* the server's (src/vfio/user) */
	const char *name; /* for messages; the owner's */
	bool can_reset;
	bool iommu_tracks;        /* its IOMMU keeps dirty bits, which its space reads */
	struct vfio_dirty *dirty; /* hears of resets (dirty.h); NULL: nobody does */
	struct vfio_region regions[VFIO_REGIONS];
	unsigned region_count;
};

/* Takes the descriptor over, and reads what the device has. On failure it is closed. */
int vfio_dev_init(struct vfio_dev *d, int fd, const char *name, struct gw_error *err);
/* The same for a device whose ops, and what these need, are set already. */
int vfio_dev_read(struct vfio_dev *d, struct gw_error *err);
void vfio_dev_fini(struct vfio_dev *d);
/* The region of a type; -1: there is none. */
int vfio_region_find(const struct vfio_dev *d, uint32_t type, uint32_t subtype);

/* Exactly len bytes at offset of a region. */
int vfio_region_read(struct vfio_dev *d, unsigned region, uint64_t offset, void *buf, size_t len);
int vfio_region_write(struct vfio_dev *d, unsigned region, uint64_t offset, const void *buf,
                      size_t len);
/* An area mapped into this process; MAP_FAILED and errno. */
void *vfio_area_map(struct vfio_dev *d, unsigned region, const struct vfio_area *area);

/* VFIO_DEVICE_RESET, also where the device does not claim to have it (`can_reset`). */
int vfio_dev_reset(struct vfio_dev *d, struct gw_error *err);

/* VFIO_DEVICE_FEATURE: `payload`, of VFIO_FEATURE_PAYLOAD bytes at most (0: none), goes to the
 * device and back. */
int vfio_dev_feature(struct vfio_dev *d, uint32_t what, void *payload, size_t len);

/* How many interrupts of an index (VFIO_PCI_INTX_IRQ_INDEX, ...) the device has; flags may be
 * NULL. 0 where it has none. */
unsigned vfio_irq_count(struct vfio_dev *d, unsigned index, uint32_t *flags);
/* Each of `count` interrupts from `start` on is to signal fds[i] (-1: none). More than 0: nothing
 * was done, since the host has only so many to give (which the error says as well). */
int vfio_irq_set(struct vfio_dev *d, unsigned index, unsigned start, const int *fds, unsigned count,
                 struct gw_error *err);
/* Interrupts of an index off. */
void vfio_irq_disable(struct vfio_dev *d, unsigned index);
/* INTx: unmasked whenever fd is signalled. -ENOTTY: the device does not know how. */
int vfio_intx_unmask_by_fd(struct vfio_dev *d, int fd);
int vfio_intx_unmask(struct vfio_dev *d);

/* The mappable areas of a region from its info and capabilities (`info` holds argsz bytes),
 * less [hole, hole + hole_size) rounded to pages. Chains that lead outside, or in circles, end. */
void vfio_parse_region(const void *info, size_t len, struct vfio_region *out);
void vfio_region_cut(struct vfio_region *r, uint64_t hole, uint64_t hole_size);

#endif
