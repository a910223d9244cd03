/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far ends of the serial port: a socket's client, a log file, the
 * process's stdin and stdout. Output goes to all of them, input comes from
 * any.
 *
 * All reading and writing is done on the machine's loop, under the device
 * lock; output waits in a bounded buffer for each end, and what an end has no
 * room for is lost to that end alone. Input is taken from an end only when
 * the last of it has been passed on, so none is lost, unless a client leaves
 * and another takes its place before the guest has read what the first sent.
 */
#ifndef VMM_SERIAL_ENDS_H
#define VMM_SERIAL_ENDS_H

#include "vmm/machine.h"

#include <stddef.h>

struct serial_ends;

#define SERIAL_INPUT_MAX 4096

/* input(): there is something to be had from serial_ends_take(); on the loop, device lock held. */
int serial_ends_create(struct machine *m, const struct config_serial *config,
                       void (*input)(void *opaque), void *opaque, struct serial_ends **out,
                       struct gw_error *err);
/* Without the device lock. What is still in the buffers is written as far as it goes. NULL is
 * fine. */
void serial_ends_destroy(struct serial_ends *e);

/* The rest with the device lock held. */
void serial_ends_put(struct serial_ends *e, uint8_t byte);
/* Up to `len` bytes of input; the number of them. */
size_t serial_ends_take(struct serial_ends *e, uint8_t *buf, size_t len);
/* While held, nothing is read from the ends. */
void serial_ends_hold(struct serial_ends *e, bool hold);
/* Input that was read and not taken yet; at most SERIAL_INPUT_MAX bytes. And back. */
size_t serial_ends_peek(const struct serial_ends *e, const uint8_t **input);
int serial_ends_refill(struct serial_ends *e, const uint8_t *input, size_t len,
                       struct gw_error *err);

#endif
