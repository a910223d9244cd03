/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_pci.h"

#include "vmm/pci.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <sys/mman.h>

static struct fake_pci *of(struct vfio_dev *d)
{
	return d->connection;
}

static int device_info(struct vfio_dev *d, struct vfio_device_info *info)
{
	info->flags = VFIO_DEVICE_FLAGS_PCI | (of(d)->no_reset ? 0 : VFIO_DEVICE_FLAGS_RESET);
	info->num_regions = VFIO_PCI_REGIONS;
	info->num_irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

static int region_info(struct vfio_dev *d, struct vfio_region_info *info)
{
	static const uint64_t sizes[VFIO_PCI_REGIONS] = {
		[0] = FAKE_BAR,
		[VFIO_PCI_ROM_REGION_INDEX] = FAKE_ROM,
		[VFIO_PCI_CONFIG_REGION_INDEX] = PCI_CONFIG_SIZE,
	};

	info->size = sizes[info->index];
	info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (info->index == 0 && of(d)->bar_size)
		info->size = of(d)->bar_size;
	if (info->index == 0 && of(d)->bar_maps)
		info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
	return 0;
}

static void *region_map(struct vfio_dev *d, unsigned region, const struct vfio_area *area)
{
	(void)region;
	of(d)->maps++;
	return mmap(NULL, area->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* No memory of devices for others' DMA here. */
static int space_map(struct vfio_space *s, const struct vfio_mapping *mapping, struct gw_error *err)
{
	(void)s;
	(void)mapping;
	return error_set(err, -EFAULT, "no");
}

static int set_memslot(struct machine *m, struct kvm_userspace_memory_region *region)
{
	return io_ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, region);
}

static const struct vfio_space_ops space_ops = { .backend = "fake", .map = space_map };

static uint8_t *bytes_of(struct fake_pci *f, unsigned region, unsigned *count[2])
{
	static unsigned none;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		count[0] = &f->config_reads;
		count[1] = &f->config_writes;
		return f->config;
	}
	if (region == VFIO_PCI_ROM_REGION_INDEX) {
		count[0] = &f->rom_reads;
		count[1] = &none;
		return f->rom;
	}
	count[0] = &f->bar_reads;
	count[1] = &f->bar_writes;
	return f->bar;
}

static int region_read(struct vfio_dev *d, unsigned region, uint64_t offset, void *buf, size_t len)
{
	unsigned *count[2];
	uint8_t *bytes = bytes_of(of(d), region, count);

	++*count[0];
	memcpy(buf, bytes + offset, len);
	return 0;
}

static int region_write(struct vfio_dev *d, unsigned region, uint64_t offset, const void *buf,
                        size_t len)
{
	unsigned *count[2];
	uint8_t *bytes = bytes_of(of(d), region, count);

	++*count[1];
	memcpy(bytes + offset, buf, len);
	return 0;
}

static int irq_info(struct vfio_dev *d, struct vfio_irq_info *info)
{
	info->count = of(d)->irqs[info->index].count;
	info->flags = of(d)->irqs[info->index].flags | VFIO_IRQ_INFO_EVENTFD;
	return 0;
}

static int set_irqs(struct vfio_dev *d, struct vfio_irq_set *set)
{
	struct fake_pci *f = of(d);

	if ((set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		return 0;
	if (set->index == VFIO_PCI_MSI_IRQ_INDEX && f->msi_limit && set->count > f->msi_limit)
		return (int)f->msi_limit;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		memcpy(&f->fd_of[set->index], set->data, sizeof(int));
	cr_assert_lt(f->call_count, ARRAY_SIZE(f->calls));
	f->calls[f->call_count++] =
	        (struct fake_irq_call){ set->index, set->start, set->count, !set->count };
	return 0;
}

static int reset(struct vfio_dev *d)
{
	of(d)->resets++;
	return 0;
}

static int hot_reset_info(struct vfio_dev *d, struct vfio_pci_hot_reset_info *info)
{
	struct fake_pci *f = of(d);
	size_t room = (info->argsz - sizeof(*info)) / sizeof(info->devices[0]);

	if (f->dep_error)
		return f->dep_error;
	info->count = f->dep_count;
	info->flags = f->dep_flags;
	if (room < f->dep_count)
		return -ENOSPC;
	memcpy(info->devices, f->deps, f->dep_count * sizeof(f->deps[0]));
	return 0;
}

static void note(struct fake_pci *f, char what)
{
	if (f->order_len < sizeof(f->order))
		f->order[f->order_len++] = what;
}

static int hot_reset(struct vfio_dev *d, struct vfio_pci_hot_reset *hot)
{
	note(of(d), 'H');
	of(d)->hot_resets++;
	of(d)->hot_groups = hot->count;
	of(d)->hot_size = hot->argsz;
	return of(d)->hot_error;
}

static int feature(struct vfio_dev *d, struct vfio_device_feature *request)
{
	uint32_t which = request->flags & VFIO_DEVICE_FEATURE_MASK;
	uint32_t running[2] = { VFIO_DEVICE_STATE_RUNNING, UINT32_MAX };

	if (which == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		note(of(d), 'R');
	if (which == VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
		note(of(d), 'S');
	if (!of(d)->mig_flags)
		return -ENOTTY;
	if (which == VFIO_DEVICE_FEATURE_MIGRATION)
		memcpy(request->data, &of(d)->mig_flags, sizeof(uint64_t));
	else if (which == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		memcpy(request->data, running, sizeof(running));
	else
		return -ENOTTY;
	return 0;
}

static void close_dev(struct vfio_dev *d)
{
	d->connection = NULL;
}

static const struct vfio_host_ops fake_ops = {
	.backend = "fake",
	.device_info = device_info,
	.region_info = region_info,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.irq_info = irq_info,
	.set_irqs = set_irqs,
	.reset = reset,
	.hot_reset_info = hot_reset_info,
	.hot_reset = hot_reset,
	.feature = feature,
	.close = close_dev,
};

/* ---- plugging it in ------------------------------------------------------------------- */

struct fake_options {
	struct vfio_options common;
	struct fake_pci *fake;
};

static int open_fake(struct vfio_pci *d, const void *options, struct gw_error *err)
{
	const struct fake_options *o = options;
	struct fake_pci *f = o->fake;

	d->backend = f;
	d->dev.ops = &f->ops;
	d->dev.connection = f;
	d->space = &f->space;
	d->dev.name = "0000:03:00.0";
	return vfio_dev_read(&d->dev, err);
}

static void close_fake(struct vfio_pci *d)
{
	(void)d;
}

static bool describe(struct vfio_pci *d, cJSON *info)
{
	return cJSON_AddStringToObject(info, "fake", d->dev.name);
}

static int group_fd(struct vfio_pci *d, unsigned number)
{
	struct fake_pci *f = d->backend;

	return number == f->foreign_group ? -1 : 100 + (int)number;
}

static void on_event(void *opaque, const char *name, const char *data)
{
	struct fake_pci *f = opaque;

	(void)data;
	f->events++;
	snprintf(f->event, sizeof(f->event), "%s", name);
}

static void on_give_back(void *opaque)
{
	((struct fake_pci *)opaque)->given_back++;
}

static void fill(uint8_t *c)
{
	pci_set(c, PCI_VENDOR_ID, 4, 0x12345678);
	pci_set(c, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	pci_set(c, PCI_CLASS_REVISION, 4, 0x02000001);
	c[PCI_CAPABILITY_LIST] = FAKE_PM;
	pci_set(c, FAKE_PM, 4, 0xfe03u << 16 | FAKE_MSI << 8 | PCI_CAP_ID_PM);
	pci_set(c, FAKE_MSI, 4, 0x0184u << 16 | FAKE_EXP << 8 | PCI_CAP_ID_MSI);
	pci_set(c, FAKE_EXP, 4, 0x0002u << 16 | FAKE_MSIX << 8 | PCI_CAP_ID_EXP);
	pci_set(c, FAKE_EXP + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_FLR);
	pci_set(c, FAKE_MSIX, 4, 0x0007u << 16 | FAKE_VENDOR << 8 | PCI_CAP_ID_MSIX);
	pci_set(c, FAKE_MSIX + 4, 4, FAKE_TABLE);
	pci_set(c, FAKE_MSIX + 8, 4, FAKE_TABLE + 0x800);
	pci_set(c, FAKE_VENDOR, 4, 0x1010u << 16 | FAKE_VPD << 8 | PCI_CAP_ID_VNDR);
	pci_set(c, FAKE_VENDOR + 4, 4, 0xa5a5a5a5);
	pci_set(c, FAKE_VPD, 4, PCI_CAP_ID_VPD);
	pci_set(c, FAKE_OWN, 4, 0x01020304);
}

struct fake_pci *fake_new(void)
{
	struct fake_pci *f = calloc(1, sizeof(*f));

	cr_assert(f);
	f->ops = fake_ops;
	f->foreign_group = UINT32_MAX;
	fill(f->config);
	f->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 4;
	f->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 8;
	f->driver = (struct device_driver){ .type = "fake", VFIO_PCI_DRIVER_CALLS };
	f->kind = (struct vfio_pci_kind){
		.driver = &f->driver,
		.holder = "somebody",
		.describe = describe,
		.open = open_fake,
		.close = close_fake,
		.group_fd = group_fd,
	};
	f->p = platform_new_kvm();
	pthread_mutex_init(&f->memory.lock, NULL);
	f->p->m.memory = &f->memory;
	f->memory.machine = &f->p->m;
	f->memory.set_memslot = set_memslot;
	f->space.machine = &f->p->m;
	f->space.ops = &space_ops;
	f->p->m.notify = (struct machine_notify){ .opaque = f,
		                                  .event = on_event,
		                                  .give_back = on_give_back };
	cr_assert_eq(loop_create(&f->p->m.loop, NULL), 0);
	f->p->m.config.pci.root_ports = 1;
	cr_assert_eq(pci_create(&f->p->m, &f->p->m.pci, NULL), 0);
	return f;
}

int fake_try(struct fake_pci *f, struct gw_error *err)
{
	struct config_device *config = calloc(1, sizeof(*config));
	const struct fake_options options = { f->options, f };
	struct device *device;
	int r;

	cr_assert(config);
	strcpy(config->id, "dev0");
	config->slot = f->port ? 0 : 3;
	config->port = f->port;
	memcpy(config->options, &options, sizeof(options));
	r = vfio_pci_create(&f->kind, &f->p->m, config, false, &device, err);
	free(config);
	if (!r)
		f->d = container_of(device, struct vfio_pci, device);
	return r;
}

void fake_plug(struct fake_pci *f)
{
	struct gw_error err = { 0 };

	cr_assert_eq(fake_try(f, &err), 0, "%s", err.text);
}

void fake_free(struct fake_pci *f)
{
	if (f->d)
		vfio_pci_destroy(&f->d->device);
	pci_destroy(f->p->m.pci);
	loop_destroy(f->p->m.loop);
	platform_free(f->p);
	free(f);
}

uint32_t fake_read(struct fake_pci *f, unsigned reg, unsigned size)
{
	return pci_config_read(&f->d->function, reg, size);
}

void fake_write(struct fake_pci *f, unsigned reg, unsigned size, uint32_t value)
{
	pci_config_write(&f->d->function, reg, size, value);
}
