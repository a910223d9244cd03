/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that look at the host's devices share. */
#ifndef VFIO_HOST_INTERNAL_H
#define VFIO_HOST_INTERNAL_H

#include "base/error.h"
#include "vfio/pci_ids.h"
#include "vfio/sysfs.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* What a device says of its migration, by VFIO_DEVICE_FEATURE. */
struct vfio_features {
	uint64_t flags; /* VFIO_MIGRATION_* */
	bool dma_logging;
	bool iommu_tracks;  /* its IOMMU keeps dirty bits for it (iommufd only) */
	uint64_t data_size; /* of its state at this moment; 0: it does not say */
};

struct host_device {
	char name[64];       /* "0000:03:00.0", or an mdev's UUID */
	char path[PATH_MAX]; /* its folder, all links resolved */
	bool mdev;
	char mdev_type[64];
	unsigned vendor, device, class; /* PCI's numbers; class of three bytes */
	char driver[64];                /* "": none */
	bool vfio;                      /* that is one of VFIO's, and has it */
	bool may_stay;                  /* or it is none that hinders the others of the group */
	char cdev[32];                  /* "vfio0"; "": none */
	int group;                      /* -1: none */
	int numa_node;                  /* -1: none */
	char reset[128];                /* "flr bus"; "": none */
	/* What came of asking: 0, or a negative errno; -EOPNOTSUPP: it was not asked. */
	int asked;
	struct vfio_features features;
};

struct host_list {
	struct host_device *devices;
	unsigned count, room;
	bool has_iommu; /* the host has groups at all */
	bool has_vfio_pci;
};

/* ---- host_scan.c: sysfs ---- */
int host_scan(const char *root, struct host_list *out, struct gw_error *err);
void host_list_free(struct host_list *list);

/* ---- host_probe.c: VFIO ---- */
/* Opens the device and asks it. -EBUSY: somebody has it, or its group. Other errors: those of
 * opening. */
int host_probe(const struct host_device *device, struct vfio_features *out);

/* ---- host_verdict.c: what can be done with a device, from the two ---- */
struct host_verdict {
	bool passable, movable;
	char not_passable[256], not_movable[256]; /* why; "" where it can */
	char mend[8192];                          /* a shell command; "": there is none */
};
void host_judge(const struct host_list *list, const struct host_device *device,
                struct host_verdict *out);

/* ---- host_devices.c ---- */
/* As JSON list; NULL: out of memory. */
cJSON *host_describe(const struct host_list *list, const struct pci_ids *ids);

#endif
