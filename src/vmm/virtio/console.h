/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of virtio-console share: a port, and how ports come from the configuration. */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "vmm/serial_ends.h"
#include "vmm/virtio/virtio.h"

#define CONSOLE_PORTS_MAX 8
#define CONSOLE_TELLS 5

/* Options of the device; the first four are the one port's where `ports` is empty. */
struct console_options {
	char name[64];
	char socket[CONFIG_PATH_MAX];
	char log[CONFIG_PATH_MAX];
	char fd[32];
	char ports[1400]; /* JSON list of objects of these four */
	uint32_t columns, rows;
};

struct console_port_config {
	char name[64]; /* "": it is a console; else a port of that name */
	char socket[CONFIG_PATH_MAX];
	char log[CONFIG_PATH_MAX];
	char fd[32]; /* name of a descriptor that the owner was given */
};

/* Features (5.3.3), configuration space (5.3.4). */
#define CONSOLE_F_SIZE (1ull << 0)
#define CONSOLE_F_MULTIPORT (1ull << 1)
#define CONSOLE_F_EMERG_WRITE (1ull << 2)
enum { CONFIG_COLS = 0, CONFIG_ROWS = 2, CONFIG_PORTS = 4, CONFIG_EMERG = 8, CONFIG_SIZE_ALL = 12 };

/* What a port has to tell the driver: a bit for each row of `tells` (console_queues.c). */
enum { TELL_ADD = 1, TELL_CONSOLE = 2, TELL_RESIZE = 4, TELL_NAME = 8, TELL_OPEN = 16 };

struct console;

struct console_port {
	struct console *console;
	unsigned index;
	struct console_port_config config;
	struct serial_ends *ends;
	/* Forgotten by a reset, else saved: */
	uint32_t sent;   /* bytes of the first buffer of output that are out */
	uint8_t tell;    /* TELL_... that wait for a buffer */
	bool ready;      /* the driver knows it */
	bool guest_open; /* a process of the guest has it open */
	bool told_open;  /* what the driver was told of our side */
};

struct console {
	struct virtio v;
	unsigned port_count;
	struct console_port ports[CONSOLE_PORTS_MAX];
	struct virtq_chain chain;
};

static inline bool console_multiport(const struct console *c)
{
	return virtio_has(&c->v, CONSOLE_F_MULTIPORT);
}

static inline pthread_mutex_t *console_lock(struct console *c)
{
	return &c->v.workers[0].lock;
}

/* ---- console_queues.c; all with that lock held ---- */

/* struct virtio_ops: kick. */
void console_kick(struct virtio *v, struct virtio_queue *q);
/* What the ports have to tell the driver, as far as it has buffers for it. */
void console_send_control(struct console *c);
/* Our side of a port may have opened or closed since the driver was told. */
void console_update_open(struct console_port *port);
/* The far ends' calls, with a port as opaque. */
extern const struct serial_ends_ops console_ends_ops;

/* ---- console_config.c ---- */

/* What a port is called outside: the device's id, and its name or number if it is not the only one.
 */
#define CONSOLE_LABEL_SIZE 128
void console_port_label(const char *id, unsigned index, bool only,
                        const struct console_port_config *port, char label[CONSOLE_LABEL_SIZE]);

/* The number of ports, or -EINVAL. */
int console_read_ports(const struct console_options *options,
                       struct console_port_config ports[CONSOLE_PORTS_MAX], struct gw_error *err);
/* For struct config_key and struct device_driver. */
int console_check_ports(const char *json, struct gw_error *err);
int console_check_host(const void *options, struct gw_error *err);
extern const struct config_key console_keys[];
/* An entry of QMP's query-chardev; false: out of memory. */
bool console_describe_port(cJSON *list, const char *id, unsigned index, bool only,
                           const struct console_port_config *port, bool open);

#endif
