/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses to configuration space and BARs. A client may ask for any stretch
 * of bytes; the function gets the naturally aligned accesses that it consists
 * of, as a bus would bring them.
 *
 * Which MSI-X vectors are in use is what SET_IRQS says (server_irq.c), as with
 * a device of the kernel's: the guest's MSI-X table is the client's business.
 * So what a client writes to the table here, or to the enable and mask bits of
 * the capability, has no effect.
 */
#include "vfio/user/server_internal.h"

#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

/* The largest aligned access at `offset` of at most `len` bytes. */
static unsigned piece(uint64_t offset, size_t len, unsigned most)
{
	unsigned size = most;

	while (size > len || offset % size)
		size /= 2;
	return size;
}

static bool within(const struct server *s, unsigned region, uint64_t offset, uint64_t len)
{
	const uint64_t size = server_region_size(s, region);

	return offset <= size && len <= size - offset;
}

/* ---- configuration space ---- */

#define CONTROL 2 /* message control, in the capability */

static void config_read(struct server *s, uint64_t offset, uint8_t *buf, size_t len)
{
	for (unsigned n; len; offset += n, buf += n, len -= n) {
		n = piece(offset, len, 4);
		pci_set(buf, 0, n, pci_config_read(s->function, (unsigned)offset, n));
	}
}

static void config_write(struct server *s, uint64_t offset, const uint8_t *buf, size_t len)
{
	const uint64_t control = s->irqs.msix_cap + CONTROL;
	uint8_t own[4];

	for (unsigned n; len; offset += n, buf += n, len -= n) {
		n = piece(offset, len, 4);
		memcpy(own, buf, n);
		for (unsigned i = 0; s->irqs.msix_cap && i < n; i++)
			if (offset + i >= control && offset + i < control + 2)
				own[i] = s->function->config[offset + i];
		pci_config_write(s->function, (unsigned)offset, n, pci_get(own, 0, n));
	}
}

/* Does it set the bit that begins a function-level reset? (Advanced Capabilities for Conventional
 * PCI, 2) */
static bool begins_reset(const struct server *s, uint64_t offset, const uint8_t *buf, size_t len)
{
	const uint64_t control = s->af_cap + PCI_AF_CTRL;

	return offset <= control && control - offset < len &&
	       (buf[control - offset] & PCI_AF_CTRL_FLR);
}

/* ---- BARs ---- */

static void bar_read(struct server *s, unsigned bar, uint64_t offset, uint8_t *buf, size_t len)
{
	struct pci_function *f = s->function;

	for (unsigned n; len; offset += n, buf += n, len -= n) {
		uint64_t value = UINT64_MAX;

		n = piece(offset, len, 8);
		if (f->ops->bar_read)
			value = f->ops->bar_read(f, bar, offset, n);
		for (unsigned i = 0; i < n; i++)
			buf[i] = (uint8_t)(value >> 8 * i);
	}
}

static bool is_table(const struct server *s, unsigned bar, uint64_t offset)
{
	const struct msix_layout *l = &s->irqs.layout;

	return s->irqs.msix_cap && bar == l->table_bar && offset >= l->table_offset &&
	       offset - l->table_offset < l->table_size;
}

static void bar_write(struct server *s, unsigned bar, uint64_t offset, const uint8_t *buf,
                      size_t len)
{
	struct pci_function *f = s->function;

	for (unsigned n; len; offset += n, buf += n, len -= n) {
		uint64_t value = 0;

		n = piece(offset, len, 8);
		for (unsigned i = 0; i < n; i++)
			value |= (uint64_t)buf[i] << 8 * i;
		if (f->ops->bar_write && !is_table(s, bar, offset))
			f->ops->bar_write(f, bar, offset, n, value);
	}
}

/* ---- both ---- */

static int read_region(struct server *s, unsigned region, uint64_t offset, uint8_t *buf, size_t len)
{
	if (!within(s, region, offset, len))
		return -EINVAL;
	if (region == SERVER_REGION_V1)
		return server_v1_read(s, offset, buf, len);
	machine_lock(s->machine);
	if (region == VFIO_PCI_CONFIG_REGION_INDEX)
		config_read(s, offset, buf, len);
	else
		bar_read(s, region, offset, buf, len);
	machine_unlock(s->machine);
	return 0;
}

static int write_region(struct server *s, unsigned region, uint64_t offset, const uint8_t *buf,
                        size_t len)
{
	if (!within(s, region, offset, len))
		return -EINVAL;
	if (region == SERVER_REGION_V1)
		return server_v1_write(s, offset, buf, len);
	/* What else is in such a write is undone by the reset. */
	if (region == VFIO_PCI_CONFIG_REGION_INDEX && begins_reset(s, offset, buf, len)) {
		server_reset(s);
		return 0;
	}
	machine_lock(s->machine);
	if (region == VFIO_PCI_CONFIG_REGION_INDEX)
		config_write(s, offset, buf, len);
	else
		bar_write(s, region, offset, buf, len);
	machine_unlock(s->machine);
	return 0;
}

int server_region_read(struct server *s, struct request *q)
{
	struct wire_region_access access;
	int r;

	memcpy(&access, q->data, sizeof(access));
	if (access.count > s->caps.max_data_xfer_size)
		return -EINVAL;
	r = read_region(s, access.region, access.offset, q->reply + sizeof(access), access.count);
	if (r < 0)
		return r;
	memcpy(q->reply, &access, sizeof(access));
	q->reply_len = sizeof(access) + access.count;
	return 0;
}

int server_region_write(struct server *s, struct request *q)
{
	struct wire_region_access access;
	int r;

	memcpy(&access, q->data, sizeof(access));
	if (access.count > s->caps.max_data_xfer_size || access.count != q->len - sizeof(access))
		return -EINVAL;
	r = write_region(s, access.region, access.offset, q->data + sizeof(access), access.count);
	if (r < 0)
		return r;
	memcpy(q->reply, &access, sizeof(access));
	q->reply_len = sizeof(access);
	return 0;
}

int server_region_write_multi(struct server *s, struct request *q)
{
	struct wire_write write;
	uint64_t count, done;

	memcpy(&count, q->data, sizeof(count));
	if (!s->caps.write_multiple || count != (q->len - sizeof(count)) / sizeof(write) ||
	    (q->len - sizeof(count)) % sizeof(write))
		return -EINVAL;
	for (done = 0; done < count; done++) {
		memcpy(&write, q->data + sizeof(count) + done * sizeof(write), sizeof(write));
		if (write.count > sizeof(write.data) ||
		    write_region(s, write.region, write.offset, write.data, write.count) < 0)
			break;
	}
	/* How many were done is the answer, also where one could not be. */
	memcpy(q->reply, &done, sizeof(done));
	q->reply_len = sizeof(done);
	return 0;
}
