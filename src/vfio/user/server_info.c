/* SPDX-License-Identifier: Apache-2.0 */
/* What a client asks of the device: its regions, their capabilities, its interrupts. */
#include "vfio/user/server_internal.h"

#include "base/util.h"
#include "vmm/pci_internal.h"

#include <linux/pci_regs.h>
#include <string.h>

int server_get_info(struct server *s, struct request *q)
{
	/* What the protocol has of struct vfio_device_info. */
	struct {
		uint32_t argsz, flags, num_regions, num_irqs;
	} info;

	memcpy(&info, q->data, sizeof(info));
	if (info.argsz < sizeof(info))
		return -EINVAL;
	info.argsz = sizeof(info);
	info.flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
	info.num_regions = s->v1.fd >= 0 ? SERVER_REGION_V1 + 1 : VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	memcpy(q->reply, &info, sizeof(info));
	q->reply_len = sizeof(info);
	return 0;
}

/* ---- regions -------------------------------------------------------------------------------- */

unsigned server_find_capability(const struct pci_function *f, uint8_t id)
{
	unsigned at = f->config[PCI_REG_CAPABILITIES] & ~3u;

	for (; at >= PCI_FIRST_CAPABILITY; at = f->config[at + 1] & ~3u)
		if (f->config[at] == id)
			return at;
	return 0;
}

/* A function without a PCI Express capability has the 256 bytes of conventional PCI. */
static uint64_t config_size(const struct pci_function *f)
{
	return server_find_capability(f, PCI_CAP_ID_EXP) ? PCI_CONFIG_SIZE : PCI_CFG_SPACE_SIZE;
}

uint64_t server_region_size(const struct server *s, unsigned region)
{
	if (region < PCI_BARS)
		return s->function->bars[region].size;
	if (region == VFIO_PCI_CONFIG_REGION_INDEX)
		return config_size(s->function);
	if (region == SERVER_REGION_V1 && s->v1.fd >= 0)
		return server_v1_size(s);
	return 0;
}

/* What of a region may be mapped, and the file behind it; false: nothing, or the client takes no
 * descriptors. */
static bool mappable(const struct server *s, unsigned region, struct pci_bar_memory *out)
{
	struct pci_function *f = s->function;

	*out = (struct pci_bar_memory){ .fd = -1 };
	if (!s->caps.max_msg_fds)
		return false;
	if (region < PCI_BARS)
		return f->bars[region].size && f->ops->bar_memory &&
		       f->ops->bar_memory(f, region, out);
	if (region != SERVER_REGION_V1)
		return false;
	out->fd = s->v1.fd;
	server_v1_mappable(s, &out->offset, &out->size);
	return out->size;
}

struct sparse_capability {
	struct vfio_region_info_cap_sparse_mmap head;
	struct vfio_region_sparse_mmap_area area;
};

/* Capabilities follow each other behind the struct; `*last` is the next pointer to be set. */
static void add_capability(struct request *q, uint32_t **last, void *capability, size_t len)
{
	struct vfio_info_cap_header *header = (void *)(q->reply + q->reply_len);

	memcpy(header, capability, len);
	header->next = 0;
	**last = (uint32_t)q->reply_len;
	*last = &header->next;
	q->reply_len += len;
}

static void add_capabilities(struct request *q, unsigned region,
                             const struct pci_bar_memory *memory)
{
	struct vfio_region_info *info = (void *)q->reply;
	uint32_t *last = &info->cap_offset;
	struct sparse_capability sparse = {
		.head = { .header = { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0 }, .nr_areas = 1 },
		.area = { memory->offset, memory->size },
	};
	struct vfio_region_info_cap_type type = {
		.header = { VFIO_REGION_INFO_CAP_TYPE, 1, 0 },
		.type = VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		.subtype = VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
	};

	if (memory->size && memory->size != info->size)
		add_capability(q, &last, &sparse, sizeof(sparse));
	if (region == SERVER_REGION_V1)
		add_capability(q, &last, &type, sizeof(type));
	if (info->cap_offset)
		info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
}

int server_get_region_info(struct server *s, struct request *q)
{
	struct vfio_region_info *info = (void *)q->reply, asked;
	struct pci_bar_memory memory;

	memcpy(&asked, q->data, sizeof(asked));
	if (asked.argsz < sizeof(asked) ||
	    asked.index >= (s->v1.fd >= 0 ? SERVER_REGION_V1 + 1u : VFIO_PCI_NUM_REGIONS))
		return -EINVAL;
	*info = (struct vfio_region_info){
		.index = asked.index,
		.size = server_region_size(s, asked.index),
	};
	if (info->size)
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (mappable(s, asked.index, &memory))
		info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
	q->reply_len = sizeof(*info);
	add_capabilities(q, asked.index, &memory);
	info->argsz = (uint32_t)q->reply_len;
	if (info->argsz > asked.argsz) {
		/* It is to ask again, with more room; then the descriptor comes, too. */
		info->cap_offset = 0;
		q->reply_len = sizeof(*info);
		return 0;
	}
	if (memory.size)
		q->fds[q->fd_count++] = memory.fd;
	return 0;
}

/* ---- doorbells --------------------------------------------------------------------------------
 */

int server_get_region_io_fds(struct server *s, struct request *q)
{
	struct wire_io_fds *info = (void *)q->reply, asked;
	struct wire_io_fd *entries = (void *)(q->reply + sizeof(*info));
	const struct pci_function_ops *ops = s->function->ops;
	const unsigned most = MIN(s->caps.max_msg_fds, (uint32_t)WIRE_MAX_FDS);
	struct pci_doorbell bell;

	memcpy(&asked, q->data, sizeof(asked));
	if (asked.argsz < sizeof(asked) || asked.flags || asked.count ||
	    !server_region_size(s, asked.index))
		return -EINVAL;
	*info = (struct wire_io_fds){ .index = asked.index };
	for (unsigned i = 0; ops->doorbell && ops->doorbell(s->function, i, &bell); i++) {
		/* The rest is trapped. */
		if (info->count == most)
			break;
		if (bell.bar != asked.index)
			continue;
		entries[info->count] = (struct wire_io_fd){
			.offset = bell.offset,
			.size = bell.size,
			.fd_index = q->fd_count,
			.type = WIRE_IO_FD_EVENTFD,
		};
		q->fds[q->fd_count++] = bell.fd;
		info->count++;
	}
	q->reply_len = sizeof(*info) + info->count * sizeof(*entries);
	info->argsz = (uint32_t)q->reply_len;
	if (info->argsz > asked.argsz) {
		q->reply_len = sizeof(*info);
		q->fd_count = 0;
	}
	return 0;
}

/* ---- interrupts -------------------------------------------------------------------------------
 */

int server_get_irq_info(struct server *s, struct request *q)
{
	static const uint32_t flags[VFIO_PCI_NUM_IRQS] = {
		[VFIO_PCI_INTX_IRQ_INDEX] =
		        VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
		[VFIO_PCI_MSIX_IRQ_INDEX] = VFIO_IRQ_INFO_EVENTFD,
	};
	struct vfio_irq_info info;

	memcpy(&info, q->data, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.argsz = sizeof(info);
	info.count = server_irq_count(s, info.index);
	info.flags = info.count ? flags[info.index] : 0;
	memcpy(q->reply, &info, sizeof(info));
	q->reply_len = sizeof(info);
	return 0;
}
