/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far ends of a character device (serial port, virtio console): a
 * socket's client, a log file, a descriptor, the process's stdin and stdout.
 * Output goes to all of them, input comes from any.
 *
 * All reading and writing is done on a loop, under the owner's lock, but the log
 * file is written by a thread of its own: nothing waits for its disk. Output
 * waits in a bounded buffer for each end. What an end has no room for is lost
 * to that end alone; or, where the owner says `lossless`, it is not taken
 * from the owner, who is told when there is room again. Input is taken from
 * an end only when the last of it has been passed on, so none is lost, unless
 * a client leaves and another takes its place before the guest has read what
 * the first sent.
 */
#ifndef VMM_SERIAL_ENDS_H
#define VMM_SERIAL_ENDS_H

#include "base/log.h"
#include "base/loop.h"
#include "vmm/config.h"

#include <pthread.h>
#include <stddef.h>

struct serial_ends;

#define SERIAL_INPUT_MAX 4096

struct serial_ends_config {
	const char *name; /* of the device, for the log; must live as long */
	const char
	        *keys; /* what stands before "socket" and "log" in the configuration: "serial." */
	const char *socket; /* UNIX stream socket to listen on; "": none */
	const char *log;    /* file that output is appended to; "": none */
	int fd;             /* a descriptor to read and write, taken over in any case; -1: none */
	bool stdio;
	bool lossless; /* output waits for clients that are there */
};

/* Calls to the owner, on the loop with its lock held. */
struct serial_ends_ops {
	/* There is something to be had from serial_ends_take(). */
	void (*input)(void *opaque);
	/* serial_ends_write() took less than it was given; now it takes more. NULL: not lossless.
	 */
	void (*room)(void *opaque);
	/* serial_ends_open() has changed. NULL. */
	void (*opened)(void *opaque, bool open);
};

int serial_ends_create(struct loop *loop, const struct log *log, pthread_mutex_t *lock,
                       const struct serial_ends_config *config, const struct serial_ends_ops *ops,
                       void *opaque, struct serial_ends **out, struct gw_error *err);
/* Without the lock. What is still in the buffers is written as far as it goes. NULL is fine. */
void serial_ends_destroy(struct serial_ends *e);

/* What was written is in the log file, unless that has stalled. With the lock or without. */
void serial_ends_flush_log(struct serial_ends *e);

/* The rest with the lock held. */

/* The number of bytes taken: all, unless lossless. */
size_t serial_ends_write(struct serial_ends *e, const uint8_t *buf, size_t len);
/* Is there anybody who could answer? A log file does not. */
bool serial_ends_open(const struct serial_ends *e);
/* Up to `len` bytes of input; the number of them. */
size_t serial_ends_take(struct serial_ends *e, uint8_t *buf, size_t len);
/* While held, nothing is read from the ends. */
void serial_ends_hold(struct serial_ends *e, bool hold);
/* Input that was read and not taken yet; at most SERIAL_INPUT_MAX bytes. And back. */
size_t serial_ends_peek(const struct serial_ends *e, const uint8_t **input);
int serial_ends_refill(struct serial_ends *e, const uint8_t *input, size_t len,
                       struct gw_error *err);

#endif
