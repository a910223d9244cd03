/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that a server has: reached by messages (client_host.c,
 * client_feature.c), with an address space of its own (client_space.c), some
 * registers that KVM tells the server of by itself (client_io_fds.c), and what
 * has to be the same when the server comes back.
 */
#ifndef VFIO_USER_CLIENT_DEVICE_H
#define VFIO_USER_CLIENT_DEVICE_H

#include "vfio/user/client.h"
#include "vfio/vfio_pci.h"

#include <pthread.h>

/* What makes a device the one that the guest knows. */
struct vfu_identity {
	uint8_t header[64]; /* of configuration space, what can change made zero */
	unsigned region_count;
	struct vfio_region regions[VFIO_REGIONS];
	uint32_t irqs[VFIO_PCI_NUM_IRQS];
	uint64_t migration; /* VFIO_MIGRATION_* */
	bool can_reset;
};

/* A part of a BAR for which KVM signals a descriptor of the server's. */
struct vfu_io {
	unsigned bar;
	uint64_t offset, datamatch;
	uint32_t len, flags; /* KVM's */
	int fd;
	uint64_t at; /* where KVM has it now */
	bool hooked;
};
#define VFU_IOS_MAX 64

struct vfu_space;

struct vfu_device {
	struct vfio_pci *pci;
	struct vfu *vfu;
	struct vfu_space *space;
	char name[300];
	char socket[CONFIG_PATH_MAX]; /* "": `fd` names a descriptor */
	char fd[64];
	int region_fds[VFIO_REGIONS]; /* the newest that came; -1 */
	struct vfu_identity identity;
	struct vfu_io ios[VFU_IOS_MAX];
	unsigned io_count;
};

/* ---- client_host.c ---- */
extern const struct vfio_host_ops vfu_host_ops;
/* What the device is, as its server says. */
int vfu_identify(struct vfio_dev *dev, struct vfu_identity *out, struct gw_error *err);
/* -EXDEV: another device, and in what it differs. */
int vfu_identity_compare(const struct vfu_identity *was, const struct vfu_identity *is,
                         struct gw_error *err);

/* ---- client_feature.c ---- */
int vfu_feature(struct vfio_dev *dev, struct vfio_device_feature *request);
ssize_t vfu_session_read(struct vfio_dev *dev, int session, void *buf, size_t len);
ssize_t vfu_session_write(struct vfio_dev *dev, int session, const void *buf, size_t len);

/* ---- client_space.c ---- */
/* An address space for one device, linked into the machine; and the connection by which its server
 * is told. NULL, which is how it begins: nobody is. */
int vfu_space_create(struct machine *m, const char *name, struct vfu_space **out,
                     struct gw_error *err);
struct vfio_space *vfu_space_base(struct vfu_space *s);
void vfu_space_set(struct vfu_space *s, struct vfu *vfu);
/* All mappings once more, for a server that knows none. */
int vfu_space_tell_again(struct vfu_space *s, struct gw_error *err);
/* Since then some have come or gone while no server could be told (vfu_admit()). */
bool vfu_space_is_stale(struct vfu_space *s);
/* The server reads or writes [address, address + len). -EFAULT: not mapped, or not for that. */
int vfu_space_access(struct vfu_space *s, bool write, uint64_t address, void *buf, size_t len);
/* Bit i of `bits` for page i of `page` bytes of [iova, iova + len), as VFIO_DEVICE_FEATURE
 * DMA_LOGGING_REPORT has it; only sets bits. */
int vfu_space_report(struct vfu_space *s, uint64_t iova, uint64_t len, uint64_t page,
                     uint64_t *bits);

/* ---- client_io_fds.c ---- */
/* Asks for the parts of all BARs; forgets those of before. Nothing is hooked. */
void vfu_ios_read(struct vfu_device *d);
void vfu_ios_free(struct vfu_device *d);
/* Hooks and unhooks as the BAR is mapped. With the device lock. */
void vfu_ios_move(struct vfu_device *d, unsigned bar);

#endif
