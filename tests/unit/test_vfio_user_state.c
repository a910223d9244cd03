/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of our own vfio-user server, moved through a real socket by either state protocol. */
#include "vfu_world.h"

#include "base/bytes.h"
#include "vmm/irq.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <sys/ioctl.h>

#define DIGEST 0x18
#define CHANGE 0x3c
#define LOADED 0x40

struct served {
	struct world w;
	struct gw_device_server *server;
	char path[64];
};

/* A ballast has a pin, which goes to KVM's chips. */
static void give_chips(struct machine *m)
{
	struct gw_error err;

	m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	m->vm_fd = m->kvm_fd < 0 ? -1 : ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	if (m->vm_fd < 0)
		cr_skip_test("there is no KVM");
	close(chips_create(m->vm_fd));
	cr_assert_eq(irqs_create(m, &m->irqs, &err), 0, "%s", err.text);
}

static void serve(struct served *s, const char *name, const char *more,
                  enum gw_server_migration migration, enum gw_server_v1_data data)
{
	struct gw_device_server_options options = {
		.size = sizeof(options),
		.path = s->path,
		.listen_fd = -1,
		.migration = migration,
		.v1_data = data,
	};
	struct vfio_user_options o = { .timeout = (uint32_t)patience_ms() };
	struct gw_error err = { 0 };
	char json[256];

	memset(s, 0, sizeof(*s));
	snprintf(s->path, sizeof(s->path), "/tmp/gw-state-%s-%d", name, (int)getpid());
	snprintf(json, sizeof(json), "{\"id\":\"%s\",\"type\":\"ballast\",\"size\":\"1M\"%s}", name,
	         more);
	cr_assert_eq(gw_device_server_new(json, &options, &s->server, &err), 0, "%s", err.text);
	s->w.vm = vmachine_new(RAM);
	give_chips(s->w.vm->m);
	snprintf(o.socket, sizeof(o.socket), "%s", s->path);
	s->w.device = vmachine_add(s->w.vm, &vfio_user_pci_driver, &o, sizeof(o));
	cr_assert(s->w.device, "%s", s->w.vm->error);
	s->w.pci = container_of(s->w.device, struct vfio_pci, device);
	cr_assert(s->w.pci->state);
}

static void unserve(struct served *s)
{
	vmachine_free(s->w.vm);
	gw_device_server_free(s->server);
}

static void step(struct served *s, enum vfio_step step)
{
	struct gw_error err;

	cr_assert_eq(vfio_state_step(s->w.pci->state, step, &err), 0, "%s", err.text);
}

/* All that there is, by pieces of an odd size. */
static size_t copy(struct served *from, struct served *to)
{
	static char buf[100001];
	struct gw_error err;
	size_t sum = 0;
	ssize_t n;

	while ((n = vfio_state_read(from->w.pci->state, buf, sizeof(buf), &err)) > 0) {
		cr_assert_eq(vfio_state_write(to->w.pci->state, buf, (size_t)n, &err), 0, "%s",
		             err.text);
		sum += (size_t)n;
	}
	cr_assert_eq(n, 0, "%s", err.text);
	return sum;
}

static void move(enum gw_server_migration migration, enum gw_server_v1_data there,
                 enum gw_server_v1_data here, bool live)
{
	struct vfio_state_pending pending;
	struct gw_error err;
	struct served a, b;
	size_t before = 0;
	uint64_t was;

	serve(&a, "a", live ? ",\"pre-copy\":true" : "", migration, there);
	serve(&b, "b", live ? ",\"pre-copy\":true" : "", migration, here);
	cr_assert_str_eq(a.w.pci->state->ops->protocol, migration == GW_SERVER_V1 ? "v1" : "v2");
	cr_assert_neq(bar_read(&a.w, DIGEST, 8), bar_read(&b.w, DIGEST, 8));
	step(&b, VFIO_BEGIN_LOAD);
	if (live) {
		step(&a, VFIO_BEGIN_PRE_COPY);
		before = copy(&a, &b);
		cr_assert_gt(before, MIB, "the bulk comes while it runs");
		bar_write(&a.w, CHANGE, 4, 2);
		cr_assert_eq(vfio_state_pending(a.w.pci->state, &pending, &err), 0, "%s", err.text);
	}
	was = bar_read(&a.w, DIGEST, 8);
	step(&a, VFIO_QUIESCE);
	step(&a, VFIO_STOP);
	if (live)
		cr_assert_lt(copy(&a, &b), MIB / 2);
	else
		cr_assert_gt(copy(&a, &b), MIB);
	step(&a, VFIO_END_SAVE);
	step(&b, VFIO_FINISH_LOAD);
	step(&b, VFIO_ANSWER_DMA);
	step(&b, VFIO_RUN);
	cr_assert_eq(bar_read(&b.w, DIGEST, 8), was);
	cr_assert_eq(bar_read(&b.w, LOADED, 8), 1);
	unserve(&a);
	unserve(&b);
}

Test(vfio_user_state, v1_trapped)
{
	move(GW_SERVER_V1, GW_SERVER_TRAPPED, GW_SERVER_TRAPPED, false);
	move(GW_SERVER_V1, GW_SERVER_TRAPPED, GW_SERVER_TRAPPED, true);
}

Test(vfio_user_state, v1_mapped)
{
	move(GW_SERVER_V1, GW_SERVER_MAPPED, GW_SERVER_MAPPED, false);
	move(GW_SERVER_V1, GW_SERVER_MAPPED, GW_SERVER_TRAPPED, true);
}

Test(vfio_user_state, v1_mixed)
{
	move(GW_SERVER_V1, GW_SERVER_MIXED, GW_SERVER_MIXED, false);
	move(GW_SERVER_V1, GW_SERVER_TRAPPED, GW_SERVER_MIXED, true);
}

Test(vfio_user_state, v2)
{
	move(GW_SERVER_V2, GW_SERVER_TRAPPED, GW_SERVER_TRAPPED, false);
	move(GW_SERVER_V2, GW_SERVER_TRAPPED, GW_SERVER_TRAPPED, true);
}

Test(vfio_user_state, data_that_were_changed_are_refused_and_a_reset_mends_it_F1)
{
	static const enum gw_server_migration protocols[] = { GW_SERVER_V1, GW_SERVER_V2 };

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		struct bytes data = { 0 };
		struct gw_error err;
		struct served a;
		char buf[4096];
		ssize_t n;
		int r;

		serve(&a, "a", "", protocols[i], GW_SERVER_TRAPPED);
		step(&a, VFIO_QUIESCE);
		step(&a, VFIO_STOP);
		while ((n = vfio_state_read(a.w.pci->state, buf, sizeof(buf), &err)) > 0)
			bytes_put(&data, buf, (size_t)n);
		cr_assert_eq(vfio_state_run_again(a.w.pci->state, &err), 0, "%s", err.text);
		data.data[data.len / 2] ^= 1;
		step(&a, VFIO_BEGIN_LOAD);
		r = vfio_state_write(a.w.pci->state, data.data, data.len, &err);
		if (!r)
			r = vfio_state_step(a.w.pci->state, VFIO_FINISH_LOAD, &err);
		cr_assert_lt(r, 0, "%s", a.w.pci->state->ops->protocol);
		cr_assert_eq(vfio_state_discard(a.w.pci->state, &err), 0, "%s", err.text);
		cr_assert(vfio_state_runs(a.w.pci->state));
		bytes_free(&data);
		unserve(&a);
	}
}

static void fail_at(const char *faults, enum gw_server_migration migration, enum vfio_step at,
                    const char *arc)
{
	struct gw_error err;
	struct served s;
	char more[128];
	int r = 0;

	snprintf(more, sizeof(more), ",\"pre-copy\":true,\"fail\":\"%s\"", faults);
	serve(&s, "s", more, migration, GW_SERVER_TRAPPED);
	for (enum vfio_step next = VFIO_BEGIN_PRE_COPY; !r && next <= at; next++)
		r = vfio_state_step(s.w.pci->state, next, &err);
	cr_assert_eq(r, -EIO, "%s", faults);
	cr_assert(strstr(err.text, arc), "%s", err.text);
	cr_assert_eq(vfio_state_run_again(s.w.pci->state, &err), 0, "%s", err.text);
	cr_assert(vfio_state_runs(s.w.pci->state));
	unserve(&s);
}

Test(vfio_user_state, transitions_that_the_server_fails_F1_F4_F6)
{
	fail_at("RUNNING-PRE_COPY:EIO", GW_SERVER_V2, VFIO_BEGIN_PRE_COPY,
	        "from running to pre-copy");
	fail_at("PRE_COPY-PRE_COPY_P2P:EIO:error", GW_SERVER_V2, VFIO_QUIESCE,
	        "from pre-copy to pre-copy-p2p");
	fail_at("PRE_COPY_P2P-STOP_COPY:EIO", GW_SERVER_V2, VFIO_STOP,
	        "from pre-copy-p2p to stop-copy");
	fail_at("001-011:EIO", GW_SERVER_V1, VFIO_BEGIN_PRE_COPY, "from running to pre-copy");
	fail_at("011-010:EIO:error", GW_SERVER_V1, VFIO_QUIESCE, "from pre-copy to stop-copy");
}

/* What the guest writes to reset a function: Advanced Features, as the server has them. */
static void reset_by_guest(struct served *s)
{
	struct pci_function *f = &s->w.pci->function;

	cr_assert(s->w.pci->af_cap);
	machine_lock(s->w.vm->m);
	pci_config_write(f, s->w.pci->af_cap + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
	machine_unlock(s->w.vm->m);
}

/* It reaches the server: the session is over, the device runs, and what is copied then is what it
 * has become. */
static void reset_midway(enum gw_server_migration migration)
{
	struct vfio_state_pending pending;
	struct gw_error err;
	struct served a, b;
	char buf[4096];
	uint64_t was;

	serve(&a, "a", ",\"pre-copy\":true", migration, GW_SERVER_MIXED);
	serve(&b, "b", ",\"pre-copy\":true", migration, GW_SERVER_MIXED);
	bar_write(&a.w, CHANGE, 4, 3);
	step(&a, VFIO_BEGIN_PRE_COPY);
	step(&b, VFIO_BEGIN_LOAD);
	copy(&a, &b);
	was = bar_read(&a.w, DIGEST, 8);
	reset_by_guest(&a);
	cr_assert_neq(bar_read(&a.w, DIGEST, 8), was);
	was = bar_read(&a.w, DIGEST, 8);
	cr_assert_eq(vfio_state_read(a.w.pci->state, buf, sizeof(buf), &err), -ESTALE);
	cr_assert(vfio_state_runs(a.w.pci->state));
	cr_assert_eq(vfio_state_discard(b.w.pci->state, &err), 0, "%s", err.text);
	step(&b, VFIO_BEGIN_LOAD);
	step(&a, VFIO_BEGIN_PRE_COPY);
	cr_assert_eq(vfio_state_pending(a.w.pci->state, &pending, &err), 0, "%s", err.text);
	cr_assert_gt(copy(&a, &b), MIB, "from the beginning");
	step(&a, VFIO_QUIESCE);
	step(&a, VFIO_STOP);
	copy(&a, &b);
	step(&b, VFIO_FINISH_LOAD);
	step(&b, VFIO_ANSWER_DMA);
	step(&b, VFIO_RUN);
	cr_assert_eq(bar_read(&b.w, DIGEST, 8), was);
	unserve(&a);
	unserve(&b);
}

Test(vfio_user_state, the_guest_resets_it_in_mid_pre_copy_v1)
{
	reset_midway(GW_SERVER_V1);
}

Test(vfio_user_state, the_guest_resets_it_in_mid_pre_copy_v2)
{
	reset_midway(GW_SERVER_V2);
}
