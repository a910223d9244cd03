/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel's VFIO that is made up: groups and containers, character devices and an iommufd, each
 * call of which can be made to fail. And a machine with three pieces of RAM. */
#ifndef UNIT_VFIO_KERNEL_H
#define UNIT_VFIO_KERNEL_H

#include "vfio/space.h"
#include "vfio/sys.h"
#include "vfio/sysfs.h"
#include "vmm/memory_internal.h"

#define VK_RAM (1ull << 20)
#define VK_REGIONS 3 /* at 4 GiB, at 0, and behind that one */

struct vk_mapping {
	int space; /* a container's descriptor, or an IOAS's id */
	uint64_t iova, size;
	bool writeable;
};

/* Each test is a process of its own. */
struct vk {
	/* what it does */
	unsigned long fail; /* this request fails */
	int error;
	unsigned fail_after;    /* so many of them work before */
	int refused_group;      /* shares no container with another; 0: none */
	unsigned long no_page;  /* alignment that an iommufd asks for; 0: 4 KiB */
	unsigned long max_maps; /* of a container; 0: any number */
	uint64_t bitmap_max;    /* of a container; 0: it has no dirty bitmap */
	bool ranges;            /* without the MSI window, 39 bits */
	unsigned many_ranges;   /* so many that no room is large enough */
	bool not_viable;
	bool dirty_bits;  /* the IOMMU keeps them */
	int other_iommu;  /* the device with this id takes no page table of another; 0: none */
	uint64_t written; /* an address that a device writes; UINT64_MAX: none */
	/* what has happened */
	struct vk_mapping maps[64];
	unsigned map_count;
	char opened[32][48];
	unsigned open_count;
	char given[48];    /* a name that the embedder has given; "": none */
	char order[64];    /* a letter a call: k KVM is told, K takes back, b bind, a attach, ... */
	unsigned tracking; /* containers and page tables that do so */
	unsigned tables, next_id;
	unsigned spaces; /* of an iommufd */
	unsigned unmaps_with_bitmap;
};
extern struct vk vk;
extern const struct vfio_sys vk_sys;

struct vk_world {
	struct machine m;
	struct memory mem;
};
struct vk_world *vk_world_new(void);
void vk_world_free(struct vk_world *w);

/* Tracking on, and nothing dirty. */
void vk_track(struct vk_world *w);
bool vk_is_dirty(const struct vk_world *w, size_t region, uint64_t page);
/* Mappings that cover RAM, in this container or IOAS (0: in any). */
unsigned vk_count_maps(int space);

#endif
