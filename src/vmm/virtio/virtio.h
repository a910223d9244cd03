/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device on PCI: status, features, queues, configuration space,
 * interrupts, state. What a device adds to that is struct virtio_ops, a few
 * calls and a file of its own.
 *
 * Threads and locks. Registers, features and status belong to the machine's
 * device lock. Queues are worked on by a `virtio_worker`: a thread with an
 * event loop (the device's own, or the machine's loop) and a lock that is
 * held while one of its queues is looked at. Lock order: device lock, then a
 * worker's. So a kick handler never takes the device lock; it raises
 * interrupts by virtio_interrupt(), which needs none.
 *
 * A device is *active* while the guest runs, the driver is ready, the function
 * is a bus master and nothing is broken. Only then are its kicks called, and
 * only then may it touch guest memory. Between start() and stop() it is active;
 * both are called with the device lock held and no worker's lock. stop() waits
 * for what is in flight: so when the guest is paused or saved, nothing is.
 *
 * Source: VIRTIO 1.2, 2 (basic facilities), 3 (initialisation), 4.1 (PCI).
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop.h"
#include "vmm/device.h"
#include "vmm/msix.h"
#include "vmm/pci.h"
#include "vmm/virtio/virtq.h"

#include <pthread.h>

struct virtio;

#define VIRTIO_QUEUES_MAX 64
#define VIRTIO_CONFIG_MAX 256
#define VIRTIO_NO_VECTOR 0xffff
/* Buffers that a kick handler takes at most before it lets go of its worker's lock, and signals
 * kick_fd for the rest: a guest that fills a queue as fast as it is emptied must not keep those
 * from the lock who want to stop the device. */
#define VIRTIO_TURN 1024

/* Features that the core deals with (6). */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)
#define VIRTIO_F_RING_PACKED (1ull << 34)
#define VIRTIO_F_RING_RESET (1ull << 40)

/* Device status (2.1). */
#define VIRTIO_ACKNOWLEDGE 1u
#define VIRTIO_DRIVER 2u
#define VIRTIO_DRIVER_OK 4u
#define VIRTIO_FEATURES_OK 8u
#define VIRTIO_NEEDS_RESET 64u
#define VIRTIO_FAILED 128u

struct virtio_worker {
	struct loop *loop;
	bool own; /* a thread of its own; else the machine's loop */
	pthread_mutex_t lock;
	pthread_cond_t idle; /* for stop(): signalled by the device when nothing is in flight */
};

#define VIRTIO_IRQ_DEFER (-1) /* interrupts go by way of the machine's loop */
#define VIRTIO_IRQ_NONE (-2)  /* the driver gave the queue no vector and wants none (4.1.5.1.2) */

struct virtio_queue {
	struct virtq ring;
	struct virtio *virtio;
	unsigned index;
	struct virtio_worker *worker;
	int kick_fd; /* eventfd that the guest's kicks go to */
	/* kept by the core: */
	struct loop_watch *watch;
	uint16_t vector;
	int irq_fd;       /* eventfd of the vector, or VIRTIO_IRQ_*. Worker's lock. */
	bool irq_waiting; /* an interrupt that virtio_interrupt() could not deliver itself */
	bool hooked;      /* kick_fd is KVM's ioeventfd */
};

/* A feature's name, for the message when guest and host do not fit. */
struct virtio_feature_name {
	uint64_t bit;
	const char *name;
};

struct virtio_ops {
	uint16_t id;                                     /* device type (5) */
	uint32_t class_code;                             /* PCI class, 24 bits */
	const struct virtio_feature_name *feature_names; /* ends with bit 0 */

	/* A queue may have buffers. On the worker's thread with its lock held, while active and
	 * the queue is enabled. May be NULL for a device whose queues the kernel serves. */
	void (*kick)(struct virtio *v, struct virtio_queue *q);
	/* Becomes active: features and queues are as the driver set them. After it each queue is
	 * kicked once. On error the device needs a reset. May be NULL. */
	int (*start)(struct virtio *v, struct gw_error *err);
	/* Active no more: kicks have ended. Waits for what is in flight; afterwards no queue and no
	 * guest memory is touched, and all that was popped has been pushed or unpopped. NULL. */
	void (*stop)(struct virtio *v);
	/* As stop(), for one queue that the driver resets (2.6.1) while the others go on. NULL: the
	 * core calls stop() and start(). */
	void (*stop_queue)(struct virtio *v, struct virtio_queue *q);
	/* The driver has reset the device, or the machine was: forget what it had set. Not active.
	 * Device lock. NULL. */
	void (*reset)(struct virtio *v);
	/* The driver wrote to configuration space, which has been changed already (writable bytes
	 * only: v->config_writable). Device lock. NULL. */
	void (*config_written)(struct virtio *v, unsigned offset, unsigned size);

	/* NULL, or why what it has done must not be relied on elsewhere: asked when it is saved,
	 * not active. NULL. */
	const char *(*unfit)(struct virtio *v);
	/* State beyond that of the core (features, queues, configuration space). Not active. NULL.
	 */
	void (*save)(struct virtio *v, struct bytes *out);
	int (*load)(struct virtio *v, struct bytes_reader *in, struct gw_error *err);
	/* Configuration space as the guest saw it elsewhere: is it true here? NULL: it is taken
	 * over as it is. The device changes v->config itself. */
	int (*load_config)(struct virtio *v, const uint8_t *theirs, struct gw_error *err);

	/* NULL, or why it cannot be saved or moved now. NULL. */
	const char *(*blocker)(struct virtio *v);

	/* Within virtio_plug(): workers and queues exist, the guest does not see the device yet.
	 * For what needs a worker's loop. May be NULL. */
	int (*open)(struct virtio *v, struct gw_error *err);
	/* Unplugged, the machine's end, or virtio_plug() failed, wherever: gives back all that
	 * the device has by now. Not active, off the bus; workers still exist. The struct that
	 * begins with `v` is freed by the core, with free(). Device lock. May be NULL. */
	void (*release)(struct virtio *v);
};

struct virtio {
	struct device device; /* first: the driver's struct begins with struct virtio */
	struct pci_function function;
	struct participant participant;
	const struct virtio_ops *ops;

	/* Set by the device before virtio_plug(). */
	uint64_t offered; /* the device's own features; the core adds its own */
	unsigned config_size;
	uint8_t config[VIRTIO_CONFIG_MAX];              /* little-endian */
	uint8_t config_writable[VIRTIO_CONFIG_MAX / 8]; /* a bit for each byte */

	/* Read by the device. */
	uint64_t features; /* as negotiated */
	bool active;       /* under each worker's lock and the device lock */
	unsigned queue_count;
	struct virtio_queue *queues;
	struct virtio_worker *workers;
	unsigned worker_count;

	/* kept by the core: */
	uint8_t status;
	bool running; /* the guest runs */
	uint8_t config_generation;
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint8_t isr;
	bool pin_high;
	struct msix *msix;
	struct msi_irqfds *irqfds;
	uint8_t msix_cap, window_cap; /* places of capabilities in config space */
	uint64_t hooked_at;           /* the BAR's address when kicks were hooked */
	bool kicks_of_any_length;     /* KVM takes them so */
	bool quiet;                   /* nobody is told when it goes */
	struct log_limit said;        /* of what the driver can bring about */
	const char *broken;           /* why it needs a reset; atomic */
	uint8_t *loaded;              /* state that has come; settle takes it */
	size_t loaded_len;
};

/* What a device says of itself to virtio_plug(). */
struct virtio_setup {
	const struct virtio_ops *ops;
	const struct participant_ops *participant; /* VIRTIO_PARTICIPANT() */
	const struct device_driver *driver;
	unsigned queues;
	uint16_t queue_size; /* of each; power of two */
	/* Threads of its own; queue i belongs to worker worker_of(i), or i % threads. 0: the
	 * machine's loop serves all; then stop() must not wait for anything that happens there. */
	unsigned threads;
	unsigned (*worker_of)(unsigned queue);
};

/*
 * Makes the core's part and plugs the device in. `v` is zeroed but for what "set by the device"
 * says. It takes `v` over: on error it has been released and freed.
 */
int virtio_plug(struct virtio *v, struct machine *m, const struct config_device *config, bool hot,
                const struct virtio_setup *setup, struct gw_error *err);

/* For struct device_driver. */
int virtio_request_unplug(struct device *d, struct gw_error *err);
void virtio_destroy(struct device *d);
void virtio_run(struct device *d);
void virtio_pause(struct device *d);
void virtio_deferred(struct device *d);
#define VIRTIO_DRIVER_CALLS                                                                        \
	.request_unplug = virtio_request_unplug, .destroy = virtio_destroy, .run = virtio_run,     \
	.pause = virtio_pause, .deferred = virtio_deferred

/* The participant's calls, the same for all; `name` is the kind in the stream. */
int virtio_save(struct participant *p, struct sink *sink, struct gw_error *err);
int virtio_begin_load(struct participant *p, struct gw_error *err);
int virtio_load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
                struct gw_error *err);
int virtio_settle(struct participant *p, struct gw_error *err);
void virtio_discard(struct participant *p);
const char *virtio_blocker(struct participant *p);
#define VIRTIO_PARTICIPANT(name)                                                                   \
	{                                                                                          \
		.kind = name, .version = 1, .class = PARTICIPANT_DEVICE,                           \
		.blocker = virtio_blocker, .save = virtio_save, .begin_load = virtio_begin_load,   \
		.load = virtio_load, .settle = virtio_settle, .discard = virtio_discard            \
	}

/* Raises the queue's interrupt. With its worker's lock held. */
void virtio_interrupt(struct virtio_queue *q);
/* virtq_push(), and the interrupt if the driver wants it. */
void virtio_push(struct virtio_queue *q, const struct virtq_chain *c, uint32_t written);
/* After virtq_fill(): shows all, and the interrupt. */
void virtio_publish(struct virtio_queue *q);
/* The queue turned out broken (virtq_pop() < 0), or the driver breaks the device's rules: the
 * device needs a reset, and says why in the log once. `why` is constant. Any lock or none; any
 * thread. The device is stopped soon, not at once. */
void virtio_break(struct virtio *v, const char *why);
/* The usual kick: hands each buffer to `one`, which fills or pushes it and may keep the chain until
 * later by returning false with the chain moved away. */
void virtio_drain(struct virtio_queue *q, struct virtq_chain *chain,
                  void (*one)(struct virtio_queue *q, struct virtq_chain *chain));
/* The device changed v->config: the driver is told. With the device lock held. */
void virtio_config_changed(struct virtio *v);

static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
	return v->features & feature;
}

/* Little-endian fields of configuration space. */
void virtio_config_set(struct virtio *v, unsigned offset, unsigned size, uint64_t value);
uint64_t virtio_config_get(const struct virtio *v, unsigned offset, unsigned size);
void virtio_config_allow_write(struct virtio *v, unsigned offset, unsigned size);

static inline void *virtio_options(const struct config_device *config)
{
	return (void *)config->options;
}

#endif
