/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory and registers as an ELF core file: one PT_NOTE with an
 * NT_PRSTATUS for each vCPU, one PT_LOAD for each piece of RAM by physical
 * address. gdb and crash open it.
 * Source: ELF-64 object file format, version 1.5; core(5); Linux, <linux/elfcore.h>.
 */
#ifndef VMM_DUMP_H
#define VMM_DUMP_H

#include "godwit.h"

struct machine;

/* vCPUs are paused. Pages of zeros become holes where fd is a file that can have them. */
int dump_write(struct machine *m, int fd, struct gw_error *err);

#endif
