/* SPDX-License-Identifier: Apache-2.0 */
#include "v1_device.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { STATE = 0, PENDING = 8, OFFSET = 16, SIZE = 24 };

static struct v1_device *of(struct vfio_dev *dev)
{
	return dev->connection;
}

static bool saves(const struct v1_device *d)
{
	return (d->value & 7) == 2 || (d->value & 7) == 3;
}

static int write_state(struct v1_device *d, uint32_t value)
{
	const uint32_t from = d->value & 7, to = value & 7;

	d->writes++;
	if ((value & ~7u) != (d->value & ~7u))
		cr_assert_fail("reserved bits 0x%x became 0x%x", d->value & ~7u, value & ~7u);
	if (from == 6 || to == 5 || to == 6 || to == 7)
		cr_assert_fail("%u was asked for in %u", to, from);
	if (d->refuses_stop && from == 4 && to == 0)
		return -EINVAL;
	if (d->fail_all || (d->times && d->writes >= d->fail_write && d->fail_write)) {
		d->times -= d->times != 0;
		if (d->where == V1_GOES)
			d->value = value;
		else if (d->where == V1_ELSEWHERE)
			d->value = (d->value & ~7u) | (from == 0 ? 1 : 0);
		else if (d->where == V1_ERROR)
			d->value = (d->value & ~7u) | 6;
		return -d->fail_errno;
	}
	d->open = 0;
	if (!saves(d))
		d->at = 0;
	d->settled |= from == 4 && to != 4;
	d->value = value;
	return 0;
}

/* The first read after the data were copied takes them over. */
static uint64_t pending(struct v1_device *d)
{
	d->pending_reads++;
	d->frozen_reads += (d->value & 7) == 2;
	d->at += d->open;
	d->open = 0;
	if ((d->value & 7) == 3 && d->constant)
		return d->constant;
	return saves(d) ? d->len - d->at : 0;
}

/* Stages the next chunk. */
static uint64_t data_offset(struct v1_device *d)
{
	if ((d->value & 7) == 4)
		return d->load_offset;
	cr_assert(saves(d), "data_offset in state %u", d->value & 7);
	d->open = MIN(d->chunk, d->len - d->at);
	memcpy(d->section, d->data + d->at, d->open);
	return V1_SECTION;
}

static int write_size(struct v1_device *d, uint64_t size)
{
	cr_assert_eq(d->value & 7, 4);
	cr_assert_leq(size, V1_SIZE - V1_SECTION);
	memcpy(d->loaded + d->loaded_len, d->section + (d->load_offset - V1_SECTION), size);
	d->loaded_len += size;
	if (d->size_count < ARRAY_SIZE(d->sizes))
		d->sizes[d->size_count++] = size;
	return 0;
}

static bool trapped(struct v1_device *d, uint64_t offset, size_t len)
{
	const struct vfio_region *r = &d->dev.regions[V1_REGION];

	for (unsigned i = 0; i < r->area_count; i++)
		if (offset < r->areas[i].offset + r->areas[i].size &&
		    offset + len > r->areas[i].offset)
			return false;
	d->data_accesses++;
	d->largest = MAX(d->largest, (unsigned)len);
	return true;
}

static int region_read(struct vfio_dev *dev, unsigned region, uint64_t offset, void *buf,
                       size_t len)
{
	struct v1_device *d = of(dev);
	uint64_t value;

	cr_assert_eq(region, V1_REGION);
	if (offset >= V1_SECTION) {
		if (!trapped(d, offset, len))
			return -EFAULT;
		memcpy(buf, d->section + (offset - V1_SECTION), len);
		return 0;
	}
	cr_assert_eq(len, offset == STATE ? 4 : 8, "at its own width");
	if (d->fail_reads || (d->fail_pending && offset == PENDING))
		return -EIO;
	value = offset == STATE     ? d->value
	        : offset == PENDING ? pending(d)
	        : offset == OFFSET  ? data_offset(d)
	                            : d->open;
	memcpy(buf, &value, len);
	return 0;
}

static int region_write(struct vfio_dev *dev, unsigned region, uint64_t offset, const void *buf,
                        size_t len)
{
	struct v1_device *d = of(dev);
	uint64_t value = 0;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) /* what is pushed to it after a reset */
		return 0;
	cr_assert_eq(region, V1_REGION);
	if (offset >= V1_SECTION) {
		if (!trapped(d, offset, len))
			return -EFAULT;
		memcpy(d->section + (offset - V1_SECTION), buf, len);
		return 0;
	}
	cr_assert(offset == STATE || offset == SIZE, "0x%zx cannot be written", (size_t)offset);
	cr_assert_eq(len, offset == STATE ? 4 : 8, "at its own width");
	memcpy(&value, buf, len);
	return offset == STATE ? write_state(d, (uint32_t)value) : write_size(d, value);
}

static void *region_map(struct vfio_dev *dev, unsigned region, const struct vfio_area *area)
{
	struct v1_device *d = of(dev);

	cr_assert_eq(region, V1_REGION);
	if (d->shortens)
		cr_assert_eq(ftruncate(d->memory, (off_t)d->shortens), 0);
	return mmap(NULL, area->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory,
	            (off_t)(area->offset - V1_SECTION));
}

/* The kernel's has none of it; vfio-user's servers answer the same. */
static int feature(struct vfio_dev *dev, struct vfio_device_feature *request)
{
	(void)dev;
	(void)request;
	return -ENOTTY;
}

static void close_device(struct vfio_dev *dev)
{
	(void)dev;
}

static int reset(struct vfio_dev *dev)
{
	struct v1_device *d = of(dev);

	d->resets++;
	if (d->fail_reset)
		return -EIO;
	d->value = V1_RESERVED | 1;
	d->fail_all = false;
	d->loaded_len = d->at = d->open = 0;
	return 0;
}

static const struct vfio_host_ops ops = {
	.backend = "stand-in",
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.feature = feature,
	.reset = reset,
	.close = close_device,
};

static void on_changed(void *opaque, const char *state)
{
	struct v1_device *d = opaque;

	if (d->name_count < ARRAY_SIZE(d->names))
		snprintf(d->names[d->name_count++], sizeof(d->names[0]), "%s", state);
}

static int on_reset(void *opaque, struct gw_error *err)
{
	return vfio_dev_reset(&((struct v1_device *)opaque)->dev, err);
}

static void on_trouble(void *opaque, enum vfio_trouble trouble, const char *why)
{
	(void)why;
	((struct v1_device *)opaque)->trouble = trouble;
}

struct v1_device *v1_new(enum v1_data data)
{
	static const struct vfio_area whole = { V1_SECTION, V1_SIZE - V1_SECTION };
	static const struct vfio_area parts[] = { { 0x3000, 0x2000 }, { 0x9000, 0x10000 } };
	struct v1_device *d = calloc(1, sizeof(*d));
	struct vfio_region *r = &d->dev.regions[V1_REGION];
	const struct vfio_state_owner owner = { d, on_changed, on_reset, on_trouble, 0 };
	struct gw_error err;

	d->dev.ops = &ops;
	d->dev.name = "stand-in";
	d->dev.connection = d;
	d->dev.can_reset = true;
	d->dev.regions[VFIO_PCI_CONFIG_REGION_INDEX].size = 4096;
	d->dev.region_count = V1_REGION + 1;
	*r = (struct vfio_region){ .size = V1_SIZE,
		                   .readable = true,
		                   .writable = true,
		                   .type = VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		                   .subtype = VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED };
	r->area_count = data == V1_TRAPPED ? 0 : data == V1_MAPPED ? 1 : 2;
	memcpy(r->areas, data == V1_MAPPED ? &whole : parts, r->area_count * sizeof(whole));
	d->memory = memfd_create("section", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(d->memory, V1_SIZE - V1_SECTION), 0);
	d->section =
	        mmap(NULL, V1_SIZE - V1_SECTION, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory, 0);
	d->value = V1_RESERVED | 1;
	d->chunk = V1_SIZE - V1_SECTION;
	d->load_offset = V1_SECTION;
	for (size_t i = 0; i < sizeof(d->data); i++)
		d->data[i] = (uint8_t)(i * 7 + (i >> 8));
	cr_assert_eq(vfio_state_create(&d->dev, &owner, &d->state, &err), 0, "%s", err.text);
	cr_assert(d->state);
	return d;
}

void v1_free(struct v1_device *d)
{
	vfio_state_destroy(d->state);
	munmap(d->section, V1_SIZE - V1_SECTION);
	close(d->memory);
	free(d);
}
