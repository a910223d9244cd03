/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts as the client sets them up: an eventfd for each MSI-X vector, one
 * for the INTx pin.
 *
 * MSI-X is on while any vector has an eventfd; a vector without one is masked,
 * and keeps its interrupt pending until it has. The pin is masked by itself
 * when it has been signalled (VFIO_IRQ_INFO_AUTOMASKED), and signalled again
 * if it is still high when the client unmasks it, by message or by eventfd.
 * Source: <linux/vfio.h>, VFIO_DEVICE_SET_IRQS.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/pci_internal.h"

#include <linux/pci_regs.h>
#include <string.h>
#include <sys/stat.h>

#define ENTRY_CONTROL 12 /* of a vector's entry in the table; bit 0 masks it */
#define CONTROL 2        /* of the capability */
#define CONTROL_ENABLE 0x8000u

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- the function's side ---- */

int server_irqs_init(struct server *s, struct gw_error *err)
{
	struct server_irqs *irqs = &s->irqs;
	int r = 0;

	irqs->has_pin = s->function->config[PCI_REG_IRQ_PIN];
	irqs->msix_cap = server_find_capability(s->function, PCI_CAP_ID_MSIX);
	if (!irqs->msix_cap)
		return 0;
	r = msix_parse(s->function->config + irqs->msix_cap, &irqs->layout, err);
	if (r < 0)
		return r;
	irqs->vector_fds = malloc(irqs->layout.vectors * sizeof(int));
	if (!irqs->vector_fds)
		return error_set(err, -ENOMEM, "interrupts: out of memory");
	irqs->vectors = irqs->layout.vectors;
	for (unsigned i = 0; i < irqs->vectors; i++)
		irqs->vector_fds[i] = -1;
	return 0;
}

int server_irqs_vector_fd(void *opaque, unsigned vector)
{
	const struct server *s = opaque;

	return vector < s->irqs.vectors ? s->irqs.vector_fds[vector] : -1;
}

static void mask_vector(struct server *s, unsigned vector, bool masked)
{
	const struct msix_layout *l = &s->irqs.layout;

	s->function->ops->bar_write(s->function, l->table_bar,
	                            l->table_offset + vector * MSIX_ENTRY_SIZE + ENTRY_CONTROL, 4,
	                            masked);
}

static void apply_enable(struct server *s)
{
	const unsigned at = s->irqs.msix_cap + CONTROL;
	bool any = false;

	for (unsigned i = 0; i < s->irqs.vectors; i++)
		any |= s->irqs.vector_fds[i] >= 0;
	if (s->irqs.msix_cap)
		pci_config_write(s->function, at, 2, any ? CONTROL_ENABLE : 0);
}

void server_irqs_apply(struct server *s)
{
	for (unsigned i = 0; i < s->irqs.vectors; i++)
		mask_vector(s, i, true);
	apply_enable(s);
	for (unsigned i = 0; i < s->irqs.vectors; i++)
		if (s->irqs.vector_fds[i] >= 0)
			mask_vector(s, i, false);
}

/* Takes `fd` over. Masked first, the old eventfd is let go of before it is closed. */
static void set_vector(struct server *s, unsigned vector, int fd)
{
	int *place = &s->irqs.vector_fds[vector];
	int old = *place;

	mask_vector(s, vector, true);
	*place = fd;
	apply_enable(s);
	if (fd >= 0)
		mask_vector(s, vector, false);
	close_fd(&old);
}

/* ---- the pin ---- */

static void signal_pin(struct server *s)
{
	struct server_irqs *irqs = &s->irqs;

	if (!irqs->pin_high || irqs->pin_masked || irqs->pin_fd < 0)
		return;
	irqs->pin_masked = true;
	io_eventfd_signal(irqs->pin_fd);
}

void server_irqs_set_pin(void *opaque, bool high)
{
	struct server *s = opaque;

	s->irqs.pin_high = high;
	signal_pin(s);
}

static void unmask_pin(struct server *s)
{
	s->irqs.pin_masked = false;
	signal_pin(s);
}

static void on_unmask(void *opaque, int fd, uint32_t events)
{
	struct server *s = opaque;

	(void)events;
	io_eventfd_drain(fd);
	machine_lock(s->machine);
	unmask_pin(s);
	machine_unlock(s->machine);
}

static int set_unmask_fd(struct server *s, int fd)
{
	struct server_irqs *irqs = &s->irqs;

	loop_unwatch(irqs->unmask_watch);
	irqs->unmask_watch = NULL;
	close_fd(&irqs->unmask_fd);
	irqs->unmask_fd = fd;
	if (fd < 0)
		return 0;
	return loop_watch(s->options.loop, fd, EPOLLIN, on_unmask, s, &irqs->unmask_watch, NULL);
}

static void set_pin_fd(struct server *s, int fd)
{
	close_fd(&s->irqs.pin_fd);
	s->irqs.pin_fd = fd;
	s->irqs.pin_masked = false;
	signal_pin(s);
}

/* ---- SET_IRQS ---- */

struct change {
	uint32_t index, start, count;
	uint32_t data, action; /* one flag each */
	const uint8_t *bools;
	struct wire_message *message;
};

/*
 * A descriptor that may be signalled from any thread: it must neither block nor raise SIGPIPE. An
 * eventfd is an anonymous inode, without a file type; pipes, sockets and files are not.
 */
static int take_eventfd(struct wire_message *message, unsigned index, int *out)
{
	autoclose int fd = wire_take_fd(message, index);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || (st.st_mode & S_IFMT))
		return -EINVAL;
	r = io_set_nonblock(fd, 1);
	*out = r < 0 ? -1 : take_fd(&fd);
	return r;
}

/* The descriptor for the i-th of a change; -1 if it brought none at all. */
static int fd_of(const struct change *c, unsigned i, int *out)
{
	*out = -1;
	return c->message->fd_count ? take_eventfd(c->message, i, out) : 0;
}

static bool chosen(const struct change *c, unsigned i)
{
	return c->data == VFIO_IRQ_SET_DATA_NONE || c->bools[i];
}

static int trigger_vectors(struct server *s, const struct change *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		const unsigned vector = c->start + i;
		int fd, r;

		if (c->data == VFIO_IRQ_SET_DATA_EVENTFD) {
			r = fd_of(c, i, &fd);
			if (r < 0)
				return r;
			set_vector(s, vector, fd);
		} else if (chosen(c, i) && s->irqs.vector_fds[vector] >= 0) {
			io_eventfd_signal(s->irqs.vector_fds[vector]);
		}
	}
	return 0;
}

static int disable_vectors(struct server *s)
{
	for (unsigned i = 0; i < s->irqs.vectors; i++)
		if (s->irqs.vector_fds[i] >= 0)
			set_vector(s, i, -1);
	return 0;
}

static int trigger_pin(struct server *s, const struct change *c)
{
	int fd, r;

	if (c->data == VFIO_IRQ_SET_DATA_EVENTFD) {
		r = fd_of(c, 0, &fd);
		if (r < 0)
			return r;
		set_pin_fd(s, fd);
	} else if (chosen(c, 0) && s->irqs.pin_fd >= 0) {
		io_eventfd_signal(s->irqs.pin_fd);
	}
	return 0;
}

static int disable_pin(struct server *s)
{
	set_unmask_fd(s, -1);
	set_pin_fd(s, -1);
	return 0;
}

static int mask_pin(struct server *s, const struct change *c)
{
	if (c->data == VFIO_IRQ_SET_DATA_EVENTFD)
		return -ENOTTY;
	if (chosen(c, 0))
		s->irqs.pin_masked = true;
	return 0;
}

static int unmask_pin_by(struct server *s, const struct change *c)
{
	int fd, r;

	if (c->data == VFIO_IRQ_SET_DATA_EVENTFD) {
		r = fd_of(c, 0, &fd);
		return r < 0 ? r : set_unmask_fd(s, fd);
	}
	if (chosen(c, 0))
		unmask_pin(s);
	return 0;
}

/* What each kind of interrupt can do; NULL: -ENOTTY, as the kernel's driver has it. */
static const struct {
	uint32_t index, action;
	int (*set)(struct server *s, const struct change *c);
	int (*disable)(struct server *s); /* the whole index: count 0 without data */
} settings[] = {
	{ VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, trigger_pin, disable_pin },
	{ VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_MASK, mask_pin, NULL },
	{ VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, unmask_pin_by, NULL },
	{ VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, trigger_vectors, disable_vectors },
};

unsigned server_irq_count(const struct server *s, unsigned index)
{
	if (index == VFIO_PCI_INTX_IRQ_INDEX)
		return s->irqs.has_pin;
	return index == VFIO_PCI_MSIX_IRQ_INDEX ? s->irqs.vectors : 0;
}

static bool one_bit(uint32_t bits)
{
	return bits && !(bits & (bits - 1));
}

/* Does what came with it fit what it says? */
static bool fits(const struct server *s, const struct change *c, size_t data_len)
{
	const unsigned most = server_irq_count(s, c->index);
	const unsigned fds = c->message->fd_count;

	if (!one_bit(c->data) || !one_bit(c->action) || c->start > most ||
	    c->count > most - c->start)
		return false;
	if (c->data == VFIO_IRQ_SET_DATA_EVENTFD)
		return c->count && (fds == 0 || fds == c->count);
	if (fds)
		return false;
	return c->data != VFIO_IRQ_SET_DATA_BOOL || data_len >= c->count;
}

static int change_irqs(struct server *s, const struct change *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (settings[i].index != c->index || settings[i].action != c->action)
			continue;
		if (c->count)
			return settings[i].set(s, c);
		if (!c->start && c->data == VFIO_IRQ_SET_DATA_NONE && settings[i].disable)
			return settings[i].disable(s);
		return -EINVAL;
	}
	return -ENOTTY;
}

int server_set_irqs(struct server *s, struct request *q)
{
	struct vfio_irq_set set;
	struct change c;
	int r;

	memcpy(&set, q->data, sizeof(set));
	c = (struct change){
		.index = set.index,
		.start = set.start,
		.count = set.count,
		.data = set.flags & VFIO_IRQ_SET_DATA_TYPE_MASK,
		.action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK,
		.bools = q->data + sizeof(set),
		.message = q->message,
	};
	if (set.argsz < sizeof(set) ||
	    (set.flags &
	     ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK)) ||
	    !fits(s, &c, q->len - sizeof(set)))
		return -EINVAL;
	machine_lock(s->machine);
	r = change_irqs(s, &c);
	machine_unlock(s->machine);
	return r;
}

/* ---- the end ---- */

void server_irqs_drop(struct server *s)
{
	machine_lock(s->machine);
	disable_pin(s);
	disable_vectors(s);
	machine_unlock(s->machine);
}

void server_irqs_fini(struct server *s)
{
	set_unmask_fd(s, -1);
	close_fd(&s->irqs.pin_fd);
	for (unsigned i = 0; i < s->irqs.vectors; i++)
		close_fd(&s->irqs.vector_fds[i]);
	free(s->irqs.vector_fds);
	s->irqs.vector_fds = NULL;
	s->irqs.vectors = 0;
}
