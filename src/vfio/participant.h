/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A passed-through device as a participant. Its records, in this order:
 *
 *     1  identity: what has to be alike on both sides (compat.h)
 *     3  device data: u64 offset, then bytes of the device's own (any number of these)
 *     5  the device was reset: what came of its data is worth nothing, they begin again at 0
 *     4  end of the device data: u64 length
 *     2  PCI state: configuration space, then MSI's, then MSI-X's
 *
 * The device data are opaque, and some drivers do not notice when they are cut short: hence
 * the offsets and the end mark.
 */
#ifndef VFIO_PARTICIPANT_H
#define VFIO_PARTICIPANT_H

#include "vfio/vfio_pci.h"

#define VFIO_RECORDS_VERSION 2
enum vfio_record {
	VFIO_RECORD_IDENTITY = 1,
	VFIO_RECORD_PCI,
	VFIO_RECORD_DATA,
	VFIO_RECORD_END,
	VFIO_RECORD_RESTART
};

static inline struct vfio_pci *vfio_pci_of_participant(struct participant *p)
{
	return (struct vfio_pci *)((char *)p - offsetof(struct vfio_pci, participant));
}

/* ---- participant_save.c: the source ---- */
int vfio_prepare(struct participant *p, bool live, struct gw_error *err);
int vfio_pending(struct participant *p, enum pending_effort effort, struct participant_pending *out,
                 struct gw_error *err);
int vfio_iterate(struct participant *p, struct sink *sink, struct gw_error *err);
int vfio_quiesce(struct participant *p, struct gw_error *err);
int vfio_stop(struct participant *p, struct gw_error *err);
int vfio_save(struct participant *p, struct sink *sink, struct gw_error *err);
void vfio_finish(struct participant *p, bool goes_on);
int vfio_answer_again(struct participant *p, struct gw_error *err);
int vfio_rollback(struct participant *p, struct gw_error *err);

/* ---- participant_load.c: the destination ---- */
int vfio_begin_load(struct participant *p, struct gw_error *err);
int vfio_load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
              struct gw_error *err);
int vfio_settle(struct participant *p, struct gw_error *err);
int vfio_resume(struct participant *p, int pass, struct gw_error *err);
void vfio_discard(struct participant *p);

/* ---- participant.c ---- */
/* The device is in trouble, or well again (`why` is not used then); the guest that has it and
 * whoever manages it are told. */
void vfio_trouble(struct vfio_pci *d, enum vfio_trouble trouble, const char *why);

#endif
