/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msi_irqfds.h"

#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/outside.h"
#include "vmm/pci.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct irqfd_vector {
	int fd; /* -1: not in use; it has a GSI exactly while it has an fd */
	uint32_t gsi;
	struct msi_message msg;
	bool on;       /* wanted: not masked */
	bool attached; /* KVM listens to fd */
	bool unrouted; /* msg is not yet in KVM's table */
	bool leaving;  /* to be closed once the device no longer signals it */
};

struct msi_irqfds {
	struct machine *machine;
	struct pci_function *function;
	struct msi_irqfds *next; /* of the same function */
	const char *name;
	const struct msi_irqfds_source *source;
	void *opaque;
	unsigned count;
	bool changed; /* the device must be told of other eventfds */
	struct irqfd_vector *v;
	int *fds; /* as the device was told */
	/* room for one update of the routing */
	uint32_t *route_gsis;
	struct msi_message *route_msgs;
};

static void close_vector(struct msi_irqfds *q, struct irqfd_vector *v)
{
	if (v->attached)
		irq_detach_fd(q->machine->irqs, v->gsi, v->fd);
	if (v->fd >= 0 && !q->machine->outside)
		irq_free_msi(q->machine->irqs, v->gsi);
	if (v->fd >= 0)
		close(v->fd);
	*v = (struct irqfd_vector){ .fd = -1 };
}

static int open_outside(struct msi_irqfds *q, struct irqfd_vector *v, struct gw_error *err)
{
	const struct machine_outside *outside = q->machine->outside;
	const int fd = outside->vector_fd(outside->opaque, (unsigned)(v - q->v));

	/* Without one it stays silent until the owner has one and unmasks it again. */
	if (fd < 0)
		return 0;
	v->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (v->fd < 0)
		return error_set_sys(err, -errno, "eventfd");
	q->changed = true;
	return 0;
}

static int open_own(struct msi_irqfds *q, struct irqfd_vector *v, struct gw_error *err)
{
	autoclose int fd = io_eventfd();
	int r;

	if (fd < 0)
		return error_set_sys(err, fd, "eventfd");
	r = irq_alloc_msi(q->machine->irqs, &v->gsi, err);
	if (r < 0)
		return r;
	v->fd = take_fd(&fd);
	q->changed = true;
	return 0;
}

static int open_vector(struct msi_irqfds *q, struct irqfd_vector *v, struct gw_error *err)
{
	if (q->machine->outside)
		return open_outside(q, v, err);
	return open_own(q, v, err);
}

static void vector_use(void *opaque, unsigned vector, const struct msi_message *msg)
{
	struct msi_irqfds *q = opaque;
	struct irqfd_vector *v = &q->v[vector];
	struct gw_error err = { 0 };

	if (v->leaving) {
		v->leaving = false;
		q->changed = true;
	}
	if (v->fd < 0 && open_vector(q, v, &err) < 0) {
		log_error(q->machine->log, "%s: vector %u: %s", q->name, vector, err.text);
		return;
	}
	v->msg = *msg;
	v->msg.requester = pci_requester(q->function);
	v->on = true;
	v->unrouted = true;
}

static void leave_vector(struct msi_irqfds *q, struct irqfd_vector *v)
{
	if (v->fd < 0)
		return;
	v->leaving = true;
	q->changed = true;
}

static void vector_mask(void *opaque, unsigned vector)
{
	struct msi_irqfds *q = opaque;
	struct irqfd_vector *v = &q->v[vector];

	v->on = false;
	if (v->attached)
		irq_detach_fd(q->machine->irqs, v->gsi, v->fd);
	v->attached = false;
	/* Whatever is signalled there is the other side's at once. */
	if (q->machine->outside)
		leave_vector(q, v);
}

static void vector_release(void *opaque, unsigned vector)
{
	struct msi_irqfds *q = opaque;

	vector_mask(opaque, vector);
	leave_vector(q, &q->v[vector]);
}

/* Takes a signal out of the eventfd, if there is one. */
static bool vector_raised(void *opaque, unsigned vector)
{
	struct msi_irqfds *q = opaque;

	return q->v[vector].fd >= 0 && !q->machine->outside && io_eventfd_drain(q->v[vector].fd);
}

static void vector_fire(void *opaque, unsigned vector, const struct msi_message *msg)
{
	struct msi_irqfds *q = opaque;
	struct msi_message sent = *msg;

	sent.requester = pci_requester(q->function);
	/* By the eventfd only where it is the one way: a device in another process could have made
	 * it block. */
	if (!q->machine->outside)
		irq_send_msi(q->machine->irqs, &sent);
	else if (q->v[vector].fd >= 0)
		io_eventfd_signal(q->v[vector].fd);
}

static void route_all(struct msi_irqfds *q)
{
	struct gw_error err = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < q->count; i++) {
		struct irqfd_vector *v = &q->v[i];

		if (!v->unrouted || !v->on)
			continue;
		q->route_gsis[n] = v->gsi;
		q->route_msgs[n] = v->msg;
		n++;
		v->unrouted = false;
	}
	if (n && irq_route_msis(q->machine->irqs, q->route_gsis, q->route_msgs, n, &err) < 0)
		log_error(q->machine->log, "%s: routing %u vectors: %s", q->name, n, err.text);
}

static void attach_all(struct msi_irqfds *q)
{
	for (unsigned i = 0; i < q->count; i++) {
		struct irqfd_vector *v = &q->v[i];
		struct gw_error err = { 0 };

		if (!v->on || v->attached)
			continue;
		if (irq_attach_fd(q->machine->irqs, v->gsi, v->fd, -1, &err) < 0) {
			log_error(q->machine->log, "%s: vector %u: %s", q->name, i, err.text);
			continue;
		}
		v->attached = true;
		/* KVM injects at once if it finds the eventfd signalled, but leaves the count
		 * in it, which would look like a new signal when the vector is next masked. A
		 * signal that comes from now on is KVM's before it can be read here. */
		vector_raised(q, i);
	}
}

static void tell_device(struct msi_irqfds *q)
{
	struct gw_error err = { 0 };
	bool any = false;
	int r = 0;

	for (unsigned i = 0; i < q->count; i++) {
		q->fds[i] = q->v[i].leaving ? -1 : q->v[i].fd;
		any |= q->fds[i] >= 0;
	}
	q->changed = false;
	if (q->source && q->source->set_vectors)
		r = q->source->set_vectors(q->opaque, q->fds, any ? q->count : 0, &err);
	if (r < 0)
		log_error(q->machine->log, "%s: setting up interrupts: %s", q->name, err.text);
	for (unsigned i = 0; i < q->count; i++) {
		if (q->v[i].leaving)
			close_vector(q, &q->v[i]);
	}
}

/* Routes before it attaches, and both before the device signals: an interrupt never finds its
 * way unfinished. */
static void vectors_commit(void *opaque)
{
	struct msi_irqfds *q = opaque;

	if (!q->machine->outside) {
		route_all(q);
		attach_all(q);
	}
	if (q->changed)
		tell_device(q);
}

const struct msi_vector_ops msi_irqfds_ops = {
	.use = vector_use,
	.mask = vector_mask,
	.release = vector_release,
	.raised = vector_raised,
	.fire = vector_fire,
	.commit = vectors_commit,
};

void msi_irqfds_renumbered(struct pci_function *f)
{
	const uint32_t requester = pci_requester(f);

	for (struct msi_irqfds *q = f->irqfds; q; q = q->next) {
		if (q->machine->outside)
			continue;
		for (unsigned i = 0; i < q->count; i++) {
			struct irqfd_vector *v = &q->v[i];

			v->unrouted |= v->on && v->msg.requester != requester;
			v->msg.requester = requester;
		}
		route_all(q);
	}
}

int msi_irqfds_create(struct machine *m, struct pci_function *f, const char *name, unsigned vectors,
                      const struct msi_irqfds_source *source, void *opaque, struct msi_irqfds **out,
                      struct gw_error *err)
{
	struct msi_irqfds *q = calloc(1, sizeof(*q));

	if (!q)
		return error_set(err, -ENOMEM, "no memory");
	q->machine = m;
	q->function = f;
	q->name = name;
	q->source = source;
	q->opaque = opaque;
	q->v = calloc(vectors, sizeof(*q->v));
	q->fds = calloc(vectors, sizeof(*q->fds));
	q->route_gsis = calloc(vectors, sizeof(*q->route_gsis));
	q->route_msgs = calloc(vectors, sizeof(*q->route_msgs));
	if (!q->v || !q->fds || !q->route_gsis || !q->route_msgs) {
		msi_irqfds_destroy(q);
		return error_set(err, -ENOMEM, "no memory for %u vectors", vectors);
	}
	q->count = vectors;
	for (unsigned i = 0; i < vectors; i++)
		q->v[i].fd = -1;
	q->next = f->irqfds;
	f->irqfds = q;
	*out = q;
	return 0;
}

void msi_irqfds_destroy(struct msi_irqfds *q)
{
	if (!q)
		return;
	for (struct msi_irqfds **at = &q->function->irqfds; *at; at = &(*at)->next) {
		if (*at == q) {
			*at = q->next;
			break;
		}
	}
	for (unsigned i = 0; i < q->count; i++)
		close_vector(q, &q->v[i]);
	free(q->route_msgs);
	free(q->route_gsis);
	free(q->fds);
	free(q->v);
	free(q);
}

int msi_irqfds_fd(const struct msi_irqfds *q, unsigned vector)
{
	return vector < q->count ? q->v[vector].fd : -1;
}
