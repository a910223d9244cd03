/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host wants its device back (its driver is being unbound, the device is
 * about to be removed), or has found it in an error that it cannot correct.
 * Either way the guest is asked to let go, for a while; then it is taken. The
 * kernel waits for that, and repeats the request.
 *
 * An error cannot be told to the guest in PCI's way: on a root bus it would go
 * through a root port above the device or an event collector (PCI Express Base
 * 5.0, 6.2.4.1), and there is neither. What the device did before it failed is
 * not to be trusted, so it does not stay.
 * Source: Linux uAPI, VFIO_PCI_REQ_IRQ_INDEX and VFIO_PCI_ERR_IRQ_INDEX.
 */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <stdio.h>
#include <unistd.h>

#define REPEAT_MS 1000

/* On the loop, without locks: whoever closes the watch waits for this, with them. */
static void give_back(struct vfio_pci *d, const char *event)
{
	const struct machine_notify *n = &d->device.machine->notify;
	char data[128];

	snprintf(data, sizeof(data), "{\"device-id\":\"%s\",\"timeout\":%u}", d->device.id,
	         d->device.give_back_ms);
	if (n->event)
		n->event(n->opaque, event, data);
	__atomic_store_n(&d->device.wanted_back, true, __ATOMIC_RELEASE);
	if (n->give_back)
		n->give_back(n->opaque);
}

/* Who repeats it without a pause is not listened to each time. */
static bool is_news(struct vfio_notice *notice)
{
	const int64_t now = now_ms();
	const bool news = now >= notice->deaf_until;

	io_eventfd_drain(notice->fd);
	if (news)
		notice->deaf_until = now + REPEAT_MS;
	return news;
}

static void on_wanted(void *opaque, int fd, uint32_t events)
{
	struct vfio_pci *d = opaque;

	(void)fd;
	(void)events;
	if (!is_news(&d->wanted))
		return;
	log_warn(d->device.machine->log, "device %s: %s wants %s back", d->device.id,
	         d->kind->holder, d->dev.name);
	give_back(d, "VFIO_DEVICE_REQUEST");
}

static void on_error(void *opaque, int fd, uint32_t events)
{
	struct vfio_pci *d = opaque;

	(void)fd;
	(void)events;
	if (!is_news(&d->in_error))
		return;
	log_error(d->device.machine->log,
	          "device %s: %s has found %s in an error that cannot be corrected", d->device.id,
	          d->kind->holder, d->dev.name);
	give_back(d, "VFIO_DEVICE_ERROR");
}

static int tell(struct vfio_pci *d, const struct vfio_notice *notice, unsigned index,
                struct gw_error *err)
{
	int r = vfio_irq_set(&d->dev, index, 0, &notice->fd, 1, err);

	return r > 0 ? -ENOSPC : r;
}

static void forget(struct vfio_pci *d, struct vfio_notice *notice, unsigned index)
{
	if (notice->fd < 0)
		return;
	vfio_irq_disable(&d->dev, index);
	loop_unwatch(notice->watch);
	close(notice->fd);
	*notice = (struct vfio_notice){ .fd = -1 };
}

/* A device without the index says nothing, nor does one that refuses it: nobody needs either to use
 * the device. */
static int listen_to(struct vfio_pci *d, struct vfio_notice *notice, unsigned index, loop_fd_fn fn,
                     struct gw_error *err)
{
	struct gw_error why;
	int r;

	if (!d->irqs[index].count)
		return 0;
	notice->fd = io_eventfd();
	if (notice->fd < 0)
		return error_set_sys(err, notice->fd, "eventfd");
	r = loop_watch(d->device.machine->loop, notice->fd, EPOLLIN, fn, d, &notice->watch, err);
	if (r < 0)
		return r;
	r = tell(d, notice, index, &why);
	if (r == -ENOTCONN)
		return error_set(err, r, "%s", why.text);
	if (r >= 0)
		return r;
	log_warn(d->device.machine->log, "device %s: %s; it cannot say that %s", d->device.id,
	         why.text, index == VFIO_PCI_REQ_IRQ_INDEX ? "it is wanted back" : "it has failed");
	forget(d, notice, index);
	return 0;
}

int vfio_wanted_init(struct vfio_pci *d, struct gw_error *err)
{
	int r = listen_to(d, &d->wanted, VFIO_PCI_REQ_IRQ_INDEX, on_wanted, err);

	return r ? r : listen_to(d, &d->in_error, VFIO_PCI_ERR_IRQ_INDEX, on_error, err);
}

void vfio_wanted_rearm(struct vfio_pci *d)
{
	struct gw_error err;
	int r = 0;

	if (d->wanted.fd >= 0)
		r = tell(d, &d->wanted, VFIO_PCI_REQ_IRQ_INDEX, &err);
	if (!r && d->in_error.fd >= 0)
		r = tell(d, &d->in_error, VFIO_PCI_ERR_IRQ_INDEX, &err);
	if (r < 0)
		log_error(d->device.machine->log, "device %s: %s", d->device.id, err.text);
}

void vfio_wanted_fini(struct vfio_pci *d)
{
	forget(d, &d->in_error, VFIO_PCI_ERR_IRQ_INDEX);
	forget(d, &d->wanted, VFIO_PCI_REQ_IRQ_INDEX);
}
