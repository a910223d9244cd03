/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include "vmm/memory_internal.h"
#include "vmm/pci.h"

#include <stdio.h>
#include <sys/mman.h>

/* Where the BAR has what (capabilities of 4.1.4 tell a real driver). */
enum { COMMON = 0x0000, ISR = 0x1000, DEVICE = 0x2000, NOTIFY = 0x3000 };

/* ---- the machine -------------------------------------------------------------------- */

static void on_event(void *opaque, const char *name, const char *data)
{
	struct vmachine *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	if (vm->event_count < ARRAY_SIZE(vm->events)) {
		snprintf(vm->events[vm->event_count].name, sizeof(vm->events[0].name), "%s", name);
		snprintf(vm->events[vm->event_count].data, sizeof(vm->events[0].data), "%s", data);
		vm->event_count++;
	}
	pthread_mutex_unlock(&vm->lock);
}

static void on_reset(void *opaque, const char *why)
{
	(void)why;
	((struct vmachine *)opaque)->resets++;
}

static void on_poweroff(void *opaque)
{
	((struct vmachine *)opaque)->poweroffs++;
}

static void on_pause(void *opaque, const char *why)
{
	(void)why;
	((struct vmachine *)opaque)->pauses++;
}

static void on_gone(void *opaque, const char *id)
{
	struct vmachine *vm = opaque;

	snprintf(vm->gone, sizeof(vm->gone), "%s", id);
}

static int give_fd(void *opaque, const char *name)
{
	struct vmachine *vm = opaque;
	int fd;

	(void)name;
	pthread_mutex_lock(&vm->lock);
	fd = vm->fd < 0 ? -ENOENT : dup(vm->fd);
	pthread_mutex_unlock(&vm->lock);
	return fd;
}

static void on_quit(void *opaque, struct machine_quit_hook *hook, bool on)
{
	struct vmachine *vm = opaque;
	struct machine_quit_hook **pp = &vm->quit_hooks;

	pthread_mutex_lock(&vm->lock);
	while (*pp && *pp != hook)
		pp = &(*pp)->next;
	if (on) {
		hook->next = *pp;
		*pp = hook;
	} else if (*pp) {
		*pp = hook->next;
	}
	pthread_mutex_unlock(&vm->lock);
}

void vmachine_quit(struct vmachine *vm)
{
	pthread_mutex_lock(&vm->lock);
	for (struct machine_quit_hook *h = vm->quit_hooks; h; h = h->next)
		h->call(h->opaque);
	pthread_mutex_unlock(&vm->lock);
}

static void on_deferred(void *opaque, int fd, uint32_t events)
{
	struct machine *m = opaque;

	(void)events;
	io_eventfd_drain(fd);
	machine_lock(m);
	for (struct device *d = m->devices; d; d = d->next)
		if (d->driver->deferred)
			d->driver->deferred(d);
	machine_unlock(m);
}

static int no_memslot(struct machine *m, struct kvm_userspace_memory_region *region)
{
	(void)m;
	(void)region;
	return 0;
}

/* As memory_create() makes it, but for the memslots. */
static struct memory *new_memory(struct machine *m, uint64_t size)
{
	struct memory *mem = calloc(1, sizeof(*mem));
	struct ram_region *r = &mem->regions[0];

	cr_assert_not_null(mem);
	mem->machine = m;
	mem->size = size;
	mem->region_count = 1;
	mem->set_memslot = no_memslot;
	pthread_mutex_init(&mem->lock, NULL);
	*r = (struct ram_region){ .size = size, .fd = memfd_create("ram", MFD_CLOEXEC) };
	cr_assert_eq(ftruncate(r->fd, (off_t)size), 0);
	r->hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	cr_assert_neq(r->hva, MAP_FAILED);
	return mem;
}

struct vmachine *vmachine_new(uint64_t size)
{
	struct vmachine *vm = calloc(1, sizeof(*vm));
	struct gw_error err = { 0 };
	struct machine *m;

	cr_assert_not_null(vm);
	vm->p = platform_new();
	vm->m = m = &vm->p->m;
	pthread_mutex_init(&vm->lock, NULL);
	vm->fd = -1;
	vm->next = PAGE_SIZE;
	m->notify = (struct machine_notify){
		.opaque = vm,
		.event = on_event,
		.reset_requested = on_reset,
		.powered_off = on_poweroff,
		.pause_requested = on_pause,
		.device_gone = on_gone,
		.fd = give_fd,
		.on_quit = on_quit,
	};
	m->memory = new_memory(m, size);
	m->deferred_fd = io_eventfd();
	cr_assert_eq(loop_create(&m->loop, &err), 0, "%s", err.text);
	cr_assert_eq(
	        loop_watch(m->loop, m->deferred_fd, EPOLLIN, on_deferred, m, &m->deferred, &err), 0,
	        "%s", err.text);
	cr_assert_eq(pci_create(m, &m->pci, &err), 0, "%s", err.text);
	return vm;
}

void vmachine_free(struct vmachine *vm)
{
	struct machine *m = vm->m;
	struct memory *mem = m->memory;

	vmachine_pause(vm);
	while (m->devices) {
		struct device *d = m->devices;

		machine_forget_device(m, d);
		d->driver->destroy(d);
	}
	pci_destroy(m->pci);
	loop_unwatch(m->deferred);
	loop_destroy(m->loop);
	close(m->deferred_fd);
	memory_dirty_fini(mem);
	memory_discard_fini(mem);
	ram_participant_fini(mem);
	for (size_t i = 0; i < mem->region_count; i++)
		region_destroy(mem, &mem->regions[i]);
	pthread_mutex_destroy(&mem->lock);
	free(mem);
	platform_free(vm->p);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

struct device *vmachine_add(struct vmachine *vm, const struct device_driver *driver,
                            const void *options, size_t len)
{
	struct config_device *config = calloc(1, sizeof(*config));
	struct gw_error err = { 0 };
	struct device *d = NULL;
	unsigned number = 0;
	int r;

	cr_assert_not_null(config);
	cr_assert_leq(len, sizeof(config->options));
	for (struct device *i = vm->m->devices; i; i = i->next)
		number += i->driver == driver;
	snprintf(config->id, sizeof(config->id), "%.20s%u", driver->type, number);
	snprintf(config->type, sizeof(config->type), "%s", driver->type);
	if (len)
		memcpy(config->options, options, len);
	r = driver->create(vm->m, config, false, &d, &err);
	free(config);
	snprintf(vm->error, sizeof(vm->error), "%s", r < 0 ? err.text : "");
	if (r < 0)
		return NULL;
	d->next = vm->m->devices;
	vm->m->devices = d;
	return d;
}

void vmachine_run(struct vmachine *vm)
{
	if (vm->m->running)
		return;
	vm->m->running = vm->m->started = true;
	for (struct device *d = vm->m->devices; d; d = d->next)
		if (d->driver->run)
			d->driver->run(d);
	vmachine_turn(vm);
}

void vmachine_pause(struct vmachine *vm)
{
	if (!vm->m->running)
		return;
	vm->m->running = false;
	for (struct device *d = vm->m->devices; d; d = d->next)
		if (d->driver->pause)
			d->driver->pause(d);
}

void vmachine_turn(struct vmachine *vm)
{
	for (unsigned i = 0; i < 8; i++)
		loop_once(vm->m->loop, 0);
}

bool vmachine_wait(struct vmachine *vm, bool (*what)(void *opaque), void *opaque, int ms)
{
	const int64_t end = now_ms() + ms;

	while (!what(opaque)) {
		if (now_ms() >= end)
			return false;
		loop_once(vm->m->loop, 5);
	}
	return true;
}

void vmachine_track(struct vmachine *vm)
{
	struct ram_region *r = &vm->m->memory->regions[0];

	if (!r->dirty)
		r->dirty = calloc(region_words(r), 8);
	cr_assert_not_null(r->dirty);
	/* Workers may still be at what they were kicked for. */
	for (size_t i = 0; i < region_words(r); i++)
		__atomic_store_n(&r->dirty[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->m->memory->tracking, true, __ATOMIC_RELEASE);
}

bool vmachine_dirty(struct vmachine *vm, uint64_t gpa)
{
	const uint64_t *word = &vm->m->memory->regions[0].dirty[gpa / PAGE_SIZE / 64];

	return __atomic_load_n(word, __ATOMIC_RELAXED) >> (gpa / PAGE_SIZE % 64) & 1;
}

uint64_t vmachine_alloc(struct vmachine *vm, uint64_t len, uint64_t align)
{
	const uint64_t gpa = ALIGN_UP(vm->next, align);

	vm->next = gpa + len;
	cr_assert_leq(vm->next, memory_size(vm->m->memory), "the test's RAM is used up");
	memset(vmachine_at(vm, gpa), 0, len);
	return gpa;
}

void *vmachine_at(struct vmachine *vm, uint64_t gpa)
{
	return vm->m->memory->regions[0].hva + gpa;
}

const char *vmachine_event(struct vmachine *vm, const char *name)
{
	const char *data = NULL;

	pthread_mutex_lock(&vm->lock);
	for (unsigned i = vm->event_count; i-- > 0 && !data;)
		if (!strcmp(vm->events[i].name, name))
			data = vm->events[i].data;
	pthread_mutex_unlock(&vm->lock);
	return data;
}

void vmachine_forget_events(struct vmachine *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->event_count = 0;
	pthread_mutex_unlock(&vm->lock);
}

void vmachine_give(struct vmachine *vm, int fd)
{
	pthread_mutex_lock(&vm->lock);
	vm->fd = fd;
	pthread_mutex_unlock(&vm->lock);
}

/* ---- registers ---------------------------------------------------------------------- */

static uint64_t bar_read(struct vdriver *d, uint64_t offset, unsigned size)
{
	uint64_t value;

	machine_lock(d->vm->m);
	value = bus_read(&d->vm->m->mmio, d->v->function.bars[0].address + offset, size);
	machine_unlock(d->vm->m);
	return value;
}

static void bar_write(struct vdriver *d, uint64_t offset, unsigned size, uint64_t value)
{
	machine_lock(d->vm->m);
	bus_write(&d->vm->m->mmio, d->v->function.bars[0].address + offset, size, value);
	machine_unlock(d->vm->m);
}

uint8_t vdriver_status(struct vdriver *d)
{
	return (uint8_t)bar_read(d, COMMON + 0x14, 1);
}

uint8_t vdriver_isr(struct vdriver *d)
{
	return (uint8_t)bar_read(d, ISR, 1);
}

uint64_t vdriver_offered(struct vdriver *d)
{
	uint64_t low;

	bar_write(d, COMMON + 0x00, 4, 0);
	low = bar_read(d, COMMON + 0x04, 4);
	bar_write(d, COMMON + 0x00, 4, 1);
	return low | bar_read(d, COMMON + 0x04, 4) << 32;
}

uint64_t vdriver_config(struct vdriver *d, unsigned offset, unsigned size)
{
	return bar_read(d, DEVICE + offset, size);
}

void vdriver_config_write(struct vdriver *d, unsigned offset, unsigned size, uint64_t value)
{
	bar_write(d, DEVICE + offset, size, value);
}

void vdriver_reset(struct vdriver *d)
{
	bar_write(d, COMMON + 0x14, 1, 0);
	cr_assert_eq(vdriver_status(d), 0);
}

/* ---- initialisation ----------------------------------------------------------------- */

static void enable_queue(struct vdriver *d, unsigned index)
{
	struct vring *r = &d->rings[index];

	bar_write(d, COMMON + 0x16, 2, index);
	*r = (struct vring){ .size = (uint16_t)bar_read(d, COMMON + 0x18, 2) };
	cr_assert_neq(r->size, 0);
	r->desc = vmachine_alloc(d->vm, 16ul * r->size, 16);
	r->avail = vmachine_alloc(d->vm, 6 + 2ul * r->size, 2);
	r->used = vmachine_alloc(d->vm, 6 + 8ul * r->size, 4);
	bar_write(d, COMMON + 0x20, 8, r->desc);
	bar_write(d, COMMON + 0x28, 8, r->avail);
	bar_write(d, COMMON + 0x30, 8, r->used);
	bar_write(d, COMMON + 0x1c, 2, 1);
	cr_assert_eq(bar_read(d, COMMON + 0x1c, 2), 1, "queue %u", index);
}

/* Memory and bus master on, INTx off: interrupts show in the ISR alone. */
static void enable_function(struct vdriver *d)
{
	machine_lock(d->vm->m);
	pci_config_write(&d->v->function, 4, 2, 0x0406);
	machine_unlock(d->vm->m);
	cr_assert(d->v->function.bars[0].mapped);
}

void vdriver_begin(struct vdriver *d, struct vmachine *vm, struct device *device, uint64_t features)
{
	cr_assert_not_null(device, "%s", vm->error);
	*d = (struct vdriver){ .vm = vm, .v = container_of(device, struct virtio, device) };
	enable_function(d);
	vdriver_reset(d);
	bar_write(d, COMMON + 0x14, 1, 1 | 2);
	features = (features & vdriver_offered(d)) | VIRTIO_F_VERSION_1;
	bar_write(d, COMMON + 0x08, 4, 0);
	bar_write(d, COMMON + 0x0c, 4, (uint32_t)features);
	bar_write(d, COMMON + 0x08, 4, 1);
	bar_write(d, COMMON + 0x0c, 4, features >> 32);
	bar_write(d, COMMON + 0x14, 1, 1 | 2 | 8);
	cr_assert_eq(vdriver_status(d), 1 | 2 | 8, "features are refused");
	d->queues = (unsigned)bar_read(d, COMMON + 0x12, 2);
	cr_assert_leq(d->queues, VDRIVER_QUEUES);
	for (unsigned i = 0; i < d->queues; i++)
		enable_queue(d, i);
	bar_write(d, COMMON + 0x14, 1, 1 | 2 | 8 | 4);
	vmachine_run(vm);
}

/* ---- buffers ------------------------------------------------------------------------ */

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

uint16_t vdriver_add(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned count)
{
	struct vring *r = &d->rings[queue];
	struct desc *table = vmachine_at(d->vm, r->desc);
	uint16_t *avail = vmachine_at(d->vm, r->avail);
	const uint16_t head = r->next_desc % r->size;

	for (unsigned i = 0; i < count; i++) {
		const uint16_t at = r->next_desc % r->size;
		const bool more = i + 1 < count;

		r->next_desc = (uint16_t)((at + 1) % r->size);
		table[at] = (struct desc){
			.addr = bufs[i].gpa,
			.len = bufs[i].len,
			.flags = (uint16_t)((more ? 1 : 0) | (bufs[i].in ? 2 : 0)),
			.next = r->next_desc,
		};
	}
	avail[2 + r->avail_idx % r->size] = head;
	__atomic_store_n(&avail[1], ++r->avail_idx, __ATOMIC_RELEASE);
	return head;
}

uint64_t vdriver_add_out(struct vdriver *d, unsigned queue, const void *data, uint32_t len)
{
	const struct vbuf buf = { .gpa = vmachine_alloc(d->vm, len, 16), .len = len };

	memcpy(vmachine_at(d->vm, buf.gpa), data, len);
	vdriver_add(d, queue, &buf, 1);
	return buf.gpa;
}

uint64_t vdriver_add_in(struct vdriver *d, unsigned queue, uint32_t len)
{
	const struct vbuf buf = { .gpa = vmachine_alloc(d->vm, len, 16), .len = len, .in = true };

	vdriver_add(d, queue, &buf, 1);
	return buf.gpa;
}

void vdriver_kick(struct vdriver *d, unsigned queue)
{
	bar_write(d, NOTIFY + queue * 4ul, 2, queue);
	vmachine_turn(d->vm);
}

bool vdriver_used(struct vdriver *d, unsigned queue, struct vused *used)
{
	struct vring *r = &d->rings[queue];
	const uint16_t *ring = vmachine_at(d->vm, r->used);

	if (__atomic_load_n(&ring[1], __ATOMIC_ACQUIRE) == r->used_seen)
		return false;
	memcpy(used, (const char *)ring + 4 + 8ul * (r->used_seen % r->size), sizeof(*used));
	r->used_seen++;
	return true;
}

/* ---- moved to another machine ------------------------------------------------------- */

void vdriver_save(struct vdriver *d, struct kept *kept)
{
	vmachine_pause(d->vm);
	kept_save(kept, &d->v->participant);
}

int vdriver_load(struct vdriver *d, struct vmachine *vm, struct device *device,
                 const struct vdriver *from, const struct kept *kept, struct gw_error *err)
{
	struct participant *p;
	int r;

	cr_assert_not_null(device, "%s", vm->error);
	memcpy(vmachine_at(vm, 0), vmachine_at(from->vm, 0), memory_size(vm->m->memory));
	vm->next = from->vm->next;
	*d = *from;
	d->vm = vm;
	d->v = container_of(device, struct virtio, device);
	p = &d->v->participant;
	r = p->ops->begin_load(p, err);
	if (!r)
		r = kept_load(kept, p, err);
	if (!r)
		r = p->ops->settle(p, err);
	return r;
}
