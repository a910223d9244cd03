/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is used of <linux/iommufd.h>, and of <linux/vfio.h> for character
 * devices, under names of our own: the headers at hand are older than these
 * (Linux 6.2: IOAS; 6.6: character devices; 6.7: dirty tracking).
 *
 * Every struct begins with its size; what a kernel does not know of it has to
 * be zero. A call that a kernel has not answers ENOTTY.
 */
#ifndef VFIO_IOMMUFD_UAPI_H
#define VFIO_IOMMUFD_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IOMMUFD_CALL(n) _IO(';', 0x80 + (n))

struct iommufd_destroy {
	__u32 size;
	__u32 id;
};
#define IOMMUFD_DESTROY IOMMUFD_CALL(0)

struct iommufd_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};
#define IOMMUFD_IOAS_ALLOC IOMMUFD_CALL(1)

struct iommufd_ioas_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas; /* room, and then how many there are; EMSGSIZE: more than room */
	__u32 reserved;
	__u64 allowed_iovas; /* struct vfio_iova_range[] */
	__u64 out_iova_alignment;
};
#define IOMMUFD_IOAS_IOVA_RANGES IOMMUFD_CALL(4)

enum { IOMMUFD_MAP_FIXED = 1, IOMMUFD_MAP_WRITEABLE = 2, IOMMUFD_MAP_READABLE = 4 };
struct iommufd_ioas_map {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 reserved;
	__u64 user_va;
	__u64 length;
	__u64 iova;
};
#define IOMMUFD_IOAS_MAP IOMMUFD_CALL(5)

struct iommufd_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__u64 iova;
	__u64 length;
};
#define IOMMUFD_IOAS_UNMAP IOMMUFD_CALL(6)

/* A page table of the hardware; with this flag one that keeps dirty bits. */
#define IOMMUFD_HWPT_DIRTY_TRACKING 2
struct iommufd_hwpt_alloc {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 pt_id;
	__u32 out_hwpt_id;
	__u32 reserved;
	__u32 data_type;
	__u32 data_len;
	__u64 data_uptr;
};
#define IOMMUFD_HWPT_ALLOC IOMMUFD_CALL(9)

#define IOMMUFD_HW_CAP_DIRTY_TRACKING 1
struct iommufd_hw_info {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 data_len;
	__u64 data_uptr;
	__u32 out_data_type;
	__u32 reserved;
	__u64 out_capabilities;
};
#define IOMMUFD_GET_HW_INFO IOMMUFD_CALL(10)

struct iommufd_hwpt_set_dirty_tracking {
	__u32 size;
	__u32 flags; /* 1: on */
	__u32 hwpt_id;
	__u32 reserved;
};
#define IOMMUFD_HWPT_SET_DIRTY_TRACKING IOMMUFD_CALL(11)

struct iommufd_hwpt_get_dirty_bitmap {
	__u32 size;
	__u32 hwpt_id;
	__u32 flags;
	__u32 reserved;
	__u64 iova;
	__u64 length;
	__u64 page_size;
	__u64 data; /* bit 0 is iova */
};
#define IOMMUFD_HWPT_GET_DIRTY_BITMAP IOMMUFD_CALL(12)

/* ---- a device's own descriptor ---- */

struct iommufd_bind {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};
#define IOMMUFD_VFIO_BIND _IO(';', 100 + 18)

struct iommufd_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id;
};
#define IOMMUFD_VFIO_ATTACH _IO(';', 100 + 19)

struct iommufd_detach {
	__u32 argsz;
	__u32 flags;
};
#define IOMMUFD_VFIO_DETACH _IO(';', 100 + 20)

#endif
