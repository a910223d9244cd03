/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port, where the architecture has it (arch_platform.serial): the console. Its far
 * end is any of a UNIX stream socket (one client at a time), a log file, and the process's stdin
 * and stdout; a client that does not read never holds up the guest (output that it does not take is
 * dropped for it).
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include "vmm/machine.h"

/* Registers on m->pio or m->mmio, on m->loop and as participant "serial0". */
int serial_create(struct machine *m, const struct config_serial *config, struct serial **out,
                  struct gw_error *err);
void serial_destroy(struct serial *s);
void serial_reset(struct serial *s);
/* The log file has all that the guest has written, unless its disk has stalled. */
void serial_flush_log(struct serial *s);

#endif
