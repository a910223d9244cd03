/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI side of a virtio device: one 64-bit BAR with everything in it, and
 * the capabilities that say where.
 *
 *      0x0000  common configuration     0x3000  notifications, 4 bytes a queue
 *      0x1000  ISR                      0x8000  MSI-X table
 *      0x2000  the device's own         0xc000  MSI-X pending bits
 *
 * A kick is a write to the queue's place in the notification area, which KVM
 * turns into a signal of the queue's eventfd.
 * Source: VIRTIO 1.2, 4.1.
 */
#include "vmm/virtio/virtio_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/pci_internal.h"

#include <linux/kvm.h>
#include <string.h>

#define BAR_SIZE 0x10000
#define AREA_COMMON 0x0000
#define AREA_ISR 0x1000
#define AREA_DEVICE 0x2000
#define AREA_NOTIFY 0x3000
#define AREA_MSIX 0x8000
#define AREA_PBA 0xc000
#define NOTIFY_STRIDE 4u

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_DEVICE_BASE 0x1040

/* 4.1.4: types of capabilities. */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_WINDOW };

static struct virtio *of(struct pci_function *f)
{
	return container_of(f, struct virtio, function);
}

/* ---- common configuration (4.1.4.3): a row a register ------------------------------------ */

static struct virtio_queue *selected(struct virtio *v)
{
	return v->queue_select < v->queue_count ? &v->queues[v->queue_select] : NULL;
}

/* A queue's settings are the driver's until it enables it. */
static struct virtio_queue *selected_idle(struct virtio *v)
{
	struct virtio_queue *q = selected(v);

	return q && !q->ring.enabled ? q : NULL;
}

static uint32_t window32(uint64_t bits, uint32_t select)
{
	return select < 2 ? (uint32_t)(bits >> (32 * select)) : 0;
}

static void set_half(uint64_t *to, bool high, uint32_t value)
{
	if (high)
		*to = (*to & UINT32_MAX) | (uint64_t)value << 32;
	else
		*to = (*to & ~(uint64_t)UINT32_MAX) | value;
}

static uint16_t checked_vector(const struct virtio *v, uint32_t value)
{
	return value <= v->queue_count ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static uint32_t get_device_feature_select(struct virtio *v)
{
	return v->device_feature_select;
}

static void set_device_feature_select(struct virtio *v, uint32_t value)
{
	v->device_feature_select = value;
}

static uint32_t get_device_feature(struct virtio *v)
{
	return window32(v->offered, v->device_feature_select);
}

static uint32_t get_driver_feature_select(struct virtio *v)
{
	return v->driver_feature_select;
}

static void set_driver_feature_select(struct virtio *v, uint32_t value)
{
	v->driver_feature_select = value;
}

static uint32_t get_driver_feature(struct virtio *v)
{
	return window32(v->driver_features, v->driver_feature_select);
}

static void set_driver_feature(struct virtio *v, uint32_t value)
{
	if (v->driver_feature_select < 2 && !(v->status & VIRTIO_FEATURES_OK))
		set_half(&v->driver_features, v->driver_feature_select, value);
}

static uint32_t get_config_vector(struct virtio *v)
{
	return v->config_vector;
}

static void set_config_vector(struct virtio *v, uint32_t value)
{
	v->config_vector = checked_vector(v, value);
}

static uint32_t get_num_queues(struct virtio *v)
{
	return v->queue_count;
}

static uint32_t get_status(struct virtio *v)
{
	return v->status;
}

static void set_status(struct virtio *v, uint32_t value)
{
	virtio_set_status(v, (uint8_t)value);
}

static uint32_t get_generation(struct virtio *v)
{
	return v->config_generation;
}

static uint32_t get_queue_select(struct virtio *v)
{
	return v->queue_select;
}

static void set_queue_select(struct virtio *v, uint32_t value)
{
	v->queue_select = (uint16_t)value;
}

static uint32_t get_queue_size(struct virtio *v)
{
	return selected(v) ? selected(v)->ring.size : 0;
}

static void set_queue_size(struct virtio *v, uint32_t value)
{
	if (selected_idle(v))
		selected(v)->ring.size = (uint16_t)value;
}

static uint32_t get_queue_vector(struct virtio *v)
{
	return selected(v) ? selected(v)->vector : VIRTIO_NO_VECTOR;
}

static void set_queue_vector(struct virtio *v, uint32_t value)
{
	struct virtio_queue *q = selected(v);

	if (!q)
		return;
	q->vector = checked_vector(v, value);
	virtio_irq_update(v);
}

static uint32_t get_queue_enable(struct virtio *v)
{
	return selected(v) && selected(v)->ring.enabled;
}

static void set_queue_enable(struct virtio *v, uint32_t value)
{
	struct virtio_queue *q = selected_idle(v);
	struct gw_error err;

	if (!q || value != 1 || !(v->status & VIRTIO_FEATURES_OK))
		return;
	if (virtio_enable_queue(v, q, &err) < 0) {
		if (log_limit_pass(&v->said))
			log_warn(v->device.machine->log, "device %s: %s", v->device.id, err.text);
		virtio_break(v, "a queue cannot be enabled as configured");
	} else if (v->active) {
		io_eventfd_signal(q->kick_fd);
	}
}

static uint32_t get_notify_off(struct virtio *v)
{
	return selected(v) ? v->queue_select : 0;
}

#define AREA_CALLS(name)                                                                           \
	static uint32_t get_##name##_lo(struct virtio *v)                                          \
	{                                                                                          \
		return selected(v) ? (uint32_t)selected(v)->ring.name : 0;                         \
	}                                                                                          \
	static uint32_t get_##name##_hi(struct virtio *v)                                          \
	{                                                                                          \
		return selected(v) ? (uint32_t)(selected(v)->ring.name >> 32) : 0;                 \
	}                                                                                          \
	static void set_##name##_lo(struct virtio *v, uint32_t value)                              \
	{                                                                                          \
		if (selected_idle(v))                                                              \
			set_half(&selected(v)->ring.name, false, value);                           \
	}                                                                                          \
	static void set_##name##_hi(struct virtio *v, uint32_t value)                              \
	{                                                                                          \
		if (selected_idle(v))                                                              \
			set_half(&selected(v)->ring.name, true, value);                            \
	}
AREA_CALLS(desc)
AREA_CALLS(driver)
AREA_CALLS(device)

/* It is done at once, so it never reads as 1 (4.1.4.3.1). */
static uint32_t get_queue_reset(struct virtio *v)
{
	(void)v;
	return 0;
}

static void set_queue_reset(struct virtio *v, uint32_t value)
{
	if (selected(v) && value == 1 && virtio_has(v, VIRTIO_F_RING_RESET))
		virtio_reset_queue(v, selected(v));
}

static const struct common_register {
	uint8_t offset, size;
	uint32_t (*get)(struct virtio *v);
	void (*set)(struct virtio *v, uint32_t value); /* NULL: read-only */
} registers[] = {
	{ 0x00, 4, get_device_feature_select, set_device_feature_select },
	{ 0x04, 4, get_device_feature, NULL },
	{ 0x08, 4, get_driver_feature_select, set_driver_feature_select },
	{ 0x0c, 4, get_driver_feature, set_driver_feature },
	{ 0x10, 2, get_config_vector, set_config_vector },
	{ 0x12, 2, get_num_queues, NULL },
	{ 0x14, 1, get_status, set_status },
	{ 0x15, 1, get_generation, NULL },
	{ 0x16, 2, get_queue_select, set_queue_select },
	{ 0x18, 2, get_queue_size, set_queue_size },
	{ 0x1a, 2, get_queue_vector, set_queue_vector },
	{ 0x1c, 2, get_queue_enable, set_queue_enable },
	{ 0x1e, 2, get_notify_off, NULL },
	{ 0x20, 4, get_desc_lo, set_desc_lo },
	{ 0x24, 4, get_desc_hi, set_desc_hi },
	{ 0x28, 4, get_driver_lo, set_driver_lo },
	{ 0x2c, 4, get_driver_hi, set_driver_hi },
	{ 0x30, 4, get_device_lo, set_device_lo },
	{ 0x34, 4, get_device_hi, set_device_hi },
	{ 0x3a, 2, get_queue_reset, set_queue_reset },
};
#define COMMON_SIZE 0x40

/* The access must be one register's, whole (4.1.3.1); others read as 0 and do nothing. */
static const struct common_register *find_register(uint64_t offset, unsigned size)
{
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		if (registers[i].offset == offset && registers[i].size == size)
			return &registers[i];
	return NULL;
}

static uint64_t common_read(struct virtio *v, uint64_t offset, unsigned size)
{
	const struct common_register *r;

	if (size == 8)
		return common_read(v, offset, 4) | common_read(v, offset + 4, 4) << 32;
	r = find_register(offset, size);
	return r ? r->get(v) : 0;
}

static void common_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value)
{
	const struct common_register *r;

	if (size == 8) {
		common_write(v, offset, 4, (uint32_t)value);
		common_write(v, offset + 4, 4, value >> 32);
		return;
	}
	r = find_register(offset, size);
	if (r && r->set)
		r->set(v, (uint32_t)value);
}

/* ---- the other areas ------------------------------------------------------------------------ */

static uint64_t isr_read(struct virtio *v, uint64_t offset, unsigned size)
{
	const uint8_t isr = v->isr;

	(void)size;
	if (offset)
		return 0;
	/* 4.1.4.5: reading clears it and lowers the pin. */
	virtio_irq_set_isr(v, 0);
	return isr;
}

static uint64_t device_read(struct virtio *v, uint64_t offset, unsigned size)
{
	if (offset >= v->config_size || size > v->config_size - offset)
		return 0;
	return virtio_config_get(v, (unsigned)offset, size);
}

static void device_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value)
{
	bool changed = false;

	if (offset >= v->config_size || size > v->config_size - offset)
		return;
	for (unsigned i = 0; i < size; i++) {
		const unsigned at = (unsigned)offset + i;

		if (!(v->config_writable[at / 8] >> (at % 8) & 1))
			continue;
		v->config[at] = (uint8_t)(value >> (8 * i));
		changed = true;
	}
	if (changed && v->ops->config_written)
		v->ops->config_written(v, (unsigned)offset, size);
}

/* Kicks come here only where KVM did not take them: an odd width, no ioeventfd. */
static void notify_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value)
{
	const uint64_t index = offset / NOTIFY_STRIDE;

	(void)size;
	(void)value;
	if (index < v->queue_count)
		io_eventfd_signal(v->queues[index].kick_fd);
}

static uint64_t table_read(struct virtio *v, uint64_t offset, unsigned size)
{
	return msix_table_read(v->msix, offset, size);
}

static void table_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value)
{
	msix_table_write(v->msix, offset, size, value);
}

static uint64_t pba_read(struct virtio *v, uint64_t offset, unsigned size)
{
	return msix_pba_read(v->msix, offset, size);
}

static const struct area {
	uint64_t offset, size;
	uint64_t (*read)(struct virtio *v, uint64_t offset, unsigned size);
	void (*write)(struct virtio *v, uint64_t offset, unsigned size, uint64_t value);
} areas[] = {
	{ AREA_COMMON, AREA_ISR - AREA_COMMON, common_read, common_write },
	{ AREA_ISR, AREA_DEVICE - AREA_ISR, isr_read, NULL },
	{ AREA_DEVICE, AREA_NOTIFY - AREA_DEVICE, device_read, device_write },
	{ AREA_NOTIFY, AREA_MSIX - AREA_NOTIFY, NULL, notify_write },
	{ AREA_MSIX, AREA_PBA - AREA_MSIX, table_read, table_write },
	{ AREA_PBA, BAR_SIZE - AREA_PBA, pba_read, NULL },
};

static const struct area *find_area(uint64_t offset, unsigned size)
{
	for (size_t i = 0; i < ARRAY_SIZE(areas); i++)
		if (offset >= areas[i].offset && offset + size <= areas[i].offset + areas[i].size)
			return &areas[i];
	return NULL;
}

static uint64_t bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	const struct area *a = find_area(offset, size);

	(void)bar;
	return a && a->read ? a->read(of(f), offset - a->offset, size) : 0;
}

static void bar_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                      uint64_t value)
{
	const struct area *a = find_area(offset, size);

	(void)bar;
	if (a && a->write)
		a->write(of(f), offset - a->offset, size, value);
}

/* ---- kicks by KVM ------------------------------------------------------------------------------
 */

static int hook(struct virtio *v, struct virtio_queue *q, uint64_t bar, uint32_t flags)
{
	struct kvm_ioeventfd io = {
		.addr = bar + AREA_NOTIFY + q->index * NOTIFY_STRIDE,
		/* The driver writes the queue's index, 16 bits (4.1.5.2). Where the length does not
		 * matter KVM may go by the address alone and need not take the instruction apart
		 * (KVM API, 4.59). */
		.len = v->kicks_of_any_length ? 0 : 2,
		.fd = q->kick_fd,
		.flags = flags,
	};

	return io_ioctl(v->device.machine->vm_fd, KVM_IOEVENTFD, &io);
}

static void unhook_all(struct virtio *v, uint64_t bar)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];

		if (q->hooked)
			hook(v, q, bar, KVM_IOEVENTFD_FLAG_DEASSIGN);
		q->hooked = false;
	}
}

static void bar_changed(struct pci_function *f, unsigned bar)
{
	struct virtio *v = of(f);

	(void)bar;
	/* When the BAR goes it still says where it was. */
	unhook_all(v, v->hooked_at);
	/* Without KVM they come by notify_write() and doorbell(). */
	if (!f->bars[0].mapped || v->device.machine->outside)
		return;
	v->hooked_at = f->bars[0].address;
	for (unsigned i = 0; i < v->queue_count; i++) {
		const int r = hook(v, &v->queues[i], v->hooked_at, 0);

		v->queues[i].hooked = r == 0;
		if (r < 0)
			log_warn(v->device.machine->log,
			         "device %s: queue %u: KVM_IOEVENTFD: %s; kicks are trapped",
			         v->device.id, i, strerror(-r));
	}
}

static bool doorbell(struct pci_function *f, unsigned n, struct pci_doorbell *out)
{
	struct virtio *v = of(f);

	if (n >= v->queue_count)
		return false;
	*out = (struct pci_doorbell){
		.offset = AREA_NOTIFY + n * NOTIFY_STRIDE,
		.size = 2,
		.fd = v->queues[n].kick_fd,
	};
	return true;
}

/* ---- configuration space ------------------------------------------------------------------------
 */

/* 4.1.4: what stands in a capability behind its first two bytes. */
static unsigned add_capability(struct virtio *v, uint8_t type, uint32_t offset, uint32_t length,
                               const void *more, unsigned more_len)
{
	uint8_t body[32] = { 0 };
	const unsigned len = 16 + more_len;

	body[2] = (uint8_t)len;
	body[3] = type;
	pci_set(body, 8, 4, offset);
	pci_set(body, 12, 4, length);
	if (more_len)
		memcpy(body + 16, more, more_len);
	return pci_add_capability(&v->function, 0x09, body, len);
}

/* 4.1.4.9: a window into the BAR through configuration space. */
static void window_access(struct virtio *v, bool write)
{
	uint8_t *cap = v->function.config + v->window_cap;
	const uint32_t offset = pci_get(cap, 8, 4), length = pci_get(cap, 12, 4);

	if (cap[4] != 0 || (length != 1 && length != 2 && length != 4) || offset % length ||
	    offset > BAR_SIZE - length)
		return;
	if (write)
		bar_write(&v->function, 0, offset, length, pci_get(cap, 16, length));
	else
		pci_set(cap, 16, length, (uint32_t)bar_read(&v->function, 0, offset, length));
}

static bool config_read(struct pci_function *f, unsigned offset, unsigned size, uint32_t *value)
{
	struct virtio *v = of(f);

	(void)size;
	(void)value;
	if (offset >= v->window_cap + 16u && offset < v->window_cap + 20u)
		window_access(v, false);
	return false;
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio *v = of(f);

	(void)size;
	if (offset >= v->window_cap + 16u && offset < v->window_cap + 20u)
		window_access(v, true);
	virtio_update_active(v);
	msix_update_of(v->msix, f, v->msix_cap);
	virtio_irq_update(v);
}

static void on_reset(struct pci_function *f)
{
	struct virtio *v = of(f);

	msix_reset(v->msix);
	virtio_reset(v);
	virtio_irq_update(v);
}

static const struct pci_function_ops function_ops = {
	.config_read = config_read,
	.config_written = config_written,
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_changed = bar_changed,
	.doorbell = doorbell,
	.reset = on_reset,
	.ejected = virtio_ejected,
};

static void add_msix(struct virtio *v)
{
	uint8_t cap[MSIX_CAP_SIZE] = { 0 };

	pci_set(cap, 2, 2, v->queue_count); /* the number of vectors less one */
	pci_set(cap, 4, 4, AREA_MSIX);
	pci_set(cap, 8, 4, AREA_PBA);
	v->msix_cap = (uint8_t)pci_add_capability(&v->function, 0x11, cap, sizeof(cap));
	msix_wmask(v->function.wmask + v->msix_cap);
}

int virtio_pci_create(struct virtio *v, struct gw_error *err)
{
	struct pci_function *f = &v->function;
	const uint32_t stride = NOTIFY_STRIDE;
	const uint8_t window_data[4] = { 0 };

	if (v->queue_count > VIRTIO_QUEUES_MAX)
		return error_set(err, -EINVAL, "%u queues", v->queue_count);
	v->kicks_of_any_length = !v->device.machine->outside &&
	                         io_ioctl(v->device.machine->vm_fd, KVM_CHECK_EXTENSION,
	                                  (void *)KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
	f->ops = &function_ops;
	pci_set(f->config, PCI_REG_VENDOR, 2, VIRTIO_VENDOR);
	pci_set(f->config, PCI_REG_DEVICE, 2, VIRTIO_DEVICE_BASE + v->ops->id);
	pci_set(f->config, PCI_REG_REVISION, 4, v->ops->class_code << 8 | 1);
	pci_set(f->config, PCI_REG_SUBSYSTEM_VENDOR, 2, VIRTIO_VENDOR);
	pci_set(f->config, PCI_REG_SUBSYSTEM, 2, VIRTIO_DEVICE_BASE + v->ops->id);
	pci_set(f->config, PCI_REG_IRQ_PIN, 1, 1);
	f->bars[0] = (struct pci_bar){ .size = BAR_SIZE, .is_64 = true };

	add_msix(v);
	add_capability(v, CAP_COMMON, AREA_COMMON, COMMON_SIZE, NULL, 0);
	add_capability(v, CAP_ISR, AREA_ISR, 1, NULL, 0);
	if (v->config_size)
		add_capability(v, CAP_DEVICE, AREA_DEVICE, v->config_size, NULL, 0);
	add_capability(v, CAP_NOTIFY, AREA_NOTIFY, v->queue_count * NOTIFY_STRIDE, &stride, 4);
	v->window_cap = (uint8_t)add_capability(v, CAP_WINDOW, 0, 0, window_data, 4);
	f->wmask[v->window_cap + 4] = 0xff; /* bar */
	memset(f->wmask + v->window_cap + 8, 0xff, 12);
	return 0;
}

void virtio_pci_destroy(struct virtio *v)
{
	unhook_all(v, v->hooked_at);
}
