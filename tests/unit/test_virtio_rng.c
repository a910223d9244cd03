/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include "vmm/virtio/devices.h"

#include <stdio.h>
#include <sys/stat.h>

/* As the key table lays it out. */
struct options {
	char file[CONFIG_PATH_MAX];
	uint64_t max_bytes;
	uint32_t period;
};

static void begin(struct vdriver *d, const struct options *o)
{
	struct vmachine *vm = vmachine_new(8 * MIB);

	vdriver_begin(d, vm, vmachine_add(vm, &virtio_rng_driver, o, sizeof(*o)), 0);
}

static unsigned zeros(const uint8_t *p, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len; i++)
		n += !p[i];
	return n;
}

Test(virtio_rng, fills_buffers_with_random_bytes)
{
	const struct options o = { .period = 1000 };
	struct vdriver d;
	struct vused used;
	uint64_t a, b, piece;

	begin(&d, &o);
	cr_assert_eq(pci_get(d.v->function.config, 0, 4), 0x10441af4);
	a = vdriver_add_in(&d, 0, 4096);
	b = vdriver_add_in(&d, 0, 4096);
	vdriver_kick(&d, 0);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert(vdriver_used(&d, 0, &used));
		cr_assert_eq(used.len, 4096);
	}
	cr_assert(!vdriver_used(&d, 0, &used));
	cr_assert_eq(vdriver_isr(&d), 1);
	cr_assert_eq(vdriver_isr(&d), 0);
	cr_assert_lt(zeros(vmachine_at(d.vm, a), 4096), 100);
	cr_assert_neq(memcmp(vmachine_at(d.vm, a), vmachine_at(d.vm, b), 4096), 0);
	/* Several pieces, and what is to be read is left alone. */
	piece = vmachine_alloc(d.vm, 400, 16);
	vdriver_add(&d, 0,
	            (struct vbuf[]){ { piece, 100, false },
	                             { piece + 100, 100, true },
	                             { piece + 300, 100, true } },
	            3);
	vdriver_kick(&d, 0);
	cr_assert(vdriver_used(&d, 0, &used));
	cr_assert_eq(used.len, 200);
	cr_assert_eq(zeros(vmachine_at(d.vm, piece), 100), 100);
	cr_assert_lt(zeros(vmachine_at(d.vm, piece + 100), 100), 20);
	cr_assert_eq(zeros(vmachine_at(d.vm, piece + 200), 100), 100);
	cr_assert_lt(zeros(vmachine_at(d.vm, piece + 300), 100), 20);
	vmachine_free(d.vm);
}

Test(virtio_rng, a_buffer_without_room_comes_back_empty)
{
	const struct options o = { .period = 1000 };
	struct vdriver d;
	struct vused used;

	begin(&d, &o);
	vdriver_add_out(&d, 0, "hello", 5);
	vdriver_kick(&d, 0);
	cr_assert(vdriver_used(&d, 0, &used));
	cr_assert_eq(used.len, 0);
	vmachine_free(d.vm);
}

struct next_used {
	struct vdriver *d;
	struct vused used;
};

static bool has_next(void *opaque)
{
	struct next_used *n = opaque;

	return vdriver_used(n->d, 0, &n->used);
}

/* A few at a time, so that the others on the loop get their turn. */
Test(virtio_rng, a_large_buffer_is_filled_in_part)
{
	const struct options o = { .period = 1000 };
	struct vdriver d;
	struct next_used next = { .d = &d };

	begin(&d, &o);
	for (unsigned i = 0; i < 12; i++)
		vdriver_add_in(&d, 0, 256 * KIB);
	vdriver_kick(&d, 0);
	for (unsigned i = 0; i < 12; i++) {
		cr_assert(vmachine_wait(d.vm, has_next, &next, patience_ms()), "buffer %u", i);
		cr_assert_eq(next.used.len, 64 * KIB);
	}
	vmachine_free(d.vm);
}

static bool has_second(void *opaque)
{
	struct vused used;

	return vdriver_used(opaque, 0, &used);
}

#define PERIOD (uint32_t)(patience_ms() / 60)

Test(virtio_rng, the_rate_is_limited)
{
	/* Long enough that none begins while the first is looked at. */
	const struct options o = { .max_bytes = 100, .period = PERIOD };
	struct vdriver d;
	struct vused used;
	int64_t before;

	begin(&d, &o);
	vdriver_add_in(&d, 0, 64);
	vdriver_add_in(&d, 0, 64);
	vdriver_add_in(&d, 0, 64);
	before = now_ms();
	vdriver_kick(&d, 0);
	cr_assert(vdriver_used(&d, 0, &used));
	cr_assert_eq(used.len, 64);
	cr_assert(vdriver_used(&d, 0, &used));
	cr_assert_eq(used.len, 36, "what is left of the period");
	cr_assert(!vdriver_used(&d, 0, &used));
	cr_assert(vmachine_wait(d.vm, has_second, &d, patience_ms()));
	cr_assert_geq(now_ms() - before, PERIOD - 50);
	vmachine_free(d.vm);
}

Test(virtio_rng, a_paused_guest_gets_nothing)
{
	const struct options o = { .max_bytes = 64, .period = PERIOD };
	struct vdriver d;
	struct vused used;

	begin(&d, &o);
	vdriver_add_in(&d, 0, 64);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert(vdriver_used(&d, 0, &used));
	vmachine_pause(d.vm);
	usleep(PERIOD * 1500);
	vmachine_turn(d.vm);
	cr_assert(!vdriver_used(&d, 0, &used));
	vmachine_run(d.vm);
	cr_assert(vmachine_wait(d.vm, has_second, &d, patience_ms()), "it goes on");
	vmachine_free(d.vm);
}

Test(virtio_rng, from_a_file)
{
	struct options o = { .period = 1000 };
	char dir[] = "/tmp/godwit-rng-XXXXXX";
	struct vmachine *vm = vmachine_new(8 * MIB);
	struct vdriver d;
	struct vused used;
	struct gw_error err = { 0 };
	uint64_t at;
	int fd;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(o.file, sizeof(o.file), "%s/source", dir);
	cr_assert_eq(virtio_rng_driver.check_host(&o, &err), -ENOENT);
	cr_assert(strstr(err.text, "file: ") == err.text, "%s", err.text);
	cr_assert_null(vmachine_add(vm, &virtio_rng_driver, &o, sizeof(o)));
	cr_assert(strstr(vm->error, o.file), "%s", vm->error);
	fd = open(o.file, O_CREAT | O_WRONLY, 0600);
	close(fd);
	cr_assert_eq(virtio_rng_driver.check_host(&o, &err), -EINVAL, "a regular file ends");
	unlink(o.file);
	cr_assert_eq(mkfifo(o.file, 0600), 0);
	fd = open(o.file, O_RDWR);
	vdriver_begin(&d, vm, vmachine_add(vm, &virtio_rng_driver, &o, sizeof(o)), 0);
	at = vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert(!vdriver_used(&d, 0, &used), "it has nothing yet");
	cr_assert_eq(write(fd, "entropy!", 8), 8);
	cr_assert(vmachine_wait(vm, has_second, &d, patience_ms()));
	cr_assert_eq(memcmp(vmachine_at(vm, at), "entropy!", 8), 0);
	cr_assert_eq(zeros(vmachine_at(vm, at + 8), 56), 56, "and no more than was there");
	close(fd);
	vmachine_free(vm);
	unlink(o.file);
	rmdir(dir);
}

Test(virtio_rng, a_hostile_ring_breaks_the_device_only)
{
	const struct options o = { .period = 1000 };
	struct vdriver d;
	struct vused used;

	begin(&d, &o);
	vdriver_add(&d, 0, (struct vbuf[]){ { 1ull << 40, 64, true } }, 1);
	vdriver_kick(&d, 0);
	vmachine_turn(d.vm);
	cr_assert(!vdriver_used(&d, 0, &used));
	cr_assert(vdriver_status(&d) & VIRTIO_NEEDS_RESET);
	vdriver_begin(&d, d.vm, &d.v->device, 0);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert(vdriver_used(&d, 0, &used), "after a reset it works again");
	vmachine_free(d.vm);
}

Test(virtio_rng, moves)
{
	const struct options o = { .max_bytes = 64, .period = 100000 };
	const struct options free_of_limit = { .period = 1000 };
	struct vmachine *there = vmachine_new(8 * MIB);
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };
	struct vdriver a, b;
	struct vused used;

	begin(&a, &o);
	vdriver_add_in(&a, 0, 64);
	vdriver_add_in(&a, 0, 64);
	vdriver_kick(&a, 0);
	cr_assert(vdriver_used(&a, 0, &used));
	cr_assert(!vdriver_used(&a, 0, &used));
	vdriver_save(&a, kept);
	cr_assert_eq(vdriver_load(&b, there,
	                          vmachine_add(there, &virtio_rng_driver, &free_of_limit,
	                                       sizeof(free_of_limit)),
	                          &a, kept, &err),
	             0, "%s", err.text);
	vmachine_run(there);
	cr_assert(vdriver_used(&b, 0, &used), "the buffer that waited");
	cr_assert_eq(used.len, 64);
	vmachine_free(a.vm);
	vmachine_free(there);
	free(kept);
}
