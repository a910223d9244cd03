/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "vmm/uart.h"

#include <string.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

struct line {
	struct uart u;
	uint8_t sent[64];
	unsigned count, rooms, edges;
	bool level;
};

static void transmit(void *opaque, uint8_t byte)
{
	struct line *l = opaque;

	l->sent[l->count++] = byte;
}

static void interrupt(void *opaque, bool level)
{
	struct line *l = opaque;

	cr_assert_neq(l->level, level, "called for changes only");
	l->level = level;
	l->edges += level;
}

static void room(void *opaque)
{
	((struct line *)opaque)->rooms++;
}

static const struct uart_ops ops = { transmit, interrupt, room };

static void begin(struct line *l)
{
	memset(l, 0, sizeof(*l));
	uart_init(&l->u, &ops, l);
}

static void receive(struct line *l, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		uart_receive(&l->u, (uint8_t)('a' + i));
}

Test(uart, after_reset)
{
	struct line l;

	begin(&l);
	cr_assert_eq(uart_read(&l.u, IER), 0);
	cr_assert_eq(uart_read(&l.u, IIR), 0x01);
	cr_assert_eq(uart_read(&l.u, LCR), 0);
	cr_assert_eq(uart_read(&l.u, LSR), 0x60);
	cr_assert_eq(uart_read(&l.u, MSR), 0xb0);
	uart_write(&l.u, SCR, 0x5a);
	cr_assert_eq(uart_read(&l.u, SCR), 0x5a);
	uart_write(&l.u, LSR, 0x1f);
	uart_write(&l.u, MSR, 0xff);
	cr_assert_eq(uart_read(&l.u, LSR), 0x60, "read-only");
	cr_assert_eq(uart_read(&l.u, MSR), 0xb0, "read-only");
	uart_write(&l.u, IER, 0xff);
	cr_assert_eq(uart_read(&l.u, IER), 0x0f);
}

Test(uart, divisor_latch)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, LCR, 0x83);
	uart_write(&l.u, DATA, 0x01);
	uart_write(&l.u, IER, 0x02);
	cr_assert_eq(uart_read(&l.u, DATA), 0x01);
	cr_assert_eq(uart_read(&l.u, IER), 0x02);
	uart_write(&l.u, LCR, 0x03);
	cr_assert_eq(uart_read(&l.u, IER), 0);
	cr_assert_eq(l.count, 0, "the divisor is no output");
}

Test(uart, transmitter_interrupt)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, IER, 0x02);
	cr_assert(l.level, "empty when enabled");
	cr_assert_eq(uart_read(&l.u, IIR), 0x02);
	cr_assert(!l.level, "reading it takes it back");
	cr_assert_eq(uart_read(&l.u, IIR), 0x01);
	uart_write(&l.u, DATA, 'x');
	cr_assert_eq(l.count, 1);
	cr_assert_eq(l.sent[0], 'x');
	cr_assert(l.level);
	/* Switched off and on again, it is back: what Linux tests a port with. */
	cr_assert_eq(uart_read(&l.u, IIR), 0x02);
	uart_write(&l.u, IER, 0);
	uart_write(&l.u, IER, 0x02);
	cr_assert_eq(uart_read(&l.u, IIR), 0x02);
}

Test(uart, fifo_and_trigger)
{
	struct line l;

	begin(&l);
	cr_assert_eq(uart_room(&l.u), 1);
	uart_write(&l.u, FCR, 0x81); /* trigger at 8 */
	cr_assert_eq(uart_room(&l.u), 16);
	cr_assert_eq(uart_read(&l.u, IIR), 0xc1);
	uart_write(&l.u, IER, 0x01);
	receive(&l, 7);
	cr_assert_eq(uart_read(&l.u, IIR), 0xcc, "time-out");
	receive(&l, 1);
	cr_assert_eq(uart_read(&l.u, IIR), 0xc4, "trigger level");
	cr_assert_eq(uart_read(&l.u, LSR), 0x61);
	cr_assert_eq(uart_read(&l.u, DATA), 'a');
	cr_assert_eq(uart_read(&l.u, IIR), 0xcc);
	for (unsigned i = 0; i < 7; i++)
		uart_read(&l.u, DATA);
	cr_assert(!l.level);
	cr_assert_eq(uart_read(&l.u, LSR), 0x60);
	cr_assert_eq(l.rooms, 1 + 8, "one when the FIFO was switched on, one for each byte read");
}

Test(uart, overrun)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, FCR, 0x01);
	uart_write(&l.u, IER, 0x04);
	receive(&l, 16);
	cr_assert_eq(uart_room(&l.u), 0);
	cr_assert(!l.level);
	uart_receive(&l.u, 'Z');
	cr_assert_eq(uart_read(&l.u, IIR), 0xc6);
	cr_assert_eq(uart_read(&l.u, LSR), 0x63);
	cr_assert(!l.level, "reading LSR clears it");
	for (unsigned i = 0; i < 16; i++)
		cr_assert_eq(uart_read(&l.u, DATA), 'a' + i, "what was there stays");
	/* Without the FIFO the newest stays. */
	uart_write(&l.u, FCR, 0);
	receive(&l, 2);
	cr_assert_eq(uart_read(&l.u, DATA), 'b');
}

Test(uart, priority)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, IER, 0x0f);
	uart_write(&l.u, DATA, 'x'); /* transmitter */
	uart_write(&l.u, MCR, 0x10); /* modem lines drop */
	uart_write(&l.u, MCR, 0x00);
	receive(&l, 2); /* received, overrun */
	cr_assert_eq(uart_read(&l.u, IIR), 0x06);
	uart_read(&l.u, LSR);
	cr_assert_eq(uart_read(&l.u, IIR), 0x04);
	uart_read(&l.u, DATA);
	cr_assert_eq(uart_read(&l.u, IIR), 0x02);
	cr_assert_eq(uart_read(&l.u, IIR), 0x00);
	cr_assert(l.level);
	cr_assert_eq(uart_read(&l.u, MSR), 0xbb);
	cr_assert_eq(uart_read(&l.u, IIR), 0x01);
	cr_assert(!l.level);
	cr_assert_eq(l.edges, 1, "one rise from first to last");
}

Test(uart, loopback)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, FCR, 0x01);
	uart_write(&l.u, MCR, 0x1f);
	cr_assert_eq(uart_room(&l.u), 0, "cut off from the line");
	uart_write(&l.u, DATA, 'q');
	cr_assert_eq(l.count, 0);
	cr_assert_eq(uart_read(&l.u, LSR), 0x61);
	cr_assert_eq(uart_read(&l.u, DATA), 'q');
	cr_assert_eq(uart_read(&l.u, MSR) & 0xf0, 0xf0);
	static const uint8_t pairs[][2] = {
		{ 0x01, 0x20 }, { 0x02, 0x10 }, { 0x04, 0x40 }, { 0x08, 0x80 }
	};
	for (unsigned i = 0; i < 4; i++) {
		uart_write(&l.u, MCR, 0x10 | pairs[i][0]);
		cr_assert_eq(uart_read(&l.u, MSR) & 0xf0, pairs[i][1]);
	}
	uart_write(&l.u, MCR, 0x14);
	uart_read(&l.u, MSR);
	uart_write(&l.u, MCR, 0x10);
	cr_assert_eq(uart_read(&l.u, MSR), 0x04, "the end of ringing, and that alone");
	l.rooms = 0;
	uart_write(&l.u, MCR, 0x00);
	cr_assert_eq(l.rooms, 1);
	cr_assert_eq(uart_room(&l.u), 16);
}

Test(uart, fifo_control)
{
	struct line l;

	begin(&l);
	uart_write(&l.u, FCR, 0x01);
	receive(&l, 5);
	uart_write(&l.u, FCR, 0x03);
	cr_assert_eq(uart_room(&l.u), 16, "cleared");
	receive(&l, 5);
	uart_write(&l.u, FCR, 0x00);
	cr_assert_eq(uart_read(&l.u, LSR), 0x60, "switching clears");
	cr_assert_eq(uart_read(&l.u, IIR), 0x01, "no FIFO bits");
	uart_write(&l.u, FCR, 0xc0);
	receive(&l, 1);
	uart_write(&l.u, IER, 1);
	cr_assert_eq(uart_read(&l.u, IIR), 0x04, "a trigger without the enable bit does not count");
}

Test(uart, state)
{
	struct line a, b;
	uint8_t state[UART_STATE_SIZE], again[UART_STATE_SIZE];
	struct gw_error err = { 0 };

	begin(&a);
	begin(&b);
	uart_write(&a.u, FCR, 0x01);
	for (unsigned i = 0; i < 10; i++) {
		receive(&a, 1);
		uart_read(&a.u, DATA);
	}
	receive(&a, 12); /* around the ring's end */
	uart_write(&a.u, LCR, 0x83);
	uart_write(&a.u, DATA, 0x0c);
	uart_write(&a.u, LCR, 0x03);
	uart_write(&a.u, SCR, 0x77);
	uart_write(&a.u, IER, 0x05);
	uart_save(&a.u, state);
	cr_assert_eq(uart_load(&b.u, state, &err), 0);
	cr_assert_eq(b.edges, 0, "no op is called");
	cr_assert(b.u.line);
	b.level = b.u.line;
	uart_save(&b.u, again);
	cr_assert_arr_eq(state, again, sizeof(state));
	cr_assert_eq(uart_read(&b.u, IIR), 0xc4);
	for (unsigned i = 0; i < 12; i++)
		cr_assert_eq(uart_read(&b.u, DATA), 'a' + i);
	state[10] = 17;
	cr_assert_eq(uart_load(&b.u, state, &err), -EINVAL);
	state[10] = 2;
	state[1] = 0; /* no FIFO: room for one */
	cr_assert_eq(uart_load(&b.u, state, &err), -EINVAL);
}
