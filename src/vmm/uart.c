/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/uart.h"

#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH };

#define IER_RECEIVED 0x01
#define IER_THR_EMPTY 0x02
#define IER_LINE_STATUS 0x04
#define IER_MODEM_STATUS 0x08
#define IER_MASK 0x0f

/* Interrupt identification, highest priority first (table IV). */
#define IIR_NONE 0x01
#define IIR_LINE_STATUS 0x06
#define IIR_RECEIVED 0x04
#define IIR_TIMEOUT 0x0c
#define IIR_THR_EMPTY 0x02
#define IIR_MODEM_STATUS 0x00
#define IIR_FIFOS 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT 0xc9 /* enable, DMA mode, trigger; the two clear bits are not kept */
#define FCR_TRIGGER_SHIFT 6

#define LCR_DLAB 0x80

#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DATA 0x01
#define LSR_OVERRUN 0x02
#define LSR_ERRORS 0x1e
#define LSR_EMPTY 0x60 /* THR and transmitter */

#define MSR_RING_ENDED 0x04
#define MSR_CHANGES 0x0f
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RING 0x40
#define MSR_DCD 0x80

/* The cable: a far end that is always there and ready. */
#define MSR_LINES (MSR_CTS | MSR_DSR | MSR_DCD)

static const uint8_t triggers[4] = { 1, 4, 8, 14 };

static unsigned depth(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static uint8_t interrupt_id(const struct uart *u)
{
	if ((u->ier & IER_LINE_STATUS) && (u->lsr & LSR_ERRORS))
		return IIR_LINE_STATUS;
	if ((u->ier & IER_RECEIVED) && u->count) {
		bool full =
		        !(u->fcr & FCR_ENABLE) || u->count >= triggers[u->fcr >> FCR_TRIGGER_SHIFT];

		return full ? IIR_RECEIVED : IIR_TIMEOUT;
	}
	if ((u->ier & IER_THR_EMPTY) && u->thr_empty_pending)
		return IIR_THR_EMPTY;
	if ((u->ier & IER_MODEM_STATUS) && (u->msr & MSR_CHANGES))
		return IIR_MODEM_STATUS;
	return IIR_NONE;
}

static void update_line(struct uart *u)
{
	bool line = interrupt_id(u) != IIR_NONE;

	if (line == u->line)
		return;
	u->line = line;
	u->ops->interrupt(u->opaque, line);
}

static void set_modem_lines(struct uart *u, uint8_t lines)
{
	uint8_t changed = (u->msr ^ lines) & (MSR_CTS | MSR_DSR | MSR_DCD);
	uint8_t changes = u->msr & MSR_CHANGES;

	/* Each change bit is four below its line's; ring counts only when it ends (8.8). */
	changes |= changed >> 4;
	if ((u->msr & MSR_RING) && !(lines & MSR_RING))
		changes |= MSR_RING_ENDED;
	u->msr = lines | changes;
}

/* Looped back, the four outputs are the four inputs (8.6). */
static uint8_t modem_lines(const struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_LINES;
	return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (u->mcr & MCR_OUT1 ? MSR_RING : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void clear_receiver(struct uart *u)
{
	u->head = 0;
	u->count = 0;
}

static void power_on(struct uart *u)
{
	u->ier = u->fcr = u->lcr = u->mcr = u->scratch = u->dll = u->dlm = 0;
	u->lsr = 0;
	u->msr = MSR_LINES;
	u->thr_empty_pending = false;
	clear_receiver(u);
}

void uart_init(struct uart *u, const struct uart_ops *ops, void *opaque)
{
	*u = (struct uart){ .ops = ops, .opaque = opaque };
	power_on(u);
}

void uart_reset(struct uart *u)
{
	power_on(u);
	update_line(u);
	u->ops->room(u->opaque);
}

/* A byte arrives. With FIFOs a full one keeps what it has; without, the new byte takes the
 * old one's place (8.4, overrun). */
static void put(struct uart *u, uint8_t byte)
{
	if (u->count == depth(u)) {
		u->lsr |= LSR_OVERRUN;
		if (!(u->fcr & FCR_ENABLE))
			u->fifo[u->head] = byte;
		return;
	}
	u->fifo[(u->head + u->count) % UART_FIFO] = byte;
	u->count++;
}

static uint8_t take(struct uart *u)
{
	uint8_t byte = u->fifo[u->head];

	if (!u->count)
		return 0;
	u->head = (u->head + 1) % UART_FIFO;
	u->count--;
	return byte;
}

unsigned uart_room(const struct uart *u)
{
	return u->mcr & MCR_LOOP ? 0 : depth(u) - u->count;
}

void uart_receive(struct uart *u, uint8_t byte)
{
	put(u, byte);
	update_line(u);
}

static uint8_t read_iir(struct uart *u)
{
	uint8_t id = interrupt_id(u);

	/* Reading it takes the transmitter's interrupt back, if that is what it tells (table IV).
	 */
	if (id == IIR_THR_EMPTY)
		u->thr_empty_pending = false;
	return id | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct uart *u)
{
	uint8_t value = u->lsr | LSR_EMPTY | (u->count ? LSR_DATA : 0);

	u->lsr &= (uint8_t)~LSR_ERRORS;
	return value;
}

static uint8_t read_msr(struct uart *u)
{
	uint8_t value = u->msr;

	u->msr &= (uint8_t)~MSR_CHANGES;
	return value;
}

static uint8_t read_register(struct uart *u, unsigned reg)
{
	bool dlab = u->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		return dlab ? u->dll : take(u);
	case REG_IER:
		return dlab ? u->dlm : u->ier;
	case REG_IIR_FCR:
		return read_iir(u);
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		return read_lsr(u);
	case REG_MSR:
		return read_msr(u);
	case REG_SCRATCH:
		return u->scratch;
	default:
		return 0xff;
	}
}

uint8_t uart_read(struct uart *u, unsigned reg)
{
	unsigned before = uart_room(u);
	uint8_t value = read_register(u, reg);

	update_line(u);
	if (uart_room(u) > before)
		u->ops->room(u->opaque);
	return value;
}

static void write_data(struct uart *u, uint8_t value)
{
	if (u->mcr & MCR_LOOP)
		put(u, value);
	else
		u->ops->transmit(u->opaque, value);
	u->thr_empty_pending = true;
}

static void write_ier(struct uart *u, uint8_t value)
{
	uint8_t risen = value & (uint8_t)~u->ier;

	u->ier = value & IER_MASK;
	/* Enabling the interrupt while the transmitter is empty raises it (8.3). */
	if (risen & IER_THR_EMPTY)
		u->thr_empty_pending = true;
}

static void write_fcr(struct uart *u, uint8_t value)
{
	/* Switching the FIFOs on or off clears them; the other bits count only together with the
	 * enable bit (8.5). */
	bool switched = (value ^ u->fcr) & FCR_ENABLE;

	if (!(value & FCR_ENABLE))
		value = 0;
	if (switched || (value & FCR_CLEAR_RX))
		clear_receiver(u);
	u->fcr = value & FCR_KEPT;
}

static void write_mcr(struct uart *u, uint8_t value)
{
	u->mcr = value & MCR_MASK;
	set_modem_lines(u, modem_lines(u));
}

void uart_write(struct uart *u, unsigned reg, uint8_t value)
{
	bool dlab = u->lcr & LCR_DLAB;
	unsigned before = uart_room(u);

	switch (reg) {
	case REG_DATA:
		if (dlab)
			u->dll = value;
		else
			write_data(u, value);
		break;
	case REG_IER:
		if (dlab)
			u->dlm = value;
		else
			write_ier(u, value);
		break;
	case REG_IIR_FCR:
		write_fcr(u, value);
		break;
	case REG_LCR:
		u->lcr = value;
		break;
	case REG_MCR:
		write_mcr(u, value);
		break;
	case REG_SCRATCH:
		u->scratch = value;
		break;
	default: /* line and modem status are not written to (8.4, 8.8) */
		break;
	}
	update_line(u);
	if (uart_room(u) > before)
		u->ops->room(u->opaque);
}

void uart_save(const struct uart *u, uint8_t state[UART_STATE_SIZE])
{
	const uint8_t regs[10] = { u->ier, u->fcr,     u->lcr, u->mcr, u->lsr,
		                   u->msr, u->scratch, u->dll, u->dlm, u->thr_empty_pending };

	memcpy(state, regs, sizeof(regs));
	state[10] = (uint8_t)u->count;
	for (unsigned i = 0; i < UART_FIFO; i++)
		state[11 + i] = i < u->count ? u->fifo[(u->head + i) % UART_FIFO] : 0;
}

int uart_load(struct uart *u, const uint8_t state[UART_STATE_SIZE], struct gw_error *err)
{
	unsigned room = state[1] & FCR_ENABLE ? UART_FIFO : 1;

	if (state[10] > room)
		return error_set(err, -EINVAL, "receiver holds %u bytes, has room for %u",
		                 state[10], room);
	u->ier = state[0] & IER_MASK;
	u->fcr = state[1] & FCR_KEPT;
	u->lcr = state[2];
	u->mcr = state[3] & MCR_MASK;
	u->lsr = state[4] & LSR_ERRORS;
	u->msr = state[5];
	u->scratch = state[6];
	u->dll = state[7];
	u->dlm = state[8];
	u->thr_empty_pending = state[9] != 0;
	clear_receiver(u);
	u->count = state[10];
	memcpy(u->fifo, state + 11, UART_FIFO);
	u->line = interrupt_id(u) != IIR_NONE;
	return 0;
}
