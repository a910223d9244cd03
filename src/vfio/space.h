/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address space in which devices do DMA: guest RAM at its guest-physical
 * addresses, and the BARs of other devices. A machine has one for all devices
 * that one backend (and one IOMMU) can serve; it is made with its first device
 * and gone with its last. It follows the machine's memory as it comes and
 * goes, and is a source of dirty pages where it can tell what was written.
 */
#ifndef VFIO_SPACE_H
#define VFIO_SPACE_H

#include "vfio/uapi.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#include <stdbool.h>
#include <stdint.h>

struct vfio_space;

/* What is mapped: guest-physical, in this process, and in which file (-1: in none, or not such as
 * another process could map). */
struct vfio_mapping {
	uint64_t iova, size;
	void *hva;
	int fd;
	uint64_t fd_offset;
	bool device; /* a BAR of another device, not RAM */
	bool readonly;
};

struct vfio_space_ops {
	const char *backend; /* "type1", "iommufd", "vfio-user" */
	int (*map)(struct vfio_space *s, const struct vfio_mapping *mapping, struct gw_error *err);
	/* A mapping, whole. While dirty tracking is on nothing of what it knew is lost: it marks
	 * before it is gone. */
	void (*unmap)(struct vfio_space *s, uint64_t iova, uint64_t size);
	/* Dirty tracking for all of the space; called only where `tracks_dirty`. */
	int (*dirty_start)(struct vfio_space *s, struct gw_error *err);
	/* Marks in memory what was written to [iova, iova + size) since last time. The range is
	 * one mapping of RAM. */
	int (*dirty_sync)(struct vfio_space *s, struct memory *mem, uint64_t iova, uint64_t size,
	                  struct gw_error *err);
	void (*dirty_stop)(struct vfio_space *s);
	/* The last device is gone. Frees what surrounds the space. */
	void (*destroy)(struct vfio_space *s);
};

/* Memory of a device that others may reach. */
struct vfio_window_map {
	uint64_t iova, size;
	void *hva;
	bool at_home; /* mapped in the device's own space */
	struct vfio_window_map *next;
};

#define VFIO_IOVA_RANGES_MAX 64u

struct vfio_space {
	const struct vfio_space_ops *ops;
	struct machine *machine;
	unsigned users;
	unsigned devices;   /* that have joined */
	bool alone;         /* its devices' memory is shown to no others */
	bool attached;      /* RAM is mapped: from the first device on */
	bool tracks_dirty;  /* by itself it can tell what all its devices write */
	bool tracking;      /* and does so now */
	uint64_t piece_max; /* most that one mapping of RAM may have, whole pages; 0: any */
	/* What the IOMMU takes, the last byte included; none: not known. */
	struct vfio_iova_range ranges[VFIO_IOVA_RANGES_MAX];
	unsigned range_count;
	uint64_t page_min;               /* mappings are made of pages of this size; 0: not known */
	struct vfio_window_map *windows; /* of the devices in this space */
	struct dirty_source dirty;
	struct memory_listener listener;
	struct vfio_space *next; /* in machine->vfio */
};

/* Links the space into the machine; nothing is mapped before vfio_space_attach(). */
void vfio_space_init(struct vfio_space *s, const struct vfio_space_ops *ops, struct machine *m);
/* Maps all RAM, if that was not done, and follows it from now on. Whoever calls it has just put
 * the first device into the space. */
int vfio_space_attach(struct vfio_space *s, struct gw_error *err);
/* Unlinks it, and stops following. ops->destroy calls it first. */
void vfio_space_fini(struct vfio_space *s);

/* Its dirty tracking on, if it is not; memory's tracking turns it off again. */
int vfio_space_track(struct vfio_space *s, struct gw_error *err);
/* RAM piece by piece as it is mapped: `call` for [offset, offset + size) of a region, until one
 * fails. */
int vfio_space_each_piece(const struct vfio_space *s, const struct memory *mem,
                          int (*call)(void *opaque, const struct ram_region *r, uint64_t offset,
                                      uint64_t size, struct gw_error *err),
                          void *opaque, struct gw_error *err);

void vfio_space_get(struct vfio_space *s);
/* With the last user it is destroyed. */
void vfio_space_put(struct vfio_space *s);

/* One more device does its DMA here, or one less. */
void vfio_space_join(struct vfio_space *s);
void vfio_space_leave(struct vfio_space *s);

/* Memory of a device in the space for DMA between devices: for those that share this space or join
 * it, and for all other spaces of the machine, where the backend can do that (an error is of this
 * one's); and takes that back. */
int vfio_space_map_device(struct vfio_space *s, uint64_t iova, uint64_t size, void *hva,
                          struct gw_error *err);
void vfio_space_unmap_device(struct vfio_space *s, uint64_t iova, uint64_t size);

#endif
