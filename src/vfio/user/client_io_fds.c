/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers whose writes KVM itself tells the server of: it signals an eventfd
 * that the server gave, and the guest goes on at once. ioregionfds, which the
 * specification has as well, are not in Linux: such a register stays trapped,
 * as does one that lies in a part of the BAR that is mapped, and one whose
 * descriptor is of another type, did not come or is one too many.
 * Sources: the vfio-user specification, VFIO_USER_DEVICE_GET_REGION_IO_FDS;
 * KVM API, 4.59.
 */
#include "vfio/user/client_device.h"

#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>

#define REPLY_MAX 65536u

struct reply {
	struct wire_io_fds head;
	uint8_t entries[REPLY_MAX - sizeof(struct wire_io_fds)];
};

static void forget(struct vfu_device *d)
{
	for (unsigned i = 0; i < d->io_count; i++)
		close(d->ios[i].fd);
	d->io_count = 0;
}

static bool is_length(uint64_t size)
{
	return size == 0 || size == 1 || size == 2 || size == 4 || size == 8;
}

/* False: it cannot be used, and those registers stay trapped. */
static bool take_entry(struct vfu_device *d, unsigned bar, const struct wire_io_fd *e,
                       const int *fds, unsigned fd_count)
{
	const uint64_t room = d->pci->dev.regions[bar].size;
	struct vfu_io *io = &d->ios[d->io_count];
	int fd;

	if (e->type != WIRE_IO_FD_EVENTFD || !is_length(e->size) ||
	    e->flags & ~(uint32_t)(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO) ||
	    e->offset > room || e->size > room - e->offset || e->fd_index >= fd_count ||
	    d->io_count == VFU_IOS_MAX)
		return false;
	/* One descriptor may be for several. */
	fd = fcntl(fds[e->fd_index], F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return false;
	*io = (struct vfu_io){ .bar = bar,
		               .offset = e->offset,
		               .len = (uint32_t)e->size,
		               .datamatch = e->datamatch,
		               .flags = e->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
		               .fd = fd };
	d->io_count++;
	return true;
}

/* Some servers have a struct of 48 bytes, where the specification has one of 40: datamatch is
 * aligned in both. */
static struct wire_io_fd entry_at(const uint8_t *at, size_t stride)
{
	struct wire_io_fd entry;

	memcpy(&entry, at, sizeof(entry));
	if (stride >= sizeof(entry) + 8)
		memcpy(&entry.datamatch, at + sizeof(entry), sizeof(entry.datamatch));
	return entry;
}

/* An entry's bytes. What the reply says that all of them have counts, if that can be. */
static size_t stride_of(const struct wire_io_fds *head, size_t len)
{
	const size_t least = sizeof(*head) + head->count * sizeof(struct wire_io_fd);

	return ((head->argsz >= least ? head->argsz : len) - sizeof(*head)) / head->count;
}

/* How many entries cannot be used; all of them where there are none in the reply. */
static uint32_t take_entries(struct vfu_device *d, unsigned bar, const struct reply *reply,
                             size_t len, const int *fds, unsigned fd_count)
{
	const struct wire_io_fds *head = &reply->head;
	const size_t stride = head->count ? stride_of(head, len) : 0;
	uint32_t came = 0, taken = 0;

	if (stride >= sizeof(struct wire_io_fd))
		came = (uint32_t)MIN((len - sizeof(*head)) / stride, (size_t)head->count);
	for (uint32_t i = 0; i < came; i++) {
		const struct wire_io_fd entry = entry_at(reply->entries + i * stride, stride);

		taken += take_entry(d, bar, &entry, fds, fd_count);
	}
	return head->count - taken;
}

static void read_bar(struct vfu_device *d, unsigned bar, struct reply *reply)
{
	const struct wire_io_fds ask = { .argsz = sizeof(*reply), .index = bar };
	int fds[WIRE_MAX_FDS];
	struct vfu_request r = {
		.command = WIRE_DEVICE_GET_REGION_IO_FDS,
		.parts = { { (void *)(uintptr_t)&ask, sizeof(ask) } },
		.part_count = 1,
		.reply = reply,
		.room = sizeof(*reply),
		.reply_fds = fds,
		.fd_room = WIRE_MAX_FDS,
	};

	uint32_t left = 0;

	/* A server need not have any. */
	if (vfu_call(d->vfu, &r) < 0)
		return;
	if (r.len < sizeof(reply->head) || reply->head.index != bar)
		vfu_departs(d->vfu, VFU_USELESS_IO_FDS,
		            "region %u: no descriptors for its registers", bar);
	else
		left = take_entries(d, bar, reply, r.len, fds, r.fds_came);
	if (left)
		vfu_departs(d->vfu, VFU_USELESS_IO_FDS,
		            "region %u: %u of %u descriptors for its registers are of no use", bar,
		            left, reply->head.count);
	for (unsigned i = 0; i < r.fds_came; i++)
		close(fds[i]);
}

void vfu_ios_read(struct vfu_device *d)
{
	autofree struct reply *reply = malloc(sizeof(*reply));

	forget(d);
	for (unsigned bar = 0; bar < PCI_BARS && reply; bar++)
		if (d->pci->dev.regions[bar].size)
			read_bar(d, bar, reply);
}

/* ---- KVM ---------------------------------------------------------------------------------------
 */

static int tell_kvm(struct vfu_device *d, const struct vfu_io *io, uint32_t flags)
{
	struct kvm_ioeventfd ask = {
		.datamatch = io->datamatch,
		.addr = io->at,
		.len = io->len,
		.fd = io->fd,
		.flags = io->flags | flags,
	};

	if (d->pci->function.bars[io->bar].is_io)
		ask.flags |= KVM_IOEVENTFD_FLAG_PIO;
	return io_ioctl(d->pci->device.machine->vm_fd, KVM_IOEVENTFD, &ask);
}

static bool is_mapped(const struct vfio_pci *pci, const struct vfu_io *io)
{
	for (unsigned i = 0; i < pci->window_count; i++) {
		const struct vfio_window *w = &pci->windows[i];

		if (w->bar == io->bar && w->shown && io->offset >= w->area.offset &&
		    io->offset - w->area.offset < w->area.size)
			return true;
	}
	return false;
}

void vfu_ios_move(struct vfu_device *d, unsigned bar)
{
	const struct vfio_pci *pci = d->pci;
	const struct pci_bar *b = &pci->function.bars[bar];

	for (unsigned i = 0; i < d->io_count; i++) {
		struct vfu_io *io = &d->ios[i];
		int r;

		if (io->bar != bar)
			continue;
		if (io->hooked)
			tell_kvm(d, io, KVM_IOEVENTFD_FLAG_DEASSIGN);
		io->hooked = false;
		if (!b->mapped || pci->concealed || is_mapped(pci, io))
			continue;
		io->at = b->address + io->offset;
		r = tell_kvm(d, io, 0);
		io->hooked = r >= 0;
		if (r < 0)
			log_warn(pci->device.machine->log,
			         "device %s: BAR %u: 0x%llx is trapped: KVM_IOEVENTFD: %s",
			         pci->device.id, bar, (unsigned long long)io->offset, strerror(-r));
	}
}

void vfu_ios_free(struct vfu_device *d)
{
	forget(d);
}
