/* SPDX-License-Identifier: Apache-2.0 */
/* A machine for tests of single devices: buses, locks and a loop, and on request a real KVM VM
 * with interrupt chips and one vCPU that never runs. */
#ifndef UNIT_PLATFORM_H
#define UNIT_PLATFORM_H

#include "patience.h"

#include <criterion/criterion.h>

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/machine.h"

/* This architecture's. */
#include "chips.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

struct platform {
	struct machine m;
	int vcpu_fd;
};

static inline struct platform *platform_new(void)
{
	struct platform *p = calloc(1, sizeof(*p));

	cr_assert_not_null(p);
	p->m.kvm_fd = p->m.vm_fd = p->m.vfio_kvm_fd = p->vcpu_fd = -1;
	pthread_mutex_init(&p->m.device_lock, NULL);
	bus_init(&p->m.mmio);
	bus_init(&p->m.pio);
	return p;
}

/* Skips the test where there is no KVM. */
static inline struct platform *platform_new_kvm(void)
{
	struct platform *p = platform_new();
	struct gw_error err = { 0 };

	p->m.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (p->m.kvm_fd < 0)
		cr_skip_test("/dev/kvm cannot be opened");
	p->m.vm_fd = ioctl(p->m.kvm_fd, KVM_CREATE_VM, 0);
	if (p->m.vm_fd < 0)
		cr_skip_test("KVM_CREATE_VM fails");
	p->vcpu_fd = chips_create(p->m.vm_fd);
	cr_assert_eq(irqs_create(&p->m, &p->m.irqs, &err), 0, "%s", err.text);
	return p;
}

static inline void platform_free(struct platform *p)
{
	if (p->m.irqs)
		irqs_destroy(p->m.irqs);
	if (p->vcpu_fd >= 0)
		close(p->vcpu_fd);
	if (p->m.vfio_kvm_fd >= 0)
		close(p->m.vfio_kvm_fd);
	if (p->m.vm_fd >= 0)
		close(p->m.vm_fd);
	if (p->m.kvm_fd >= 0)
		close(p->m.kvm_fd);
	bus_fini(&p->m.mmio);
	bus_fini(&p->m.pio);
	pthread_mutex_destroy(&p->m.device_lock);
	free(p);
}

/* A sink that keeps the records of one participant. */
struct kept_record {
	uint16_t type;
	size_t len;
	uint8_t bytes[16384];
};
struct kept {
	struct sink sink;
	unsigned count;
	struct kept_record records[8];
};

static inline int kept_record(struct sink *sink, struct participant *p, uint16_t type,
                              const void *head, size_t head_len, const void *body, size_t body_len,
                              struct gw_error *err)
{
	struct kept *k = container_of(sink, struct kept, sink);
	struct kept_record *r = &k->records[k->count++];

	(void)p;
	(void)err;
	cr_assert_leq(k->count, ARRAY_SIZE(k->records));
	cr_assert_leq(head_len + body_len, sizeof(r->bytes));
	r->type = type;
	r->len = head_len + body_len;
	if (head_len)
		memcpy(r->bytes, head, head_len);
	if (body_len)
		memcpy(r->bytes + head_len, body, body_len);
	return 0;
}

static const struct sink_ops kept_ops = { .record = kept_record };

static inline void kept_save(struct kept *k, struct participant *p)
{
	struct gw_error err = { 0 };

	memset(k, 0, sizeof(*k));
	k->sink.ops = &kept_ops;
	cr_assert_eq(p->ops->save(p, &k->sink, &err), 0, "%s", err.text);
}

static inline int kept_load(const struct kept *k, struct participant *p, struct gw_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < k->count && !r; i++)
		r = p->ops->load(p, p->ops->version, k->records[i].type, k->records[i].bytes,
		                 k->records[i].len, err);
	return r;
}

#endif
