/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serial.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/serial_ends.h"
#include "vmm/uart.h"

#include <stdio.h>
#include <string.h>

struct serial {
	struct machine *machine;
	struct uart uart;
	struct serial_ends *ends;
	struct bus_range range;
	struct participant participant;
};

/* ---- between the chip and the ends ---- */

static void on_transmit(void *opaque, uint8_t byte)
{
	struct serial *s = opaque;

	serial_ends_write(s->ends, &byte, 1);
}

static void on_interrupt(void *opaque, bool level)
{
	struct serial *s = opaque;

	irq_set_line(s->machine->irqs, SERIAL_GSI, level);
}

/* Fills the receiver from what has been read. */
static void feed(void *opaque)
{
	struct serial *s = opaque;
	uint8_t bytes[UART_FIFO];
	size_t n = serial_ends_take(s->ends, bytes, uart_room(&s->uart));

	for (size_t i = 0; i < n; i++)
		uart_receive(&s->uart, bytes[i]);
}

static const struct serial_ends_ops ends_ops = { .input = feed };

static const struct uart_ops uart_ops = {
	.transmit = on_transmit,
	.interrupt = on_interrupt,
	.room = feed,
};

/* ---- the guest's side ---- */

/* The chip has an 8-bit bus: wider accesses become one for each byte. */
static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *s = opaque;
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)uart_read(&s->uart, (unsigned)offset + i) << i * 8;
	return value;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct serial *s = opaque;

	for (unsigned i = 0; i < size; i++)
		uart_write(&s->uart, (unsigned)offset + i, (uint8_t)(value >> i * 8));
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write };

/* ---- as a participant ---- */

enum { RECORD_UART = 1, RECORD_INPUT = 2 };

static struct serial *serial_of(struct participant *p)
{
	return container_of(p, struct serial, participant);
}

static void hold(struct serial *s, bool held)
{
	machine_lock(s->machine);
	serial_ends_hold(s->ends, held);
	machine_unlock(s->machine);
}

/* From here on the far ends' input stays with them. */
static int serial_stop(struct participant *p, struct gw_error *err)
{
	(void)err;
	hold(serial_of(p), true);
	return 0;
}

static int serial_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct serial *s = serial_of(p);
	uint8_t state[UART_STATE_SIZE], input[SERIAL_INPUT_MAX];
	const uint8_t *at;
	size_t len;
	int r;

	machine_lock(s->machine);
	uart_save(&s->uart, state);
	len = serial_ends_peek(s->ends, &at);
	memcpy(input, at, len);
	machine_unlock(s->machine);
	r = sink_record(sink, p, RECORD_UART, state, sizeof(state), err);
	return r < 0 ? r : sink_record(sink, p, RECORD_INPUT, input, len, err);
}

static int serial_rollback(struct participant *p, struct gw_error *err)
{
	(void)err;
	hold(serial_of(p), false);
	return 0;
}

static void serial_finish(struct participant *p, bool goes_on)
{
	if (goes_on)
		hold(serial_of(p), false);
}

/* The ends here have nothing to say before the guest runs. */
static int serial_begin_load(struct participant *p, struct gw_error *err)
{
	(void)err;
	hold(serial_of(p), true);
	return 0;
}

static int load_record(struct serial *s, uint16_t type, const void *buf, size_t len,
                       struct gw_error *err)
{
	if (type == RECORD_UART && len == UART_STATE_SIZE)
		return uart_load(&s->uart, buf, err);
	if (type == RECORD_INPUT)
		return serial_ends_refill(s->ends, buf, len, err);
	return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
}

static int serial_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                       size_t len, struct gw_error *err)
{
	struct serial *s = serial_of(p);
	int r;

	(void)version;
	machine_lock(s->machine);
	r = load_record(s, type, buf, len, err);
	machine_unlock(s->machine);
	return r;
}

/* By now the interrupt controller has its state too. */
static int serial_settle(struct participant *p, struct gw_error *err)
{
	struct serial *s = serial_of(p);

	(void)err;
	machine_lock(s->machine);
	on_interrupt(s, s->uart.line);
	machine_unlock(s->machine);
	return 0;
}

static int serial_resume(struct participant *p, int pass, struct gw_error *err)
{
	struct serial *s = serial_of(p);

	(void)err;
	if (pass == 1)
		hold(s, false);
	return 0;
}

static const struct participant_ops participant_ops = {
	.kind = "serial",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.stop = serial_stop,
	.save = serial_save,
	.finish = serial_finish,
	.rollback = serial_rollback,
	.begin_load = serial_begin_load,
	.load = serial_load,
	.settle = serial_settle,
	.resume = serial_resume,
};

/* ---- making and unmaking ---- */

static int attach(struct serial *s, const struct config_serial *config, struct gw_error *err)
{
	struct machine *m = s->machine;
	const struct serial_ends_config ends = {
		.name = s->participant.name,
		.keys = "serial.",
		.socket = config->socket,
		.log = config->log,
		.fd = -1,
		.stdio = config->stdio,
	};
	int r = bus_add(&m->pio, &s->range, err);

	if (r < 0)
		return r;
	r = participant_add(&m->participants, &s->participant, err);
	if (r < 0)
		goto fail_bus;
	/* Last, since its handlers begin at once. */
	r = serial_ends_create(m->loop, m->log, &m->device_lock, &ends, &ends_ops, s, &s->ends,
	                       err);
	if (r < 0)
		goto fail_participant;
	return 0;
fail_participant:
	participant_remove(&m->participants, &s->participant);
fail_bus:
	bus_remove(&m->pio, &s->range);
	return r;
}

int serial_create(struct machine *m, const struct config_serial *config, struct serial **out,
                  struct gw_error *err)
{
	struct serial *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, "no memory for the serial port");
	s->machine = m;
	uart_init(&s->uart, &uart_ops, s);
	s->range = (struct bus_range){
		.base = SERIAL_PORT,
		.size = UART_REGISTERS,
		.ops = &port_ops,
		.opaque = s,
		.name = "serial0",
	};
	s->participant.ops = &participant_ops;
	snprintf(s->participant.name, sizeof(s->participant.name), "serial0");
	r = attach(s, config, err);
	if (r < 0) {
		free(s);
		return r;
	}
	*out = s;
	return 0;
}

void serial_destroy(struct serial *s)
{
	if (!s)
		return;
	serial_ends_destroy(s->ends);
	participant_remove(&s->machine->participants, &s->participant);
	bus_remove(&s->machine->pio, &s->range);
	free(s);
}

void serial_flush_log(struct serial *s)
{
	serial_ends_flush_log(s->ends);
}

void serial_reset(struct serial *s)
{
	uart_reset(&s->uart);
}
