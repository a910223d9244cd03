/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq_pins.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/irq.h"
#include "vmm/machine.h"

#include <linux/kvm.h>
#include <string.h>

struct irq_pin {
	struct irq_pins *pins;
	uint32_t gsi;
	unsigned holders; /* by irq_share_line() */
	unsigned irqfds;
	bool shared; /* irq_share_line() was called */
	int line_fd,
	        eoi_fd; /* our own irqfd, while there is `watch`; the line is never raised by it */
	struct loop_watch *watch;
};

struct irq_pins {
	struct machine *machine;
	pthread_mutex_t change; /* held while a watch comes or goes; taken before the other one */
	pthread_mutex_t lock;   /* guards the rest, and the level with it */
	struct irq_pin pin[IRQ_LINES];
};

static int set_level(struct irq_pin *pin, bool high)
{
	return irq_set_line(pin->pins->machine->irqs, pin->gsi, high);
}

/* KVM has lowered the pin, and lets its own irqfds look for themselves. */
static void on_eoi(void *opaque, int fd, uint32_t events)
{
	struct irq_pin *pin = opaque;

	(void)events;
	io_eventfd_drain(fd);
	pthread_mutex_lock(&pin->pins->lock);
	if (pin->holders)
		set_level(pin, true);
	pthread_mutex_unlock(&pin->pins->lock);
}

static int own_irqfd(struct irq_pin *pin, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)pin->line_fd,
		.gsi = pin->gsi,
		.flags = flags,
		.resamplefd = (uint32_t)pin->eoi_fd,
	};

	return io_ioctl(pin->pins->machine->vm_fd, KVM_IRQFD, &irqfd);
}

static void stop_watching(struct irq_pin *pin)
{
	if (pin->watch)
		own_irqfd(pin, KVM_IRQFD_FLAG_DEASSIGN);
	loop_unwatch(pin->watch);
	pin->watch = NULL;
	if (pin->line_fd >= 0)
		close(pin->line_fd);
	if (pin->eoi_fd >= 0)
		close(pin->eoi_fd);
	pin->line_fd = pin->eoi_fd = -1;
}

static int start_watching(struct irq_pin *pin, struct gw_error *err)
{
	int r;

	pin->line_fd = io_eventfd();
	pin->eoi_fd = io_eventfd();
	if (pin->line_fd < 0 || pin->eoi_fd < 0)
		r = error_set(err, -EMFILE, "GSI %u: no eventfd to be had", pin->gsi);
	else
		r = loop_watch(pin->pins->machine->loop, pin->eoi_fd, EPOLLIN, on_eoi, pin,
		               &pin->watch, err);
	if (r < 0) {
		stop_watching(pin);
		return r;
	}
	r = own_irqfd(pin, KVM_IRQFD_FLAG_RESAMPLE);
	if (r < 0) {
		stop_watching(pin);
		return error_set_sys(err, r, "GSI %u: KVM_IRQFD", pin->gsi);
	}
	return 0;
}

/* While both kinds are on it. */
static int watch_if_needed(struct irq_pin *pin, struct gw_error *err)
{
	const bool needed = arch_platform.pins_have_one_level && pin->shared && pin->irqfds;

	if (needed && !pin->watch)
		return start_watching(pin, err);
	if (!needed)
		stop_watching(pin);
	return 0;
}

/* Both of `change` and `lock` are held. */
static int let_go(struct irq_pin *pin)
{
	return pin->watch ? 0 : set_level(pin, false);
}

int irq_pins_share(struct irq_pins *pins, uint32_t gsi, bool high)
{
	struct irq_pin *pin = &pins->pin[gsi];
	struct gw_error err;
	int r = 0;

	pthread_mutex_lock(&pins->change);
	pin->shared = true;
	if (watch_if_needed(pin, &err) < 0)
		log_warn(pins->machine->log, "interrupts may be lost: %s", err.text);
	pthread_mutex_lock(&pins->lock);
	if (high && pin->holders++ == 0)
		r = set_level(pin, true);
	else if (!high && --pin->holders == 0)
		r = let_go(pin);
	pthread_mutex_unlock(&pins->lock);
	pthread_mutex_unlock(&pins->change);
	return r;
}

int irq_pins_add_irqfd(struct irq_pins *pins, uint32_t gsi, struct gw_error *err)
{
	struct irq_pin *pin = &pins->pin[gsi];
	int r;

	pthread_mutex_lock(&pins->change);
	pin->irqfds++;
	r = watch_if_needed(pin, err);
	if (r < 0)
		pin->irqfds--;
	pthread_mutex_unlock(&pins->change);
	return r;
}

void irq_pins_remove_irqfd(struct irq_pins *pins, uint32_t gsi)
{
	struct irq_pin *pin = &pins->pin[gsi];
	bool watched;

	pthread_mutex_lock(&pins->change);
	watched = pin->watch;
	pin->irqfds--;
	watch_if_needed(pin, NULL);
	pthread_mutex_lock(&pins->lock);
	/* KVM has lowered it with the last irqfd, and will not lower it again. */
	if (watched && !pin->watch)
		set_level(pin, pin->holders);
	pthread_mutex_unlock(&pins->lock);
	pthread_mutex_unlock(&pins->change);
}

void irq_pins_settle(struct irq_pins *pins)
{
	const uint32_t first = arch_pci.intx_gsi;

	if (!arch_platform.pins_have_one_level)
		return;
	pthread_mutex_lock(&pins->lock);
	for (uint32_t gsi = first; gsi < first + arch_pci.intx_gsis; gsi++) {
		struct irq_pin *pin = &pins->pin[gsi];

		if (pin->holders || !pin->irqfds)
			set_level(pin, pin->holders);
	}
	pthread_mutex_unlock(&pins->lock);
}

int irq_pins_create(struct machine *m, struct irq_pins **out, struct gw_error *err)
{
	struct irq_pins *pins = calloc(1, sizeof(*pins));

	if (!pins)
		return error_set(err, -ENOMEM, "interrupts: out of memory");
	pins->machine = m;
	pthread_mutex_init(&pins->change, NULL);
	pthread_mutex_init(&pins->lock, NULL);
	for (uint32_t i = 0; i < IRQ_LINES; i++)
		pins->pin[i] =
		        (struct irq_pin){ .pins = pins, .gsi = i, .line_fd = -1, .eoi_fd = -1 };
	*out = pins;
	return 0;
}

void irq_pins_destroy(struct irq_pins *pins)
{
	if (!pins)
		return;
	for (uint32_t i = 0; i < IRQ_LINES; i++)
		stop_watching(&pins->pin[i]);
	pthread_mutex_destroy(&pins->change);
	pthread_mutex_destroy(&pins->lock);
	free(pins);
}
