/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From power-on to the kernel's first instruction: the kernel, behind it the
 * initrd, behind that the device tree, each at a multiple of 2 MiB; and the
 * boot vCPU's registers. All of it is in the first range of RAM, and near
 * enough together for what the kernel maps at first.
 * Source: Linux, Documentation/arch/arm64/booting.rst.
 */
#include "vmm/boot.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/image.h"
#include "vmm/arm64/layout.h"
#include "vmm/memory.h"

#include <string.h>

/* No kernel is so large, packed or not; what unpacks to more was not made to be run. */
#define KERNEL_MAX (1 * GIB)

/* Where the kernel is. */
struct placed {
	uint64_t entry, end;
};

/* The end of the range of RAM that all is put into. */
static uint64_t ram_end(const struct machine *m)
{
	return memory_region(m->memory, 0)->gpa + memory_region(m->memory, 0)->size;
}

static int no_room(uint64_t needed, uint64_t gpa, struct gw_error *err)
{
	return error_set(err, -ENOSPC,
	                 "boot.kernel: %llu bytes do not fit at 0x%llx; the machine needs more "
	                 "memory",
	                 (unsigned long long)needed, (unsigned long long)gpa);
}

/* ---- the kernel ---- */

/* Of what is wrong with the file itself. A guest that arrived may have brought a kernel without a
 * path. */
static int in_kernel(const struct machine *m, struct gw_error *err)
{
	const char *path = m->config.boot.kernel;

	return *path ? error_context(err, "boot.kernel: %s", path)
	             : error_context(err, "boot.kernel");
}

/* What its header says about where it goes, and that there is room for it. */
static int place_kernel(struct machine *m, const uint8_t *header, uint64_t file_size,
                        struct placed *out, struct gw_error *err)
{
	struct image_header image;
	uint64_t needed, end;
	int r = image_parse(header, &image, err);

	if (r < 0)
		return in_kernel(m, err);
	needed = MAX(image.size, file_size);
	if (image.text_offset >= ram_end(m) ||
	    add_overflows(LAYOUT_BOOT + image.text_offset, needed, &end) || end > ram_end(m))
		return no_room(needed, LAYOUT_BOOT + image.text_offset, err);
	out->entry = LAYOUT_BOOT + image.text_offset;
	out->end = end;
	return 0;
}

static int load_plain(struct machine *m, const uint8_t *header, struct placed *out,
                      struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	int r = place_kernel(m, header, kernel->size, out, err);

	return r ? r : boot_copy(m, kernel, "boot.kernel", 0, kernel->size, out->entry, err);
}

/* Unpacked where it begins most likely, and moved if its header says otherwise. */
static int unpack_kernel(struct machine *m, const struct unpack_form *form, const void *packed,
                         size_t len, struct placed *out, struct gw_error *err)
{
	const uint64_t ram = ram_end(m) > LAYOUT_BOOT ? ram_end(m) - LAYOUT_BOOT : 0;
	const uint64_t room = MIN(ram, KERNEL_MAX);
	uint8_t *to = memory_hva(m->memory, LAYOUT_BOOT, room);
	size_t used;
	int r;

	if (!to)
		return no_room(len, LAYOUT_BOOT, err);
	r = unpack(form, packed, len, to, room, &used, err);
	if (r == -ENOSPC && room == ram)
		error_append(err, "the machine needs more memory");
	if (r < 0)
		return in_kernel(m, err);
	if (used < IMAGE_HEADER_SIZE)
		return error_set(err, -ENOEXEC, "boot.kernel: %zu bytes are no kernel", used);
	r = place_kernel(m, to, used, out, err);
	if (r < 0)
		return r;
	memmove(to + (out->entry - LAYOUT_BOOT), to, used);
	memory_mark_dirty(m->memory, LAYOUT_BOOT, out->entry - LAYOUT_BOOT + used);
	return 0;
}

static int load_packed(struct machine *m, const struct image_packing *packing, struct placed *out,
                       struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	autofree void *packed = NULL;
	int r;

	if (packing->size > KERNEL_MAX)
		return error_set(err, -EFBIG, "boot.kernel: %llu packed bytes",
		                 (unsigned long long)packing->size);
	packed = malloc(packing->size);
	if (!packed)
		return error_set(err, -ENOMEM, "boot.kernel: out of memory");
	r = io_pread_full(kernel->fd, packed, packing->size, (off_t)packing->offset);
	if (r < 0)
		return error_set_sys(err, r, "boot.kernel");
	return unpack_kernel(m, packing->form, packed, packing->size, out, err);
}

static int load_kernel(struct machine *m, struct placed *out, struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	uint8_t header[IMAGE_HEADER_SIZE];
	struct image_packing packing;
	int r;

	if (kernel->size < sizeof(header))
		return error_set(err, -ENOEXEC, "boot.kernel: %llu bytes are no kernel",
		                 (unsigned long long)kernel->size);
	r = io_pread_full(kernel->fd, header, sizeof(header), 0);
	if (r < 0)
		return error_set_sys(err, r, "boot.kernel");
	r = image_packing(header, kernel->size, &packing, err);
	if (r < 0)
		return in_kernel(m, err);
	return packing.form ? load_packed(m, &packing, out, err) : load_plain(m, header, out, err);
}

/* ---- what follows it ---- */

static int load_initrd(struct machine *m, uint64_t after, uint64_t *gpa, struct gw_error *err)
{
	const struct boot_image *initrd = boot_initrd(m->boot);

	*gpa = ALIGN_UP(after, (uint64_t)LAYOUT_BOOT_ALIGN);
	if (!initrd->size)
		return 0;
	if (*gpa >= ram_end(m) || initrd->size > ram_end(m) - *gpa)
		return error_set(
		        err, -ENOSPC,
		        "boot.initrd: %llu bytes do not fit behind the kernel, from 0x%llx "
		        "on; the machine needs more memory",
		        (unsigned long long)initrd->size, (unsigned long long)*gpa);
	return boot_copy(m, initrd, "boot.initrd", 0, initrd->size, *gpa, err);
}

static int load_tree(struct machine *m, uint64_t initrd, uint64_t *gpa, struct gw_error *err)
{
	const uint64_t initrd_size = boot_initrd(m->boot)->size;
	autofree void *tree = NULL;
	size_t len;
	int r;

	m->arch->initrd = initrd;
	r = arm64_describe(m, initrd, initrd_size, &tree, &len, err);

	if (r < 0)
		return r;
	*gpa = ALIGN_UP(initrd + initrd_size, (uint64_t)LAYOUT_BOOT_ALIGN);
	if (memory_write(m->memory, *gpa, tree, len) < 0)
		return error_set(err, -ENOSPC,
		                 "device tree: %zu bytes do not fit at 0x%llx; the machine needs "
		                 "more memory",
		                 len, (unsigned long long)*gpa);
	return 0;
}

/* KVM_ARM_VCPU_INIT has left it at EL1 with its MMU off and interrupts masked, as the kernel wants
 * it, and all other registers 0. */
static int set_entry(struct vcpu *v, uint64_t entry, uint64_t tree, struct gw_error *err)
{
	const uint64_t core = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE;
	int r = reg_set(v, core | KVM_REG_ARM_CORE_REG(regs.pc), &entry);

	if (!r)
		r = reg_set(v, core | KVM_REG_ARM_CORE_REG(regs.regs[0]), &tree);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: setting its entry", v->index) : 0;
}

int arm64_boot(struct machine *m, struct gw_error *err)
{
	struct placed kernel = { 0 };
	uint64_t initrd, tree;
	int r;

	if (!boot_kernel(m->boot)->size)
		return error_set(err, -ENOENT, "boot.kernel: there is no kernel image");
	r = load_kernel(m, &kernel, err);
	if (!r)
		r = load_initrd(m, kernel.end, &initrd, err);
	if (!r)
		r = load_tree(m, initrd, &tree, err);
	return r ? r : set_entry(m->vcpus[0], kernel.entry, tree, err);
}
