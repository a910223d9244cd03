/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arm's PrimeCell real-time clock: seconds since 1970, by the host's clock and
 * what the guest has set it to, and an alarm. As a clock with a battery does,
 * it goes on while the guest stands still. Participant "rtc".
 * Source: ARM PrimeCell Real Time Clock (PL031) technical reference manual (DDI 0224), 3.
 */
#ifndef ARM64_PL031_H
#define ARM64_PL031_H

#include "vmm/machine.h"

struct pl031;

/* Registers at LAYOUT_RTC on m->mmio, interrupt LAYOUT_RTC_GSI. */
int pl031_create(struct machine *m, struct pl031 **out, struct gw_error *err);
/* NULL is fine. */
void pl031_destroy(struct pl031 *rtc);
void pl031_reset(struct pl031 *rtc);

#endif
