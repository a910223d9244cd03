/* SPDX-License-Identifier: Apache-2.0 */
#include "blk_rig.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>

void rig_fill(uint8_t *p, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((seed += 0x9e3779b9u) >> 24);
}

struct blk_options rig_disk(const char *name, uint64_t size)
{
	struct blk_options o = {
		.queues = 1, .logical = BLK_SECTOR, .queue_size = 64, .serial = "godwit-0001"
	};
	autofree uint8_t *data = malloc(size);
	int fd;

	snprintf(o.file, sizeof(o.file), "/var/tmp/godwit-test-%d-%s", getpid(), name);
	fd = open(o.file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	rig_fill(data, size, 1);
	cr_assert_eq(pwrite(fd, data, size, 0), (ssize_t)size);
	close(fd);
	return o;
}

void rig_begin(struct rig *g, const struct blk_options *o, uint64_t features)
{
	struct vmachine *vm = vmachine_new(8 * MIB);

	g->o = *o;
	g->fd = open(o->file, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(g->fd, 0);
	vdriver_begin(&g->d, vm, vmachine_add(vm, &virtio_blk_driver, o, sizeof(*o)), features);
}

void rig_end(struct rig *g)
{
	vmachine_free(g->d.vm);
	close(g->fd);
	unlink(g->o.file);
}

bool rig_is_used(struct rig *g, unsigned queue)
{
	const struct vring *r = &g->d.rings[queue];
	const uint16_t *ring = vmachine_at(g->d.vm, r->used);

	return __atomic_load_n(&ring[1], __ATOMIC_ACQUIRE) != r->used_seen;
}

bool rig_one_is_used(void *rig)
{
	return rig_is_used(rig, 0);
}

/* The queue is worked on by a thread of its own. */
struct vused rig_used(struct rig *g)
{
	struct vused used;

	cr_assert(vmachine_wait(g->d.vm, rig_one_is_used, g, patience_ms()), "no answer");
	cr_assert(vdriver_used(&g->d, 0, &used));
	return used;
}

int rig_request(struct rig *g, uint32_t type, uint64_t sector, void *data, uint32_t len)
{
	struct vmachine *vm = g->d.vm;
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = { type, 0, sector };
	const uint64_t head = vmachine_alloc(vm, 16, 16), at = vmachine_alloc(vm, len + 1, 4096),
	               status = vmachine_alloc(vm, 1, 1);
	const bool in = type == IN || type == GET_ID;
	struct vbuf bufs[] = { { head, 16, false }, { at, len, in }, { status, 1, true } };
	struct vused used;

	memcpy(vmachine_at(vm, head), &header, 16);
	if (!in && len)
		memcpy(vmachine_at(vm, at), data, len);
	*(uint8_t *)vmachine_at(vm, status) = 0xee;
	if (!len)
		bufs[1] = bufs[2];
	vdriver_add(&g->d, 0, bufs, len ? 3 : 2);
	vdriver_kick(&g->d, 0);
	used = rig_used(g);
	cr_assert_eq(used.len, (in ? len : 0) + 1, "type %u: %u of %u", type, used.len, len);
	if (in && len)
		memcpy(data, vmachine_at(vm, at), len);
	return *(uint8_t *)vmachine_at(vm, status);
}

void rig_expect(struct rig *g, uint64_t offset, const void *data, size_t len)
{
	autofree uint8_t *now = malloc(len);

	cr_assert_eq(pread(g->fd, now, len, (off_t)offset), (ssize_t)len);
	cr_assert_eq(memcmp(now, data, len), 0, "at %llu", (unsigned long long)offset);
}

void rig_forbid(unsigned call, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}
