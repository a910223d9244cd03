/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/irq_pins.h"
#include "vmm/machine.h"
#include "vmm/outside.h"

#include <linux/kvm.h>
#include <string.h>

#define IRQ_MSIS 1024 /* GSIs for MSI vectors */

struct irqs {
	struct machine *machine;
	bool with_requester;  /* KVM wants to know a message's sender */
	pthread_mutex_t lock; /* guards all below, and the order of KVM_SET_GSI_ROUTING */
	struct kvm_irq_routing_entry pins[ARCH_IRQ_ROUTES];
	unsigned pin_count;
	bool msi_used[IRQ_MSIS];
	bool msi_routed[IRQ_MSIS];
	struct msi_message msi[IRQ_MSIS];
	int msi_fd[IRQ_MSIS];   /* the irqfd that raises it; -1: none */
	bool msi_off[IRQ_MSIS]; /* KVM did not take that irqfd back */
	struct irq_pins *shared_pins;
};

static struct kvm_irq_routing_entry msi_entry(const struct irqs *irqs, uint32_t gsi,
                                              const struct msi_message *msg)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.flags = irqs->with_requester ? KVM_MSI_VALID_DEVID : 0,
		.u.msi = {
			.address_lo = (uint32_t)msg->address,
			.address_hi = (uint32_t)(msg->address >> 32),
			.data = msg->data,
			.devid = irqs->with_requester ? msg->requester : 0,
		},
	};
}

/* KVM takes the whole table at once (KVM API, 4.52). */
static int commit(struct irqs *irqs, struct gw_error *err)
{
	autofree struct kvm_irq_routing *table = calloc(
	        1, sizeof(*table) + (ARCH_IRQ_ROUTES + IRQ_MSIS) * sizeof(table->entries[0]));
	int r;

	if (!table)
		return error_set(err, -ENOMEM, "interrupt routing: out of memory");
	memcpy(table->entries, irqs->pins, irqs->pin_count * sizeof(irqs->pins[0]));
	table->nr = irqs->pin_count;
	for (uint32_t i = 0; i < IRQ_MSIS; i++)
		if (irqs->msi_routed[i])
			table->entries[table->nr++] = msi_entry(irqs, IRQ_LINES + i, &irqs->msi[i]);
	r = io_ioctl(irqs->machine->vm_fd, KVM_SET_GSI_ROUTING, table);
	return r < 0 ? error_set_sys(err, r, "KVM_SET_GSI_ROUTING (%u entries)", table->nr) : 0;
}

int irqs_create(struct machine *m, struct irqs **out, struct gw_error *err)
{
	struct irqs *irqs = calloc(1, sizeof(*irqs));
	int r;

	if (!irqs)
		return error_set(err, -ENOMEM, "interrupts: out of memory");
	irqs->machine = m;
	for (unsigned i = 0; i < IRQ_MSIS; i++)
		irqs->msi_fd[i] = -1;
	pthread_mutex_init(&irqs->lock, NULL);
	/* KVM API, 4.70 (KVM_MSI_VALID_DEVID): by VM, so after the interrupt controller is made. */
	irqs->with_requester = !m->outside && io_ioctl(m->vm_fd, KVM_CHECK_EXTENSION,
	                                               (void *)KVM_CAP_MSI_DEVID) > 0;
	irqs->pin_count = arch_irq_routes(irqs->pins);
	r = irq_pins_create(m, &irqs->shared_pins, err);
	if (!r && !m->outside)
		r = commit(irqs, err);
	if (r < 0) {
		irqs_destroy(irqs);
		return r;
	}
	*out = irqs;
	return 0;
}

void irqs_destroy(struct irqs *irqs)
{
	if (!irqs)
		return;
	irq_pins_destroy(irqs->shared_pins);
	pthread_mutex_destroy(&irqs->lock);
	free(irqs);
}

int irq_set_line(struct irqs *irqs, uint32_t gsi, int level)
{
	struct kvm_irq_level line = { .irq = arch_irq_line(gsi), .level = level ? 1 : 0 };
	const struct machine_outside *outside = irqs->machine->outside;

	if (outside) {
		outside->set_pin(outside->opaque, level);
		return 0;
	}
	return io_ioctl(irqs->machine->vm_fd, KVM_IRQ_LINE, &line);
}

int irq_share_line(struct irqs *irqs, uint32_t gsi, bool high)
{
	return irq_pins_share(irqs->shared_pins, gsi, high);
}

int irq_send_msi(struct irqs *irqs, const struct msi_message *msg)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)msg->address,
		.address_hi = (uint32_t)(msg->address >> 32),
		.data = msg->data,
		.flags = irqs->with_requester ? KVM_MSI_VALID_DEVID : 0,
		.devid = irqs->with_requester ? msg->requester : 0,
	};

	return io_ioctl(irqs->machine->vm_fd, KVM_SIGNAL_MSI, &msi);
}

int irq_alloc_msi(struct irqs *irqs, uint32_t *gsi, struct gw_error *err)
{
	int r = error_set(err, -ENOSPC, "all %d GSIs for MSI vectors are taken", IRQ_MSIS);

	pthread_mutex_lock(&irqs->lock);
	for (uint32_t i = 0; i < IRQ_MSIS; i++) {
		if (irqs->msi_used[i])
			continue;
		irqs->msi_used[i] = true;
		*gsi = IRQ_LINES + i;
		r = 0;
		break;
	}
	pthread_mutex_unlock(&irqs->lock);
	return r;
}

static bool is_msi(uint32_t gsi)
{
	return gsi >= IRQ_LINES && gsi - IRQ_LINES < IRQ_MSIS;
}

/* Puts the messages into the table; true if that changed anything. */
static bool enter_msis(struct irqs *irqs, const uint32_t *gsis, const struct msi_message *msgs,
                       unsigned count)
{
	bool changed = false;

	for (unsigned n = 0; n < count; n++) {
		uint32_t i = gsis[n] - IRQ_LINES;

		if (irqs->msi_routed[i] && irqs->msi[i].address == msgs[n].address &&
		    irqs->msi[i].data == msgs[n].data &&
		    irqs->msi[i].requester == msgs[n].requester)
			continue;
		irqs->msi[i] = msgs[n];
		irqs->msi_routed[i] = true;
		changed = true;
	}
	return changed;
}

int irq_route_msis(struct irqs *irqs, const uint32_t *gsis, const struct msi_message *msgs,
                   unsigned count, struct gw_error *err)
{
	int r = 0;

	pthread_mutex_lock(&irqs->lock);
	for (unsigned n = 0; n < count && !r; n++)
		if (!is_msi(gsis[n]) || !irqs->msi_used[gsis[n] - IRQ_LINES])
			r = error_set(err, -EINVAL, "GSI %u is no MSI vector's", gsis[n]);
	if (!r && enter_msis(irqs, gsis, msgs, count)) {
		r = commit(irqs, err);
		/* An entry that KVM refuses must not spoil every later update. */
		for (unsigned n = 0; n < count && r; n++)
			irqs->msi_routed[gsis[n] - IRQ_LINES] = false;
	}
	pthread_mutex_unlock(&irqs->lock);
	return r;
}

int irq_route_msi(struct irqs *irqs, uint32_t gsi, const struct msi_message *msg,
                  struct gw_error *err)
{
	return irq_route_msis(irqs, &gsi, msg, 1, err);
}

void irq_free_msi(struct irqs *irqs, uint32_t gsi)
{
	uint32_t i = gsi - IRQ_LINES;

	if (!is_msi(gsi))
		return;
	pthread_mutex_lock(&irqs->lock);
	/* KVM's table keeps it until that is next written: nothing signals it any more, and a
	 * device that goes would have KVM take the whole table once for each of its vectors. */
	irqs->msi_used[i] = irqs->msi_routed[i] = false;
	pthread_mutex_unlock(&irqs->lock);
}

static int set_irqfd(struct irqs *irqs, uint32_t gsi, int fd, uint32_t flags, int resample_fd)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = flags,
		.resamplefd = resample_fd < 0 ? 0 : (uint32_t)resample_fd,
	};

	return io_ioctl(irqs->machine->vm_fd, KVM_IRQFD, &irqfd);
}

static int attach_msi(struct irqs *irqs, uint32_t gsi, int fd)
{
	int r;

	pthread_mutex_lock(&irqs->lock);
	r = set_irqfd(irqs, gsi, fd, 0, -1);
	if (!r) {
		irqs->msi_fd[gsi - IRQ_LINES] = fd;
		irqs->msi_off[gsi - IRQ_LINES] = false;
	}
	pthread_mutex_unlock(&irqs->lock);
	return r;
}

static int attach_pin(struct irqs *irqs, uint32_t gsi, int fd, int resample_fd,
                      struct gw_error *err)
{
	int r = irq_pins_add_irqfd(irqs->shared_pins, gsi, err);

	if (r < 0)
		return r;
	r = set_irqfd(irqs, gsi, fd, resample_fd < 0 ? 0 : KVM_IRQFD_FLAG_RESAMPLE, resample_fd);
	if (r < 0)
		irq_pins_remove_irqfd(irqs->shared_pins, gsi);
	return r < 0 ? error_set_sys(err, r, "GSI %u: KVM_IRQFD", gsi) : 0;
}

int irq_attach_fd(struct irqs *irqs, uint32_t gsi, int fd, int resample_fd, struct gw_error *err)
{
	int r;

	if (!is_msi(gsi))
		return attach_pin(irqs, gsi, fd, resample_fd, err);
	r = attach_msi(irqs, gsi, fd);
	return r < 0 ? error_set_sys(err, r, "GSI %u: KVM_IRQFD", gsi) : 0;
}

void irq_detach_fd(struct irqs *irqs, uint32_t gsi, int fd)
{
	if (is_msi(gsi)) {
		pthread_mutex_lock(&irqs->lock);
		set_irqfd(irqs, gsi, fd, KVM_IRQFD_FLAG_DEASSIGN, -1);
		irqs->msi_fd[gsi - IRQ_LINES] = -1;
		pthread_mutex_unlock(&irqs->lock);
		return;
	}
	set_irqfd(irqs, gsi, fd, KVM_IRQFD_FLAG_DEASSIGN, -1);
	irq_pins_remove_irqfd(irqs->shared_pins, gsi);
}

/* With the lock held. */
static int attach_again(struct irqs *irqs, uint32_t i, struct gw_error *err)
{
	const int r = set_irqfd(irqs, IRQ_LINES + i, irqs->msi_fd[i], 0, -1);

	irqs->msi_off[i] = r < 0;
	return r < 0 ? error_set_sys(err, r, "GSI %u: KVM_IRQFD", IRQ_LINES + i) : 0;
}

/*
 * KVM injects a message in the context of the signal only where it has the target at hand; on x86
 * that is not so for a broadcast, say, on arm64 for a translation that the ITS has not cached. The
 * others wait in a work item, and neither a new routing table nor reading the interrupt controller
 * waits for that. Taking an irqfd away does: KVM returns when the work item is done. What is
 * signalled before the irqfd is back stays in the eventfd, and is injected then.
 */
int irqs_flush(struct irqs *irqs, struct gw_error *err)
{
	int r = 0;

	pthread_mutex_lock(&irqs->lock);
	for (uint32_t i = 0; i < IRQ_MSIS && !r; i++) {
		if (irqs->msi_fd[i] < 0)
			continue;
		set_irqfd(irqs, IRQ_LINES + i, irqs->msi_fd[i], KVM_IRQFD_FLAG_DEASSIGN, -1);
		r = attach_again(irqs, i, err);
	}
	pthread_mutex_unlock(&irqs->lock);
	return r;
}

void irqs_settle(struct irqs *irqs)
{
	irq_pins_settle(irqs->shared_pins);
	pthread_mutex_lock(&irqs->lock);
	for (uint32_t i = 0; i < IRQ_MSIS; i++) {
		struct gw_error err;

		if (irqs->msi_fd[i] >= 0 && irqs->msi_off[i] && attach_again(irqs, i, &err) < 0)
			log_error(irqs->machine->log, "interrupts are lost: %s", err.text);
	}
	pthread_mutex_unlock(&irqs->lock);
}
