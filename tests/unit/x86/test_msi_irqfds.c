/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors by irqfd on a real KVM: what arrives at a local APIC. */
#include "pins.h"

#include "vmm/msix.h"
#include "vmm/pci.h"

#define VECTORS 4

struct fake_device {
	unsigned calls, count;
	int fds[VECTORS];
	int result;
};

static int set_vectors(void *opaque, const int *fds, unsigned count, struct gw_error *err)
{
	struct fake_device *d = opaque;

	d->calls++;
	d->count = count;
	if (count)
		memcpy(d->fds, fds, count * sizeof(int));
	return d->result ? error_set(err, d->result, "refused") : 0;
}

static const struct msi_irqfds_source source = { .set_vectors = set_vectors };

struct fixture {
	struct platform *p;
	struct fake_device device;
	struct pci_function function;
	struct msi_irqfds *q;
	struct msix *x;
	uint8_t cap[MSIX_CAP_SIZE];
};

static void begin(struct fixture *f)
{
	struct gw_error err = { 0 };

	memset(f, 0, sizeof(*f));
	f->p = platform_new_kvm();
	cr_assert_eq(msi_irqfds_create(&f->p->m, &f->function, "dev", VECTORS, &source, &f->device,
	                               &f->q, &err),
	             0, "%s", err.text);
	cr_assert_eq(msix_create(VECTORS, &msi_irqfds_ops, f->q, &f->x, &err), 0, "%s", err.text);
}

static void end(struct fixture *f)
{
	msix_destroy(f->x);
	msi_irqfds_destroy(f->q);
	platform_free(f->p);
}

static void enable(struct fixture *f, bool on)
{
	pci_set(f->cap, 2, 2, on ? 0x8000 : 0);
	msix_update(f->x, f->cap);
}

static void program(struct fixture *f, unsigned vector, uint32_t data)
{
	msix_table_write(f->x, vector * 16, 8, 0xfee00000);
	msix_table_write(f->x, vector * 16 + 8, 4, data);
}

static void set_mask(struct fixture *f, unsigned vector, bool masked)
{
	msix_table_write(f->x, vector * 16 + 12, 4, masked);
}

Test(msi_irqfds, an_eventfd_reaches_the_local_apic)
{
	struct fixture f;

	begin(&f);
	enable(&f, true);
	cr_assert_eq(f.device.calls, 0);
	cr_assert_eq(msi_irqfds_fd(f.q, 1), -1);
	program(&f, 1, 0x51);
	set_mask(&f, 1, false);
	cr_assert_eq(f.device.calls, 1);
	cr_assert_eq(f.device.count, VECTORS);
	cr_assert_eq(f.device.fds[0], -1);
	cr_assert_eq(f.device.fds[1], msi_irqfds_fd(f.q, 1));
	cr_assert_eq(platform_requested(f.p, 0x51, 0), 0);
	io_eventfd_signal(f.device.fds[1]);
	cr_assert_eq(platform_requested(f.p, 0x51, patience_ms()), 1);
	/* The guest moves the vector. */
	msix_table_write(f.x, 24, 4, 0x62);
	cr_assert_eq(f.device.calls, 1, "no business of the device");
	io_eventfd_signal(f.device.fds[1]);
	cr_assert_eq(platform_requested(f.p, 0x62, patience_ms()), 1);
	enable(&f, false);
	cr_assert_eq(f.device.calls, 2);
	cr_assert_eq(f.device.count, 0);
	cr_assert_eq(msi_irqfds_fd(f.q, 1), -1);
	end(&f);
}

Test(msi_irqfds, masked_interrupts_are_kept)
{
	struct fixture f;
	int fd;

	begin(&f);
	enable(&f, true);
	program(&f, 0, 0x71);
	set_mask(&f, 0, false);
	fd = msi_irqfds_fd(f.q, 0);
	set_mask(&f, 0, true);
	cr_assert_eq(msi_irqfds_fd(f.q, 0), fd, "the device keeps its eventfd");
	cr_assert_eq(f.device.calls, 1);
	cr_assert_eq(msix_pba_read(f.x, 0, 8), 0);
	io_eventfd_signal(fd);
	cr_assert_eq(platform_requested(f.p, 0x71, 50), 0);
	cr_assert_eq(msix_pba_read(f.x, 0, 8), 1);
	set_mask(&f, 0, false);
	cr_assert_eq(platform_requested(f.p, 0x71, patience_ms()), 1);
	cr_assert_eq(msix_pba_read(f.x, 0, 8), 0);
	/* One signal, one interrupt: nothing is left of it for the next time. */
	platform_forget(f.p);
	set_mask(&f, 0, true);
	cr_assert_eq(msix_pba_read(f.x, 0, 8), 0);
	set_mask(&f, 0, false);
	cr_assert_eq(platform_requested(f.p, 0x71, 50), 0);
	end(&f);
}

Test(msi_irqfds, loaded_vectors_start_together)
{
	struct fixture f;
	uint8_t state[VECTORS * 16 + 4] = { 0 };
	struct gw_error err = { 0 };

	begin(&f);
	for (unsigned i = 0; i < VECTORS; i++) {
		pci_set(state, i * 16, 4, 0xfee00000);
		pci_set(state, i * 16 + 8, 4, 0x80 + i);
	}
	state[VECTORS * 16] = 4; /* vector 2 is pending */
	cr_assert_eq(msix_load(f.x, state, sizeof(state), &err), 0);
	enable(&f, true);
	cr_assert_eq(f.device.calls, 1, "one call for all");
	cr_assert_eq(platform_requested(f.p, 0x82, patience_ms()), 1);
	cr_assert_eq(platform_requested(f.p, 0x81, 0), 0);
	for (unsigned i = 0; i < VECTORS; i++)
		io_eventfd_signal(f.device.fds[i]);
	for (unsigned i = 0; i < VECTORS; i++)
		cr_assert_eq(platform_requested(f.p, 0x80 + i, patience_ms()), 1);
	end(&f);
}

Test(msi_irqfds, a_device_that_refuses_does_no_harm)
{
	struct fixture f;

	begin(&f);
	f.device.result = -EINVAL;
	enable(&f, true);
	set_mask(&f, 0, false);
	cr_assert_eq(f.device.calls, 1);
	enable(&f, false);
	cr_assert_eq(f.device.calls, 2);
	end(&f);
}
