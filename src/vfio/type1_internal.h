/* SPDX-License-Identifier: Apache-2.0 */
/* What type1.c (groups) and type1_space.c (the container as an address space) share. */
#ifndef VFIO_TYPE1_INTERNAL_H
#define VFIO_TYPE1_INTERNAL_H

#include "vfio/type1.h"

#define TYPE1_PATH "/dev/vfio/vfio"

struct vfio_group {
	struct vfio_container *container;
	unsigned number;
	unsigned users;
	int fd;
	bool pins; /* of devices that pin the pages they use (mdev), behind no IOMMU */
	struct vfio_group *next;
};

struct vfio_container {
	struct vfio_space space;
	const struct vfio_sys *sys;
	int fd;
	bool given; /* by the embedder, who gives one container for all */
	bool iommu_set;
	bool has_bitmap; /* it tracks dirty pages at all */
	/* So many mappings it takes; 0: the kernel does not say (before 5.10). */
	uint32_t map_limit;
	struct vfio_group *groups;
};

static inline struct vfio_container *type1_of(struct vfio_space *s)
{
	return (struct vfio_container *)((char *)s - offsetof(struct vfio_container, space));
}

/* ---- type1_space.c ---- */
extern const struct vfio_space_ops type1_space_ops;
/* What the container says of itself; after each group that joins, since ranges get fewer. */
int type1_read_info(struct vfio_container *c, struct gw_error *err);
/* From `len` bytes of such info. Chains that lead outside, or in circles, end. */
void type1_parse_info(struct vfio_container *c, const void *info, size_t len);

#endif
