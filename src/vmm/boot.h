/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot images: kernel and initrd, kept as they were (boot_image.h) so that a
 * reset can load them again. They travel with the VM (participant "boot"), so that a
 * guest can be reset where it arrived without the files of where it began.
 */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include "vmm/boot_image.h"
#include "vmm/machine.h"

struct boot;

/* Opens the images that the configuration names, or (incoming) makes empty ones to be loaded. */
int boot_create(struct machine *m, struct boot **out, struct gw_error *err);
void boot_destroy(struct boot *boot);

const struct boot_image *boot_kernel(const struct boot *boot);
const struct boot_image *boot_initrd(const struct boot *boot);

/* A kernel that is packed by gzip is unpacked, for good. */
int boot_unpack_kernel(struct boot *boot, struct gw_error *err);

/* Copies [offset, offset+len) of an image into guest memory. `what` names it in errors. */
int boot_copy(struct machine *m, const struct boot_image *image, const char *what, uint64_t offset,
              uint64_t len, uint64_t gpa, struct gw_error *err);

#endif
