/* SPDX-License-Identifier: Apache-2.0 */
/* <linux/vfio.h>, and what newer kernels have than the headers at hand (Linux 6.12 uAPI). */
#ifndef VFIO_UAPI_H
#define VFIO_UAPI_H

#include <linux/vfio.h>

#ifndef VFIO_MIGRATION_PRE_COPY
#define VFIO_MIGRATION_PRE_COPY (1 << 2)
#endif

#ifndef VFIO_MIG_GET_PRECOPY_INFO
struct vfio_precopy_info {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)
#endif

#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
struct vfio_device_feature_mig_data_size {
	__aligned_u64 stop_copy_length;
};
#endif

#ifndef VFIO_PCI_HOT_RESET_FLAG_DEV_ID
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID (1 << 0)       /* devices[] has ids, not groups */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1) /* all are the asking iommufd's */
#define VFIO_PCI_DEVID_OWNED 0      /* not open, but of a group of which we have one */
#define VFIO_PCI_DEVID_NOT_OWNED -1 /* another's */
#endif

/* Opt-in, without a payload: VFIO_MIG_GET_PRECOPY_INFO has flags that count. */
#ifndef VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12
#endif
/* initial_bytes have started over. */
#ifndef VFIO_PRECOPY_INFO_REINIT
#define VFIO_PRECOPY_INFO_REINIT (1 << 0)
#endif

/* A feature request with room for its payload. */
#define VFIO_FEATURE_PAYLOAD 64
struct vfio_feature_request {
	struct vfio_device_feature head;
	unsigned char payload[VFIO_FEATURE_PAYLOAD];
};

#endif
