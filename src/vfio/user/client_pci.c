/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver: a device of another process becomes a PCI function of the
 * machine, as one of the host does (src/vfio/pci.c).
 *
 * When the server is gone the function stays: reads give all ones, writes go
 * nowhere, its interrupts are silent. A server that comes back with the same
 * device gets it all again, and the device is reset. Its driver in the guest
 * has to begin anew, as after any reset that it did not ask for.
 */
#include "vfio/user/client_device.h"
#include "vfio/user/user.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct config_key user_keys[] = {
	CONFIG_ROW_TEXT(NULL, "socket", CONFIG_OF_HOST, struct vfio_user_options, socket,
	                "UNIX socket on which a vfio-user server listens; this or fd is required"),
	CONFIG_ROW_TEXT(NULL, "fd", CONFIG_OF_HOST, struct vfio_user_options, fd,
	                "instead of socket: name of a given descriptor, connected to the server"),
	CONFIG_ROW_NUMBER(NULL, "timeout", CONFIG_UINT, 0, struct vfio_user_options, timeout, 100,
	                  600000, "5000",
	                  "milliseconds after which a server that does not reply is given up; six "
	                  "times as much for resets and changes of state"),
	VFIO_ROWS,
	CONFIG_ROW_END,
};

static int check_host(const void *opaque, struct gw_error *err)
{
	const struct vfio_user_options *o = opaque;
	struct stat st;

	if (!o->socket[0] == !o->fd[0])
		return error_set(err, -EINVAL, "socket: give either this or fd");
	if (!o->socket[0])
		return 0;
	if (strlen(o->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return error_set(err, -ENAMETOOLONG, "socket: %s: longer than a socket's path",
		                 o->socket);
	if (stat(o->socket, &st) < 0)
		return error_set_sys(err, -errno, "socket: %s", o->socket);
	return S_ISSOCK(st.st_mode) ? 0
	                            : error_set(err, -ENOTSOCK, "socket: %s: no socket", o->socket);
}

/* ---- what the connection asks for (client.h) ------------------------------------------------- */

static int connect_path(const char *path, struct gw_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: longer than a socket's path", path);
	strcpy(address.sun_path, path);
	if (fd < 0)
		return error_set_sys(err, -errno, "socket");
	/* EAGAIN: so many wait already that one more would have to wait for that. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_sys(err, -errno, "connecting");
	return take_fd(&fd);
}

static int on_connect(void *opaque, struct gw_error *err)
{
	struct vfu_device *d = opaque;
	int fd;

	if (d->socket[0])
		return connect_path(d->socket, err);
	fd = machine_fd(d->pci->device.machine, d->fd);
	return fd < 0 ? error_set_sys(err, fd, "descriptor \"%s\"", d->fd) : fd;
}

static int on_dma(void *opaque, bool write, uint64_t address, void *buf, size_t len)
{
	struct vfu_device *d = opaque;

	return vfu_space_access(d->space, write, address, buf, len);
}

static void emit(struct vfu_device *d, const char *name, const char *why)
{
	struct machine *m = d->pci->device.machine;
	cJSON *data = cJSON_CreateObject();
	char *text = NULL;

	if (cJSON_AddStringToObject(data, "device", d->pci->device.id) &&
	    (!why || cJSON_AddStringToObject(data, "reason", why)))
		text = cJSON_PrintUnformatted(data);
	if (text && m->notify.event)
		m->notify.event(m->notify.opaque, name, text);
	free(text);
	cJSON_Delete(data);
}

static void on_lost(void *opaque, const char *why)
{
	struct vfu_device *d = opaque;
	struct machine *m = d->pci->device.machine;

	log_error(m->log, "device %s: the server at %s is gone: %s", d->pci->device.id, d->name,
	          why);
	emit(d, "DEVICE_BROKEN", why);
	machine_defer(m);
}

/* The device is read anew, through the new connection. */
static int read_again(struct vfu_device *d, struct gw_error *err)
{
	autofree struct vfu_identity *is = calloc(1, sizeof(*is));
	struct vfio_dev now = { .ops = &vfu_host_ops, .fd = -1, .connection = d, .name = d->name };
	int r;

	if (!is)
		return error_set(err, -ENOMEM, "out of memory");
	r = vfio_dev_read(&now, err);
	if (!r)
		r = vfu_identify(&now, is, err);
	if (!r)
		r = vfu_identity_compare(&d->identity, is, err);
	if (!r)
		r = vfu_space_tell_again(d->space, err);
	/* Where in its file a region is may be another place now. */
	for (unsigned i = 0; i < VFIO_REGIONS && !r; i++)
		d->pci->dev.regions[i].offset = now.regions[i].offset;
	return r;
}

/* A server that refuses may go on doing so: some serve no device that was stopped when they lost
 * their client. */
static int on_again(void *opaque, struct gw_error *err)
{
	struct vfu_device *d = opaque;
	int r = read_again(d, err);

	if (r < 0 && r != -ENOTCONN)
		error_append(err,
		             "the server answers, but not for this device: restart it, or unplug "
		             "the device (device_del id=%s)",
		             d->pci->device.id);
	return r;
}

static void on_quit(void *opaque, struct machine_quit_hook *hook, bool on)
{
	struct vfu_device *d = opaque;

	machine_on_quit(d->pci->device.machine, hook, on);
}

static void on_ready(void *opaque)
{
	struct vfu_device *d = opaque;

	machine_defer(d->pci->device.machine);
}

/* ---- gone and back, as the guest sees it: with the device lock
 * ------------------------------------ */

static void show_bars(struct vfio_pci *pci)
{
	for (unsigned bar = 0; bar < PCI_BARS; bar++)
		vfio_bar_changed(&pci->function, bar);
}

/* The new server's memory in place of the old one's. */
static int map_anew(struct vfio_pci *pci)
{
	for (unsigned i = 0; i < pci->window_count; i++) {
		struct vfio_window *w = &pci->windows[i];
		void *hva = vfio_area_map(&pci->dev, w->bar, &w->area);

		if (hva == MAP_FAILED)
			return -errno;
		if (mremap(hva, w->area.size, w->area.size, MREMAP_MAYMOVE | MREMAP_FIXED,
		           w->hva) == MAP_FAILED) {
			munmap(hva, w->area.size);
			return -errno;
		}
	}
	return 0;
}

static void revive(struct vfu_device *d)
{
	struct vfio_pci *pci = d->pci;
	const struct log *log = pci->device.machine->log;
	struct gw_error err;
	int r;

	if (vfu_space_is_stale(d->space)) {
		vfu_break(d->vfu, "guest memory has changed while it was set up");
		return;
	}
	r = map_anew(pci);
	if (r < 0) {
		vfu_give_up(d->vfu, "its memory cannot be mapped any more: %s", strerror(-r));
		return;
	}
	if (pci->dev.can_reset && vfio_dev_reset(&pci->dev, &err) < 0)
		log_warn(log, "device %s: %s", pci->device.id, err.text);
	vfu_ios_read(d);
	pci->concealed = false;
	show_bars(pci);
	vfio_config_push_command(pci);
	vfio_intr_rearm(pci);
	vfio_wanted_rearm(pci);
	vfio_participant_was_reset(pci);
	vfu_settle(d->vfu);
	if (vfu_is_lost(d->vfu))
		return;
	log_info(log, "device %s: the server at %s is back, and the device was reset",
	         pci->device.id, d->name);
	emit(d, "DEVICE_REPAIRED", NULL);
}

static struct vfu_device *of(struct device *device)
{
	return container_of(device, struct vfio_pci, device)->backend;
}

static void deferred(struct device *device)
{
	struct vfu_device *d = of(device);

	if (vfu_is_lost(d->vfu) && !d->pci->concealed) {
		d->pci->concealed = true;
		show_bars(d->pci);
	}
	if (vfu_admit(d->vfu))
		revive(d);
}

/* ---- making it
 * ------------------------------------------------------------------------------------- */

static int connect_device(struct vfu_device *d, const struct vfio_user_options *o,
                          struct gw_error *err)
{
	struct vfio_pci *pci = d->pci;
	const struct vfu_owner owner = {
		.opaque = d,
		.name = d->name,
		.log = pci->device.machine->log,
		.timeout_ms = (int)o->timeout,
		.connect = on_connect,
		.dma = on_dma,
		.lost = on_lost,
		.again = on_again,
		.ready = on_ready,
		.on_quit = on_quit,
	};
	int r = vfu_space_create(pci->device.machine, d->name, &d->space, err);

	if (r < 0)
		return r;
	pci->space = vfu_space_base(d->space);
	r = vfu_create(&owner, &d->vfu, err);
	if (r < 0)
		return r;
	vfu_space_set(d->space, d->vfu);
	pci->dev = (struct vfio_dev){
		.ops = &vfu_host_ops, .fd = -1, .connection = d, .name = d->name
	};
	return vfio_dev_read(&pci->dev, err);
}

/* A server has one client: a second one would wait for it in vain. */
static int check_alone(const struct machine *m, const char *socket, struct gw_error *err)
{
	struct stat ours, theirs;

	if (!socket[0] || stat(socket, &ours) < 0)
		return 0;
	for (struct device *d = m->devices; d; d = d->next) {
		const struct vfu_device *other;

		if (d->driver != &vfio_user_pci_driver)
			continue;
		other = of(d);
		if (other->socket[0] && !stat(other->socket, &theirs) &&
		    ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
			return error_set(
			        err, -EBUSY,
			        "socket: %s is that of device \"%s\" of this machine already",
			        socket, d->id);
	}
	return 0;
}

static int open_device(struct vfio_pci *pci, const void *opaque, struct gw_error *err)
{
	const struct vfio_user_options *o = opaque;
	struct vfu_device *d;
	int r = check_host(opaque, err);

	if (!r)
		r = check_alone(pci->device.machine, o->socket, err);
	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	pci->backend = d;
	d->pci = pci;
	for (unsigned i = 0; i < VFIO_REGIONS; i++)
		d->region_fds[i] = -1;
	memcpy(d->socket, o->socket, sizeof(d->socket));
	memcpy(d->fd, o->fd, sizeof(d->fd));
	if (o->socket[0])
		snprintf(d->name, sizeof(d->name), "%s", o->socket);
	else
		snprintf(d->name, sizeof(d->name), "descriptor \"%s\"", o->fd);
	r = connect_device(d, o, err);
	if (!r)
		r = vfu_identify(&pci->dev, &d->identity, err);
	if (!r)
		r = vfio_space_attach(pci->space, err);
	if (!r)
		vfu_ios_read(d);
	return r;
}

static void made(struct vfio_pci *pci, int result, struct gw_error *err)
{
	struct vfu_device *d = pci->backend;

	if (!d || !d->vfu)
		return;
	if (result < 0)
		vfu_say_why(d->vfu, err);
	else
		vfu_settle(d->vfu);
}

static void close_device(struct vfio_pci *pci)
{
	struct vfu_device *d = pci->backend;

	if (!d)
		return;
	/* Nobody is waited for; RAM that comes or goes asks nobody any more; nobody asks for RAM.
	 */
	vfu_stop(d->vfu);
	if (d->space)
		vfu_space_set(d->space, NULL);
	vfu_destroy(d->vfu);
	vfio_space_put(pci->space);
	vfu_ios_free(d);
	for (unsigned i = 0; i < VFIO_REGIONS; i++)
		if (d->region_fds[i] >= 0)
			close(d->region_fds[i]);
	free(d);
}

static void bar_changed(struct vfio_pci *pci, unsigned bar)
{
	vfu_ios_move(pci->backend, bar);
}

static bool describe(struct vfio_pci *pci, cJSON *info)
{
	struct vfu_device *d = pci->backend;
	char why[256];
	const bool lost = vfu_why_lost(d->vfu, why, sizeof(why));

	return cJSON_AddStringToObject(info, "server", d->name) &&
	       cJSON_AddBoolToObject(info, "connected", !lost) &&
	       (!lost || cJSON_AddStringToObject(info, "reason", why));
}

static const struct vfio_pci_kind user_kind = {
	.driver = &vfio_user_pci_driver,
	.holder = "its server",
	.open = open_device,
	.made = made,
	.close = close_device,
	.describe = describe,
	.bar_changed = bar_changed,
};

static int create(struct machine *m, const struct config_device *config, bool hot,
                  struct device **out, struct gw_error *err)
{
	return vfio_pci_create(&user_kind, m, config, hot, out, err);
}

const struct device_driver vfio_user_pci_driver = {
	.type = "vfio-user-pci",
	.help = "a device that another process serves, by the vfio-user protocol",
	.keys = user_keys,
	.check_host = check_host,
	.shares_memory = true,
	.create = create,
	.deferred = deferred,
	VFIO_PCI_DRIVER_CALLS,
};
