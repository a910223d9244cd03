/* SPDX-License-Identifier: Apache-2.0 */
/* vhost.c against a kernel that is made up here, and writes down what it is told. */
#include "net_wire.h"

#include "vmm/memory_internal.h"

/* Linux has numbers of bits under our names, and a struct under the tests'. */
static const uint64_t f_version_1 = VIRTIO_F_VERSION_1, f_event_idx = VIRTIO_F_EVENT_IDX;
static const uint64_t f_indirect = VIRTIO_F_INDIRECT_DESC;
#define vring kernel_vring
#include <linux/vhost.h>
#undef vring

struct call {
	unsigned long request;
	struct vhost_vring_state state;
	struct vhost_vring_addr addr;
	int fd;
	uint64_t value;
	uint32_t regions;
	struct vhost_memory_region region;
};

/* Each test is a process of its own. */
static struct {
	struct call calls[64];
	unsigned count;
	unsigned long fail; /* this request fails */
	uint64_t features;
	uint16_t base[2];
	int kick[2], call[2], error;
	uint64_t *log;
} kernel;

static int fake_open(const char *path)
{
	return strcmp(path, "fake") ? -ENOENT : open("/dev/null", O_RDWR);
}

static void note_file(struct call *c, unsigned long request, const struct vhost_vring_file *file)
{
	c->state.index = file->index;
	c->fd = file->fd;
	if (request == VHOST_SET_VRING_KICK)
		kernel.kick[file->index] = file->fd;
	if (request == VHOST_SET_VRING_CALL)
		kernel.call[file->index] = file->fd;
	if (request == VHOST_SET_VRING_ERR)
		kernel.error = file->fd;
}

static void note_memory(struct call *c, const struct vhost_memory *m)
{
	c->regions = m->nregions;
	c->region = m->regions[0];
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	struct call *c = &kernel.calls[kernel.count++];

	(void)fd;
	cr_assert_leq(kernel.count, ARRAY_SIZE(kernel.calls));
	*c = (struct call){ .request = request };
	if (request == kernel.fail)
		return -EFAULT;
	if (request == VHOST_GET_FEATURES)
		*(uint64_t *)arg = kernel.features;
	if (request == VHOST_SET_FEATURES || request == VHOST_SET_LOG_BASE)
		c->value = *(uint64_t *)arg;
	if (request == VHOST_SET_LOG_BASE)
		kernel.log = (void *)(uintptr_t)c->value;
	if (request == VHOST_SET_MEM_TABLE)
		note_memory(c, arg);
	if (request == VHOST_SET_VRING_NUM || request == VHOST_SET_VRING_BASE)
		c->state = *(struct vhost_vring_state *)arg;
	if (request == VHOST_GET_VRING_BASE)
		((struct vhost_vring_state *)arg)->num =
		        kernel.base[((struct vhost_vring_state *)arg)->index];
	if (request == VHOST_SET_VRING_ADDR)
		c->addr = *(struct vhost_vring_addr *)arg;
	if (request == VHOST_SET_VRING_KICK || request == VHOST_SET_VRING_CALL ||
	    request == VHOST_SET_VRING_ERR || request == VHOST_NET_SET_BACKEND)
		note_file(c, request, arg);
	return 0;
}

static const struct vhost_calls fake = { .open = fake_open, .ioctl = fake_ioctl };

/* The nth call of a kind since `from`. */
static const struct call *find(unsigned long request, unsigned from, unsigned n)
{
	for (unsigned i = from; i < kernel.count; i++)
		if (kernel.calls[i].request == request && !n--)
			return &kernel.calls[i];
	return NULL;
}

static unsigned place(unsigned long request, unsigned from)
{
	const struct call *c = find(request, from, 0);

	cr_assert_not_null(c);
	return (unsigned)(c - kernel.calls);
}

/* A device with two queues, paused, that vhost is tried on. */
struct setup {
	struct wire w;
	struct vhost *vh;
	struct gw_error err;
};

static void setup(struct setup *s)
{
	kernel.features = f_version_1 | f_event_idx | NET_F_MRG_RXBUF | 1ull << VHOST_F_LOG_ALL;
	wire_begin(&s->w, &plain, f_event_idx | f_indirect | NET_F_STATUS);
	vmachine_pause(s->w.vm);
	cr_assert_eq(vhost_open(s->w.d.v, 0, "fake", &fake, &s->vh, &s->err), 0, "%s", s->err.text);
}

static void teardown(struct setup *s)
{
	vhost_close(s->vh);
	wire_end(&s->w);
}

Test(vhost, opening)
{
	struct setup s = { .vh = NULL };
	struct vhost *other = NULL;

	setup(&s);
	cr_assert_eq(kernel.calls[0].request, VHOST_SET_OWNER);
	cr_assert_eq(kernel.calls[1].request, VHOST_GET_FEATURES);
	cr_assert_eq(vhost_features(s.vh), kernel.features);
	cr_assert_eq(vhost_open(s.w.d.v, 0, "nowhere", &fake, &other, &s.err), -ENOENT);
	cr_assert(strstr(s.err.text, "nowhere"), "%s", s.err.text);
	kernel.fail = VHOST_SET_OWNER;
	cr_assert_eq(vhost_open(s.w.d.v, 0, "fake", &fake, &other, &s.err), -EFAULT);
	cr_assert(strstr(s.err.text, "VHOST_SET_OWNER"), "%s", s.err.text);
	teardown(&s);
}

Test(vhost, start_tells_memory_features_and_rings)
{
	struct setup s = { .vh = NULL };
	const struct virtio_queue *q;
	const struct call *c;

	setup(&s);
	s.w.d.v->queues[1].ring.next_avail = s.w.d.v->queues[1].ring.next_used = 7;
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	c = find(VHOST_SET_MEM_TABLE, 0, 0);
	cr_assert_eq(c->regions, 1);
	cr_assert_eq(c->region.guest_phys_addr, 0);
	cr_assert_eq(c->region.memory_size, 8 * MIB);
	cr_assert_eq(c->region.userspace_addr, (uintptr_t)vmachine_at(s.w.vm, 0));
	/* What both know, and nothing of the device's own. */
	cr_assert_eq(find(VHOST_SET_FEATURES, 0, 0)->value, f_version_1 | f_event_idx);
	cr_assert_null(find(VHOST_SET_LOG_BASE, 0, 0));
	for (unsigned i = 0; i < 2; i++) {
		q = &s.w.d.v->queues[i];
		cr_assert_eq(find(VHOST_SET_VRING_NUM, 0, i)->state.num, NET_QUEUE_SIZE);
		c = find(VHOST_SET_VRING_BASE, 0, i);
		cr_assert_eq(c->state.index, i);
		cr_assert_eq(c->state.num, i ? 7 : 0);
		c = find(VHOST_SET_VRING_ADDR, 0, i);
		cr_assert_eq(c->addr.index, i);
		cr_assert_eq(c->addr.flags, 0);
		cr_assert_eq(c->addr.desc_user_addr, (uintptr_t)q->ring.desc_hva);
		cr_assert_eq(c->addr.avail_user_addr, (uintptr_t)q->ring.driver_hva);
		cr_assert_eq(c->addr.used_user_addr, (uintptr_t)q->ring.device_hva);
		cr_assert_eq(c->addr.log_guest_addr, q->ring.device);
		cr_assert_eq(kernel.kick[i], q->kick_fd);
		cr_assert(vhost_has_ring(s.vh, i));
	}
	cr_assert_neq(kernel.call[0], kernel.call[1]);
	vhost_stop(s.vh);
	teardown(&s);
}

Test(vhost, stop_takes_the_rings_back_where_the_kernel_stood)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	kernel.base[0] = 300;
	kernel.base[1] = 65535;
	vhost_stop(s.vh);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(s.w.d.v->queues[i].ring.next_avail, kernel.base[i]);
		cr_assert_eq(s.w.d.v->queues[i].ring.next_used, kernel.base[i]);
		cr_assert_eq(kernel.kick[i], -1, "the kernel hears no more kicks");
		cr_assert(!vhost_has_ring(s.vh, i));
	}
	teardown(&s);
}

Test(vhost, queues_that_are_not_enabled_stay_here)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	s.w.d.v->queues[1].ring.enabled = false;
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	cr_assert(vhost_has_ring(s.vh, 0) && !vhost_has_ring(s.vh, 1));
	cr_assert_null(find(VHOST_SET_VRING_KICK, 0, 1));
	s.w.d.v->queues[1].ring.enabled = true;
	cr_assert_eq(vhost_start_ring(s.vh, 1, &s.err), 0);
	cr_assert(vhost_has_ring(s.vh, 1));
	cr_assert_eq(vhost_start_ring(s.vh, 1, &s.err), 0);
	cr_assert_null(find(VHOST_SET_VRING_KICK, 0, 2), "once");
	vhost_stop(s.vh);
	teardown(&s);
}

static bool interrupted(void *opaque)
{
	return vdriver_isr(opaque) & 1;
}

Test(vhost, the_kernels_interrupts_reach_the_guest)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	vdriver_isr(&s.w.d);
	io_eventfd_signal(kernel.call[1]);
	cr_assert(vmachine_wait(s.w.vm, interrupted, &s.w.d, patience_ms()));
	/* One that nobody has looked at when it stops. */
	loop_stop_thread(s.w.d.v->queues[0].worker->loop);
	io_eventfd_signal(kernel.call[0]);
	vhost_stop(s.vh);
	vmachine_turn(s.w.vm);
	cr_assert(interrupted(&s.w.d));
	teardown(&s);
}

static bool needs_reset(void *opaque)
{
	return vdriver_status(opaque) & VIRTIO_NEEDS_RESET;
}

Test(vhost, the_kernels_complaint_breaks_the_device)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	io_eventfd_signal(kernel.error);
	cr_assert(vmachine_wait(s.w.vm, needs_reset, &s.w.d, patience_ms()));
	vhost_stop(s.vh);
	teardown(&s);
}

Test(vhost, each_call_that_fails_is_named)
{
	static const struct {
		unsigned long request;
		const char *name;
	} rows[] = {
		{ VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE" },
		{ VHOST_SET_FEATURES, "VHOST_SET_FEATURES" },
		{ VHOST_SET_VRING_NUM, "queue 0: vhost: VHOST_SET_VRING_NUM" },
		{ VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE" },
		{ VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR" },
		{ VHOST_SET_VRING_ERR, "VHOST_SET_VRING_ERR" },
		{ VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL" },
		{ VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK" },
	};
	struct setup s = { .vh = NULL };

	setup(&s);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		kernel.count = 0;
		kernel.fail = rows[i].request;
		cr_assert_eq(vhost_start(s.vh, &s.err), -EFAULT);
		cr_assert(strstr(s.err.text, rows[i].name), "%s", s.err.text);
		vhost_stop(s.vh);
		cr_assert(!vhost_has_ring(s.vh, 0) && !vhost_has_ring(s.vh, 1));
	}
	kernel.count = 0;
	kernel.fail = 0;
	cr_assert_eq(vhost_start(s.vh, &s.err), 0);
	kernel.fail = VHOST_GET_VRING_BASE;
	vhost_stop(s.vh);
	vmachine_turn(s.w.vm);
	cr_assert(vdriver_status(&s.w.d) & VIRTIO_NEEDS_RESET, "where the ring stands is unknown");
	teardown(&s);
}

/* ---- dirty pages
 * --------------------------------------------------------------------------------- */

static struct dirty_source *source(struct setup *s)
{
	return s->w.vm->m->memory->sources;
}

/* As log_write() of the kernel sets it: by page, least significant bit first. */
static void kernel_writes(uint64_t gpa)
{
	((uint8_t *)kernel.log)[gpa / 4096 / 8] |= (uint8_t)(1u << (gpa / 4096 % 8));
}

Test(vhost, what_the_kernel_writes_is_dirty)
{
	struct setup s = { .vh = NULL };
	unsigned from;

	setup(&s);
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	from = kernel.count;
	cr_assert_eq(source(&s)->start(source(&s), &s.err), 0, "%s", s.err.text);
	cr_assert_lt(place(VHOST_SET_LOG_BASE, from), place(VHOST_SET_FEATURES, from),
	             "the log is there before it is used");
	cr_assert(find(VHOST_SET_FEATURES, from, 0)->value & 1ull << VHOST_F_LOG_ALL);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(find(VHOST_SET_VRING_ADDR, from, i)->addr.flags,
		             1u << VHOST_VRING_F_LOG);
	vmachine_track(s.w.vm);
	kernel_writes(0x5000);
	kernel_writes(0x12345 * 4);
	kernel_writes(8 * MIB - 1);
	cr_assert_eq(source(&s)->sync(source(&s), s.w.vm->m->memory, &s.err), 0);
	cr_assert(vmachine_dirty(s.w.vm, 0x5000));
	cr_assert(vmachine_dirty(s.w.vm, 0x12345 * 4));
	cr_assert(vmachine_dirty(s.w.vm, 8 * MIB - 1));
	cr_assert(!vmachine_dirty(s.w.vm, 0x4000) && !vmachine_dirty(s.w.vm, 0x6000));
	vmachine_track(s.w.vm);
	cr_assert_eq(source(&s)->sync(source(&s), s.w.vm->m->memory, &s.err), 0);
	cr_assert(!vmachine_dirty(s.w.vm, 0x5000), "reported once");
	/* What came in before the last stop counts, and a restart goes on logging. */
	kernel_writes(0x7000);
	vhost_stop(s.vh);
	cr_assert_eq(source(&s)->sync(source(&s), s.w.vm->m->memory, &s.err), 0);
	cr_assert(vmachine_dirty(s.w.vm, 0x7000));
	from = kernel.count;
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	cr_assert_not_null(find(VHOST_SET_LOG_BASE, from, 0));
	cr_assert_eq(find(VHOST_SET_VRING_ADDR, from, 0)->addr.flags, 1u << VHOST_VRING_F_LOG);
	from = kernel.count;
	source(&s)->stop(source(&s));
	cr_assert_eq(find(VHOST_SET_FEATURES, from, 0)->value & 1ull << VHOST_F_LOG_ALL, 0);
	cr_assert_eq(find(VHOST_SET_VRING_ADDR, from, 1)->addr.flags, 0);
	vhost_stop(s.vh);
	teardown(&s);
}

Test(vhost, a_kernel_that_cannot_report_is_said_so)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	vhost_close(s.vh);
	kernel.features &= ~(1ull << VHOST_F_LOG_ALL);
	cr_assert_eq(vhost_open(s.w.d.v, 0, "fake", &fake, &s.vh, &s.err), 0);
	cr_assert_eq(source(&s)->start(source(&s), &s.err), -ENOTSUP);
	cr_assert(strstr(s.err.text, "virtio-net0"), "%s", s.err.text);
	teardown(&s);
}

Test(vhost, a_log_that_the_kernel_refuses)
{
	struct setup s = { .vh = NULL };

	setup(&s);
	cr_assert_eq(vhost_start(s.vh, &s.err), 0, "%s", s.err.text);
	kernel.fail = VHOST_SET_LOG_BASE;
	cr_assert_eq(source(&s)->start(source(&s), &s.err), -EFAULT);
	kernel.fail = 0;
	cr_assert_eq(source(&s)->sync(source(&s), s.w.vm->m->memory, &s.err), 0);
	vhost_stop(s.vh);
	teardown(&s);
}

Test(vhost, backends)
{
	struct setup s = { .vh = NULL };
	unsigned from;

	setup(&s);
	from = kernel.count;
	cr_assert_eq(vhost_net_backend(s.vh, 1, 5, &s.err), 0);
	cr_assert_eq(kernel.calls[from].request, VHOST_NET_SET_BACKEND);
	cr_assert_eq(kernel.calls[from].fd, 5);
	cr_assert_eq(kernel.calls[from].state.index, 1);
	cr_assert_eq(vhost_vsock_cid(s.vh, 42, &s.err), 0);
	cr_assert_eq(kernel.calls[from + 1].request, VHOST_VSOCK_SET_GUEST_CID);
	cr_assert_eq(vhost_vsock_running(s.vh, true, &s.err), 0);
	cr_assert_eq(kernel.calls[from + 2].request, VHOST_VSOCK_SET_RUNNING);
	teardown(&s);
}
