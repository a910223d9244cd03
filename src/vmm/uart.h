/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 16550A as a chip: eight registers, a receiver with a FIFO of 16 bytes,
 * a transmitter, one interrupt output. What is on the other side of its pins
 * is the owner's (serial.c).
 *
 * Characters take no time here. A byte written to the transmitter has left at
 * once, so its FIFO is always empty. A byte received below the FIFO's trigger
 * level counts as timed out at once, so the guest learns of it by the
 * character time-out interrupt without delay.
 * Source: National Semiconductor PC16550D data sheet, 8.0 (registers; table numbers below).
 */
#ifndef VMM_UART_H
#define VMM_UART_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UART_REGISTERS 8
#define UART_FIFO 16

struct uart_ops {
	void (*transmit)(void *opaque, uint8_t byte);
	/* The interrupt output has changed. */
	void (*interrupt)(void *opaque, bool level);
	/* There is room in the receiver where there was none, perhaps. */
	void (*room)(void *opaque);
};

struct uart {
	const struct uart_ops *ops;
	void *opaque;
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scratch, dll, dlm;
	bool thr_empty_pending; /* the transmitter's interrupt has not been seen yet */
	bool line;
	uint8_t fifo[UART_FIFO];
	unsigned head, count;
};

/* Sets everything to its state after master reset; calls no op. */
void uart_init(struct uart *u, const struct uart_ops *ops, void *opaque);
void uart_reset(struct uart *u);

uint8_t uart_read(struct uart *u, unsigned reg);
void uart_write(struct uart *u, unsigned reg, uint8_t value);

/* How many bytes the receiver can take now; none while it is looped back. */
unsigned uart_room(const struct uart *u);
/* One byte from the line. Without room it is lost, with an overrun error. */
void uart_receive(struct uart *u, uint8_t byte);

#define UART_STATE_SIZE (10 + 1 + UART_FIFO)
void uart_save(const struct uart *u, uint8_t state[UART_STATE_SIZE]);
/* Does not call interrupt(): the caller sets the line to u->line when it may. */
int uart_load(struct uart *u, const uint8_t state[UART_STATE_SIZE], struct gw_error *err);

#endif
