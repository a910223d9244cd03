/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without KVM that has a vfio-user device, and that device's server. */
#ifndef UNIT_VFU_WORLD_H
#define UNIT_VFU_WORLD_H

#include "vfu_server.h"
#include "virtio_driver.h"

#include "vfio/user/client_device.h"
#include "vfio/user/client_internal.h"
#include "vfio/user/user.h"

#include <stdio.h>
#include <sys/mman.h>

#define RAM (8 * MIB)

struct world {
	struct vmachine *vm;
	struct vfu_server s;
	struct vfio_user_options options; /* for add() */
	struct device *device;
	struct vfio_pci *pci;
	unsigned before;
	/* All warnings and errors, a line each. */
	struct log sink;
	pthread_mutex_t log_lock;
	char log[16384];
};

static inline void world_log(void *opaque, enum gw_log_level level, const char *text)
{
	struct world *w = opaque;
	size_t len;

	pthread_mutex_lock(&w->log_lock);
	len = strlen(w->log);
	if (level <= GW_LOG_WARN)
		snprintf(w->log + len, sizeof(w->log) - len, "%s\n", text);
	pthread_mutex_unlock(&w->log_lock);
}

/* How often the log says so. */
static inline unsigned logged(struct world *w, const char *what)
{
	unsigned n = 0;

	pthread_mutex_lock(&w->log_lock);
	for (const char *at = w->log; (at = strstr(at, what)); at++)
		n++;
	pthread_mutex_unlock(&w->log_lock);
	return n;
}

/* The device, or NULL with the reason in vm->error. */
static inline struct vfio_pci *add(struct world *w)
{
	strcpy(w->options.fd, "server");
	if (!w->options.timeout)
		w->options.timeout = (uint32_t)patience_ms();
	vfu_server_start(&w->s);
	vmachine_give(w->vm, w->s.client);
	w->device = vmachine_add(w->vm, &vfio_user_pci_driver, &w->options, sizeof(w->options));
	w->pci = w->device ? container_of(w->device, struct vfio_pci, device) : NULL;
	return w->pci;
}

static inline void begin(struct world *w)
{
	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->log_lock, NULL);
	w->sink = (struct log){ w, world_log };
	w->vm = vmachine_new(RAM);
	w->vm->m->log = &w->sink;
	vfu_server_init(&w->s);
}

static inline void end(struct world *w)
{
	vmachine_free(w->vm);
	vfu_server_free(&w->s);
}

/* From now on it waits for 200 ms only. */
static inline void hurry(struct world *w)
{
	struct vfu *vfu = ((struct vfu_device *)w->pci->backend)->vfu;

	/* Its reader looks for what waits to be sent before it reads what comes. */
	pthread_mutex_lock(&vfu->sending);
	vfu->owner.timeout_ms = 200;
	pthread_mutex_unlock(&vfu->sending);
	io_eventfd_signal(vfu->wake_fd);
}

/* The server goes: nobody is given its socket any more, which is closed. */
static inline void stop(struct world *w)
{
	vmachine_give(w->vm, -1);
	vfu_server_stop(&w->s);
}

/* The server once more, after it was stopped. */
static inline void restart(struct world *w)
{
	vfu_server_start(&w->s);
	vmachine_give(w->vm, w->s.client);
}

static inline uint64_t bar_read(struct world *w, uint64_t offset, unsigned size)
{
	uint64_t value;

	machine_lock(w->vm->m);
	value = vfio_bar_read(&w->pci->function, 0, offset, size);
	machine_unlock(w->vm->m);
	return size == 8 ? value : value & ((1ull << size * 8) - 1);
}

static inline void bar_write(struct world *w, uint64_t offset, unsigned size, uint64_t value)
{
	machine_lock(w->vm->m);
	vfio_bar_write(&w->pci->function, 0, offset, size, value);
	machine_unlock(w->vm->m);
}

/* Guest memory is as the server's last message has left it. ThreadSanitizer sees no order in a
 * socket that was passed through another one; it sees the lock with which the reader writes. */
static inline void see_memory(struct world *w)
{
	uint8_t byte;

	vfu_space_access(((struct vfu_device *)w->pci->backend)->space, false, 0, &byte, 1);
}

static inline bool is_broken(void *opaque)
{
	return vmachine_event(((struct world *)opaque)->vm, "DEVICE_BROKEN") &&
	       ((struct world *)opaque)->pci->concealed;
}

static inline bool is_repaired(void *opaque)
{
	return vmachine_event(((struct world *)opaque)->vm, "DEVICE_REPAIRED");
}

/* A connection was made, and more was asked. */
static inline bool was_tried(void *opaque)
{
	struct world *w = opaque;

	return __atomic_load_n(&w->s.seen[WIRE_VERSION], __ATOMIC_ACQUIRE) > w->before;
}

#endif
