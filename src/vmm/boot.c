/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <stdio.h>
#include <string.h>

/* No kernel is so large; what unpacks to more was not made to be run. */
#define KERNEL_MAX (1 * GIB)

enum { IMAGE_KERNEL, IMAGE_INITRD, IMAGES };

static const struct {
	const char *name;
	const char *key;
} image_names[IMAGES] = {
	[IMAGE_KERNEL] = { "kernel", "boot.kernel" },
	[IMAGE_INITRD] = { "initrd", "boot.initrd" },
};

/* A record: the image's number is the record's type, this precedes the bytes. */
struct boot_record {
	uint64_t offset; /* of these bytes */
	uint64_t size;   /* of the whole image */
};

struct boot {
	struct participant participant;
	struct boot_image images[IMAGES];
	struct {
		unsigned image;
		uint64_t offset;
	} cursor; /* what iterate() has sent */
	uint64_t loaded[IMAGES];
};

static const char *image_path(const struct config *config, unsigned i)
{
	return i == IMAGE_KERNEL ? config->boot.kernel : config->boot.initrd;
}

/* ---- as a participant ----------------------------------------------------- */

static struct boot *boot_of(struct participant *p)
{
	return container_of(p, struct boot, participant);
}

static uint64_t bytes_left(const struct boot *boot)
{
	uint64_t left = 0;

	for (unsigned i = boot->cursor.image; i < IMAGES; i++)
		left += boot->images[i].size;
	return left - (boot->cursor.image < IMAGES ? boot->cursor.offset : 0);
}

static int boot_prepare(struct participant *p, bool live, struct gw_error *err)
{
	(void)live;
	(void)err;
	boot_of(p)->cursor.image = 0;
	boot_of(p)->cursor.offset = 0;
	return 0;
}

static int boot_pending(struct participant *p, enum pending_effort effort,
                        struct participant_pending *out, struct gw_error *err)
{
	(void)effort;
	(void)err;
	*out = (struct participant_pending){ .precopy = bytes_left(boot_of(p)) };
	return 0;
}

static int send_chunk(struct boot *boot, struct sink *sink, void *buf, size_t size,
                      struct gw_error *err)
{
	unsigned i = boot->cursor.image;
	const struct boot_image *image = &boot->images[i];
	struct boot_record head = { .offset = boot->cursor.offset, .size = image->size };
	size_t len = MIN(size, image->size - head.offset);
	int r = io_pread_full(image->fd, buf, len, (off_t)head.offset);

	if (r < 0)
		return error_set_sys(err, r, "%s image at offset %llu", image_names[i].name,
		                     (unsigned long long)head.offset);
	r = sink->ops->record(sink, &boot->participant, (uint16_t)(i + 1), &head, sizeof(head), buf,
	                      len, err);
	if (r < 0)
		return r;
	boot->cursor.offset += len;
	return 0;
}

static int send_images(struct boot *boot, struct sink *sink, bool may_pause, struct gw_error *err)
{
	const size_t size = RECORD_MAX - sizeof(struct boot_record);
	autofree void *buf = malloc(size);

	if (!buf)
		return error_set(err, -ENOMEM, "out of memory");
	for (; boot->cursor.image < IMAGES; boot->cursor.image++, boot->cursor.offset = 0) {
		while (boot->cursor.offset < boot->images[boot->cursor.image].size) {
			int r = send_chunk(boot, sink, buf, size, err);

			if (r < 0)
				return r;
			if (may_pause && sink->ops->pause_wanted && sink->ops->pause_wanted(sink))
				return 1;
		}
	}
	return 0;
}

static int boot_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	return send_images(boot_of(p), sink, true, err);
}

static int boot_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	return send_images(boot_of(p), sink, false, err);
}

static int boot_begin_load(struct participant *p, struct gw_error *err)
{
	struct boot *boot = boot_of(p);

	for (unsigned i = 0; i < IMAGES; i++)
		if (boot_image_begin(image_names[i].name, &boot->images[i], err) < 0)
			return error_context(err, "%s image", image_names[i].name);
	return 0;
}

static int boot_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                     size_t len, struct gw_error *err)
{
	struct boot *boot = boot_of(p);
	struct boot_record head;
	unsigned i = type - 1u;
	int r;

	(void)version;
	if (i >= IMAGES || len < sizeof(head))
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no boot image",
		                 type, len);
	memcpy(&head, buf, sizeof(head));
	len -= sizeof(head);
	if (head.offset != boot->loaded[i] || len > head.size - head.offset)
		return error_set(err, -EINVAL, "%s image: %zu bytes at %llu of %llu do not follow",
		                 image_names[i].name, len, (unsigned long long)head.offset,
		                 (unsigned long long)head.size);
	r = io_pwrite_full(boot->images[i].fd, (const char *)buf + sizeof(head), len,
	                   (off_t)head.offset);
	if (r < 0)
		return error_set_sys(err, r, "%s image", image_names[i].name);
	boot->loaded[i] += len;
	boot->images[i].size = head.size;
	return 0;
}

static int boot_settle(struct participant *p, struct gw_error *err)
{
	struct boot *boot = boot_of(p);

	for (unsigned i = 0; i < IMAGES; i++) {
		if (boot->loaded[i] != boot->images[i].size)
			return error_set(err, -EINVAL, "%s image: %llu of %llu bytes came",
			                 image_names[i].name, (unsigned long long)boot->loaded[i],
			                 (unsigned long long)boot->images[i].size);
		boot_image_seal(&boot->images[i]);
	}
	return 0;
}

static const struct participant_ops boot_ops = {
	.kind = "boot",
	.version = 1,
	.class = PARTICIPANT_BOOT,
	.prepare = boot_prepare,
	.pending = boot_pending,
	.iterate = boot_iterate,
	.save = boot_save,
	.begin_load = boot_begin_load,
	.load = boot_load,
	.settle = boot_settle,
};

/* ---- for the machine ------------------------------------------------------ */

/* docs/firmware.md says it at length. */
static int refuse_firmware(const char *path, struct gw_error *err)
{
	return error_set(
	        err, -ENOTSUP,
	        "boot.firmware: %s: this machine has neither the flash nor the chipset and "
	        "fw_cfg device that packaged UEFI images are built for; give the kernel and "
	        "initrd of the disk as boot.kernel and boot.initrd (docs/firmware.md)",
	        path);
}

static int take_image(struct boot *boot, const struct config *config, unsigned i,
                      struct gw_error *err)
{
	const char *path = image_path(config, i);
	int r = *path ? boot_image_take(path, &boot->images[i], err) : 0;

	return r < 0 ? error_context(err, "%s", image_names[i].key) : 0;
}

int boot_create(struct machine *m, struct boot **out, struct gw_error *err)
{
	struct boot *boot;
	int r = 0;

	if (m->config.boot.firmware[0])
		return refuse_firmware(m->config.boot.firmware, err);
	boot = calloc(1, sizeof(*boot));
	if (!boot)
		return error_set(err, -ENOMEM, "boot: out of memory");
	for (unsigned i = 0; i < IMAGES; i++)
		boot->images[i].fd = -1;
	boot->participant.ops = &boot_ops;
	snprintf(boot->participant.name, sizeof(boot->participant.name), "boot");
	for (unsigned i = 0; i < IMAGES && !m->incoming && !r; i++)
		r = take_image(boot, &m->config, i, err);
	if (!r)
		r = participant_add(&m->participants, &boot->participant, err);
	if (r < 0) {
		boot_destroy(boot);
		return r;
	}
	*out = boot;
	m->boot = boot;
	return 0;
}

void boot_destroy(struct boot *boot)
{
	if (!boot)
		return;
	for (unsigned i = 0; i < IMAGES; i++)
		boot_image_close(&boot->images[i]);
	free(boot);
}

int boot_unpack_kernel(struct boot *boot, struct gw_error *err)
{
	int r = boot_image_gunzip(&boot->images[IMAGE_KERNEL], KERNEL_MAX, err);

	return r < 0 ? error_context(err, "boot.kernel") : 0;
}

const struct boot_image *boot_kernel(const struct boot *boot)
{
	return &boot->images[IMAGE_KERNEL];
}

const struct boot_image *boot_initrd(const struct boot *boot)
{
	return &boot->images[IMAGE_INITRD];
}

int boot_copy(struct machine *m, const struct boot_image *image, const char *what, uint64_t offset,
              uint64_t len, uint64_t gpa, struct gw_error *err)
{
	void *to = memory_hva(m->memory, gpa, len);
	int r;

	if (!to)
		return error_set(err, -EINVAL, "%s: %llu bytes at 0x%llx do not fit into guest RAM",
		                 what, (unsigned long long)len, (unsigned long long)gpa);
	r = io_pread_full(image->fd, to, len, (off_t)offset);
	if (r < 0)
		return error_set_sys(err, r, "%s: reading %llu bytes at offset %llu", what,
		                     (unsigned long long)len, (unsigned long long)offset);
	memory_mark_dirty(m->memory, gpa, len);
	return 0;
}
