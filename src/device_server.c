/* SPDX-License-Identifier: Apache-2.0 */
/* A device in a process of its own: joins socket, server and the device's driver. */
#include "base/error.h"
#include "base/thread.h"
#include "base/unix_socket.h"
#include "base/util.h"
#include "vfio/user/ballast.h"
#include "vfio/user/server.h"
#include "vmm/config.h"
#include "vmm/virtio/devices.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct gw_device_server {
	struct gw_device_server_options options;
	struct log log;
	struct loop *loop;
	bool thread; /* the loop has one of its own */
	struct unix_socket socket;
	int listen_fd;
	struct server *server;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopped, ended;
};

/* Those that need nothing of the machine but a bus, memory and interrupts. */
static const struct device_driver *const drivers[] = {
	&virtio_net_driver,
	&virtio_blk_driver,
	&virtio_rng_driver,
	&ballast_driver,
};
static const struct device_drivers server_drivers = { drivers, ARRAY_SIZE(drivers) };

static void note(struct gw_device_server *ds, bool *flag)
{
	pthread_mutex_lock(&ds->lock);
	*flag = true;
	pthread_cond_broadcast(&ds->changed);
	pthread_mutex_unlock(&ds->lock);
	if (ds->options.external_loop)
		loop_wake(ds->loop);
}

static void on_ended(void *opaque)
{
	struct gw_device_server *ds = opaque;

	note(ds, &ds->ended);
}

/* ---- made ---- */

static int adopt(struct gw_device_server *ds, struct gw_error *err)
{
	const int fd = ds->options.listen_fd;
	int family, r = listening_socket_adopt(fd, &family, err);

	if (r < 0)
		return r;
	if (family != AF_UNIX)
		return error_set(err, -EINVAL, "listen_fd %d: not a UNIX socket", fd);
	ds->listen_fd = fd;
	return 0;
}

static int open_socket(struct gw_device_server *ds, struct gw_error *err)
{
	const struct gw_device_server_options *o = &ds->options;
	int r;

	if (!o->path == (o->listen_fd < 0))
		return error_set(err, -EINVAL, "one of path and listen_fd is needed");
	if (!o->path)
		return adopt(ds, err);
	r = unix_socket_open(o->path, NULL, &ds->socket, err);
	ds->listen_fd = ds->socket.fd;
	return r;
}

static int server_options(struct gw_device_server *ds, const struct config_device *config,
                          struct server_options *out, struct gw_error *err)
{
	*out = (struct server_options){
		.loop = ds->loop,
		.log = &ds->log,
		.listen_fd = ds->listen_fd,
		.migration = (enum server_migration)ds->options.migration,
		.v1_data = (enum server_v1_data)ds->options.v1_data,
		.opaque = ds,
		.ended = on_ended,
	};
	if (out->migration > SERVER_MIGRATION_NONE || out->v1_data > SERVER_V1_MIXED)
		return error_set(err, -EINVAL, "migration %d, v1_data %d", out->migration,
		                 out->v1_data);
	if (!strcmp(config->type, ballast_driver.type))
		return ballast_server_options((const void *)config->options, out, err);
	return 0;
}

static int make_device(struct gw_device_server *ds, const struct config_device *config,
                       struct gw_error *err)
{
	const struct device_driver *driver = config_find_driver(&server_drivers, config->type);
	struct machine *m = server_machine(ds->server);
	struct device *device;
	int r = driver->create(m, config, false, &device, err);

	if (r < 0)
		return error_context(err, "device %s", config->id);
	machine_lock(m);
	device->next = m->devices;
	m->devices = device;
	machine_unlock(m);
	return server_open(ds->server, device, err);
}

static int make(struct gw_device_server *ds, const char *json, struct gw_error *err)
{
	autofree struct config_device *config = calloc(1, sizeof(*config));
	struct server_options options;
	int r;

	if (!config)
		return error_set(err, -ENOMEM, "device server: out of memory");
	r = config_parse_device(json, &server_drivers, config, err);
	if (!r)
		r = loop_create(&ds->loop, err);
	if (!r)
		r = open_socket(ds, err);
	if (!r)
		r = server_options(ds, config, &options, err);
	if (!r)
		r = server_create(&options, &ds->server, err);
	if (!r)
		r = make_device(ds, config, err);
	if (!r && !ds->options.external_loop) {
		r = loop_start_thread(ds->loop, "device-server", err);
		ds->thread = !r;
	}
	return r;
}

int gw_device_server_new(const char *json, const struct gw_device_server_options *options,
                         struct gw_device_server **out, struct gw_error *err)
{
	struct gw_device_server *ds;
	int r;

	if (!options || options->size != sizeof(*options))
		return error_set(err, -EINVAL, "device server: options of an unknown size");
	ds = calloc(1, sizeof(*ds));
	if (!ds)
		return error_set(err, -ENOMEM, "device server: out of memory");
	ds->options = *options;
	ds->log = (struct log){ options->opaque, options->log };
	ds->socket.fd = ds->listen_fd = -1;
	pthread_mutex_init(&ds->lock, NULL);
	thread_cond_init(&ds->changed);
	r = make(ds, json, err);
	ds->options.path = NULL;
	if (r < 0) {
		/* A socket that was handed over stays the caller's where nothing came of it. */
		if (ds->socket.fd < 0)
			ds->listen_fd = -1;
		gw_device_server_free(ds);
		return r;
	}
	*out = ds;
	return 0;
}

/* ---- running ---- */

int gw_device_server_fd(struct gw_device_server *ds)
{
	return ds->options.external_loop ? loop_fd(ds->loop) : -1;
}

int gw_device_server_dispatch(struct gw_device_server *ds, int timeout_ms, struct gw_error *err)
{
	if (!ds->options.external_loop)
		return error_set(err, -EINVAL, "the server has a thread of its own");
	loop_once(ds->loop, timeout_ms);
	return ds->ended ? error_set(err, -ESHUTDOWN, "the server was made to fail") : 0;
}

void gw_device_server_stop(struct gw_device_server *ds)
{
	note(ds, &ds->stopped);
}

int gw_device_server_wait(struct gw_device_server *ds, int timeout_ms, struct gw_error *err)
{
	const int64_t end = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	bool stopped, ended;

	if (ds->options.external_loop)
		return error_set(err, -EINVAL, "the server has no thread of its own");
	pthread_mutex_lock(&ds->lock);
	while (!ds->stopped && !ds->ended && thread_cond_wait(&ds->changed, &ds->lock, end))
		;
	stopped = ds->stopped;
	ended = ds->ended;
	pthread_mutex_unlock(&ds->lock);
	if (stopped)
		return 0;
	return ended ? error_set(err, -ESHUTDOWN, "the server was made to fail")
	             : error_set(err, -ETIMEDOUT, "the server still runs");
}

void gw_device_server_free(struct gw_device_server *ds)
{
	if (!ds)
		return;
	if (ds->thread)
		loop_stop_thread(ds->loop);
	server_destroy(ds->server);
	if (ds->socket.fd >= 0)
		unix_socket_close(&ds->socket);
	else if (ds->listen_fd >= 0)
		close(ds->listen_fd);
	if (ds->loop)
		loop_destroy(ds->loop);
	pthread_cond_destroy(&ds->changed);
	pthread_mutex_destroy(&ds->lock);
	free(ds);
}
