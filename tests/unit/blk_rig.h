/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in a file, with a driver at it. */
#ifndef TESTS_BLK_RIG_H
#define TESTS_BLK_RIG_H

#include "virtio_driver.h"

#include "vmm/virtio/blk.h"
#include "vmm/virtio/devices.h"

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

#define DISK (1 * MIB)
#define OWN 0xffffffull /* the features that are a disk's, not the rings' */

struct rig {
	struct blk_options o;
	struct vdriver d;
	int fd; /* of the file, for the test's own eyes */
	unsigned answered;
};

/* Bytes that a seed gives. */
void rig_fill(uint8_t *p, size_t len, uint32_t seed);
/* A file with what seed 1 gives, and the options for it. */
struct blk_options rig_disk(const char *name, uint64_t size);
void rig_begin(struct rig *g, const struct blk_options *o, uint64_t features);
void rig_end(struct rig *g);
/* Has a queue's thread answered? */
bool rig_is_used(struct rig *g, unsigned queue);
bool rig_one_is_used(void *rig);
struct vused rig_used(struct rig *g);
/* Carries a request out; the status. `data` is written or read. */
int rig_request(struct rig *g, uint32_t type, uint64_t sector, void *data, uint32_t len);
/* What is in the file. */
void rig_expect(struct rig *g, uint64_t offset, const void *data, size_t len);
/* From now on that system call fails so. */
void rig_forbid(unsigned call, int error);

#endif
