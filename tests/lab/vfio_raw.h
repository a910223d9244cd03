/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI device by VFIO's own calls, for tests of a kernel driver: no library between. What fails
 * that must not fail ends the program, and says where.
 */
#ifndef LAB_VFIO_RAW_H
#define LAB_VFIO_RAW_H

#include <linux/vfio.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Since Linux 6.2. */
#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#endif

#define REQUIRE(what)                                                                              \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s: not so (%s)\n", __FILE__, __LINE__, #what,     \
			        strerror(errno));                                                  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct raw {
	int container, group, fd;
	uint64_t config; /* where configuration space is in fd */
	volatile uint8_t *bar;
	uint64_t bar_size;
	uint8_t *memory; /* what the device reaches, from IOVA 0 on */
	size_t memory_size;
};

static inline uint64_t raw_region(struct raw *d, unsigned index, uint64_t *size)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	REQUIRE(!ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
	if (size)
		*size = info.size;
	return info.offset;
}

static inline uint16_t raw_config(struct raw *d, unsigned at)
{
	uint16_t value;

	REQUIRE(pread(d->fd, &value, sizeof(value), d->config + at) == sizeof(value));
	return value;
}

static inline void raw_set_config(struct raw *d, unsigned at, uint16_t value)
{
	REQUIRE(pwrite(d->fd, &value, sizeof(value), d->config + at) == sizeof(value));
}

/* Memory, bus mastering, BAR 0. */
static inline void raw_open(struct raw *d, const char *address, const char *group, size_t memory)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.size = memory,
	};
	uint64_t bar;
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	d->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	d->group = open(path, O_RDWR | O_CLOEXEC);
	REQUIRE(d->container >= 0 && d->group >= 0);
	REQUIRE(!ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->container));
	REQUIRE(!ioctl(d->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	d->memory_size = memory;
	d->memory = mmap(NULL, memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(d->memory != MAP_FAILED);
	map.vaddr = (uintptr_t)d->memory;
	REQUIRE(!ioctl(d->container, VFIO_IOMMU_MAP_DMA, &map));
	d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, address);
	REQUIRE(d->fd >= 0);
	d->config = raw_region(d, VFIO_PCI_CONFIG_REGION_INDEX, NULL);
	raw_set_config(d, 4, raw_config(d, 4) | 6);
	bar = raw_region(d, VFIO_PCI_BAR0_REGION_INDEX, &d->bar_size);
	d->bar = mmap(NULL, d->bar_size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, bar);
	REQUIRE(d->bar != MAP_FAILED);
}

static inline uint32_t raw_get(struct raw *d, uint32_t reg)
{
	return *(volatile uint32_t *)(d->bar + reg);
}

static inline void raw_put(struct raw *d, uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(d->bar + reg) = value;
}

/* An eventfd for each of the first `count` MSI-X vectors. */
static inline void raw_msix(struct raw *d, int *events, unsigned count)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int);
	struct vfio_irq_set *set = calloc(1, size);

	REQUIRE(set);
	for (unsigned i = 0; i < count; i++) {
		events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		REQUIRE(events[i] >= 0);
	}
	*set = (struct vfio_irq_set){ .argsz = (uint32_t)size,
		                      .flags = VFIO_IRQ_SET_DATA_EVENTFD |
		                               VFIO_IRQ_SET_ACTION_TRIGGER,
		                      .index = VFIO_PCI_MSIX_IRQ_INDEX,
		                      .count = count };
	memcpy(set->data, events, count * sizeof(int));
	REQUIRE(!ioctl(d->fd, VFIO_DEVICE_SET_IRQS, set));
	free(set);
}

/* How often it was rung since it was last asked. */
static inline uint64_t raw_rung(int event)
{
	uint64_t n = 0;

	return read(event, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* 0, or a negative errno. */
static inline int raw_feature(struct raw *d, uint32_t what, void *payload, size_t len)
{
	uint64_t space[16];
	struct vfio_device_feature *f = (void *)space;

	memset(space, 0, sizeof(space));
	f->argsz = (uint32_t)(sizeof(*f) + len);
	f->flags = what;
	memcpy(f->data, payload, len);
	if (ioctl(d->fd, VFIO_DEVICE_FEATURE, f) < 0)
		return -errno;
	memcpy(payload, f->data, len);
	return 0;
}

static inline int raw_state(struct raw *d)
{
	struct vfio_device_feature_mig_state s = { .data_fd = -1 };
	int r = raw_feature(d, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s,
	                    sizeof(s));

	REQUIRE(!r);
	return (int)s.device_state;
}

/* 0 or a negative errno; in *fd what came with it, or -1. */
static inline int raw_go(struct raw *d, int state, int *fd)
{
	struct vfio_device_feature_mig_state s = { .device_state = (uint32_t)state, .data_fd = -1 };
	int r = raw_feature(d, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s,
	                    sizeof(s));

	if (fd)
		*fd = r ? -1 : s.data_fd;
	else if (!r && s.data_fd >= 0)
		close(s.data_fd);
	return r;
}

static inline void raw_reset(struct raw *d)
{
	REQUIRE(!ioctl(d->fd, VFIO_DEVICE_RESET));
}

#endif
