/* SPDX-License-Identifier: Apache-2.0 */
/* The locks of a machine's disks: all of them or none, and what a host that cannot lock says. */
#include "virtio_driver.h"

#include "vmm/virtio/blk.h"
#include "vmm/virtio/blk_file.h"
#include "vmm/virtio/devices.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>

/* What a call that takes or gives a lock fails with; 0: the kernel does it. */
static int lock_fails;

/* In place of the C library's, by the name that it has there with 64-bit offsets. */
int fcntl_here(int fd, int command, ...) __asm__("fcntl64");
int fcntl_here(int fd, int command, ...)
{
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long);
	va_end(ap);
	if (lock_fails && command == F_OFD_SETLK) {
		errno = lock_fails;
		return -1;
	}
	return (int)syscall(SYS_fcntl, fd, command, arg);
}

static void make(char *path, size_t size, const char *name)
{
	int fd;

	snprintf(path, size, "/tmp/gw-lock-%s-%d", name, (int)getpid());
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && !ftruncate(fd, 1 << 20));
	close(fd);
}

static struct blk_file opened(const char *path)
{
	struct gw_error err = { 0 };
	struct blk_file file;

	cr_assert_eq(blk_file_open(path, -1, false, false, &file, &err), 0, "%s", err.text);
	return file;
}

/* Can another one lock it? */
static bool is_free(const char *path)
{
	struct blk_file file = opened(path);
	struct gw_error err = { 0 };
	const int r = blk_file_lock(&file, &err);

	blk_file_close(&file);
	cr_assert(!r || r == -EBUSY, "%s", err.text);
	return !r;
}

struct two {
	struct vmachine *vm;
	struct blk_options first, second;
};

static struct blk_options disk(const char *name)
{
	struct blk_options o = { .logical = BLK_SECTOR, .queues = 1, .queue_size = 16 };

	make(o.file, sizeof(o.file), name);
	return o;
}

static void add(struct vmachine *vm, const struct blk_options *o)
{
	cr_assert_not_null(vmachine_add(vm, &virtio_blk_driver, o, sizeof(*o)), "%s", vm->error);
}

static void end(struct two *t)
{
	vmachine_free(t->vm);
	unlink(t->first.file);
	unlink(t->second.file);
}

/* Devices are in no order that a user knows: each of the two is tried as the one that is in use. */
Test(disk_locks, of_a_machine_that_cannot_have_all_it_keeps_none)
{
	struct two t = { .first = disk("a"), .second = disk("b") };

	t.vm = vmachine_new(8 * MIB);
	t.vm->m->incoming = true;
	add(t.vm, &t.first);
	add(t.vm, &t.second);
	for (unsigned i = 0; i < 2; i++) {
		const struct blk_options *used = i ? &t.second : &t.first;
		const struct blk_options *other = i ? &t.first : &t.second;
		struct blk_file theirs = opened(used->file);
		struct gw_error err = { 0 };

		cr_assert_eq(blk_file_lock(&theirs, &err), 0, "%s", err.text);
		cr_assert_eq(machine_claim(t.vm->m, &err), -EBUSY);
		cr_assert(strstr(err.text, used->file), "%s", err.text);
		cr_assert(is_free(other->file), "%u: the other one is still locked", i);
		blk_file_close(&theirs);
		cr_assert_eq(machine_claim(t.vm->m, &err), 0, "%s", err.text);
		cr_assert(!is_free(t.first.file) && !is_free(t.second.file));
		machine_unclaim(t.vm->m);
		cr_assert(is_free(t.first.file) && is_free(t.second.file));
	}
	end(&t);
}

/* What a paused guest has is not given back by a claim that fails at another disk. */
Test(disk_locks, what_it_had_before_it_keeps)
{
	struct two t = { .first = disk("a"), .second = disk("b") };
	struct gw_error err = { 0 };
	struct blk_file theirs;

	t.vm = vmachine_new(8 * MIB);
	theirs = opened(t.second.file);
	cr_assert_eq(blk_file_lock(&theirs, &err), 0, "%s", err.text);
	t.vm->m->incoming = true;
	add(t.vm, &t.second);
	/* Claimed when it is made, and asked before the other one. */
	t.vm->m->incoming = false;
	add(t.vm, &t.first);
	cr_assert_eq(machine_claim(t.vm->m, &err), -EBUSY);
	cr_assert_not(is_free(t.first.file));
	blk_file_close(&theirs);
	end(&t);
}

Test(disk_locks, a_lock_that_fails_is_an_error)
{
	static const struct {
		int code, want;
		const char *word;
	} rows[] = {
		{ ENOLCK, -ENOLCK, "lock: No locks available" },
		{ EIO, -EIO, "lock: Input/output error" },
		{ EAGAIN, -EBUSY, "in use" },
		{ EACCES, -EBUSY, "in use" },
		{ EOPNOTSUPP, 0, NULL }, /* a file system without locks */
		{ ENOSYS, 0, NULL },
	};
	const struct blk_options o = disk("c");

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmachine *vm = vmachine_new(8 * MIB);
		struct gw_error err = { 0 };
		struct blk_file file = opened(o.file);
		struct device *d;

		lock_fails = rows[i].code;
		cr_assert_eq(blk_file_lock(&file, &err), rows[i].want, "%u: %s", i, err.text);
		cr_assert(!rows[i].word || strstr(err.text, rows[i].word), "%s", err.text);
		d = vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o));
		cr_assert_eq(!d, rows[i].want < 0);
		cr_assert(d || (strstr(vm->error, o.file) && strstr(vm->error, rows[i].word)), "%s",
		          vm->error);
		lock_fails = 0;
		blk_file_close(&file);
		vmachine_free(vm);
	}
	unlink(o.file);
}
