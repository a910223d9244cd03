/* SPDX-License-Identifier: Apache-2.0 */
/* What the device tree has to say of the power button (pm.c). */
#ifndef ARM64_PM_H
#define ARM64_PM_H

#define PM_POWER_PIN 3 /* of the GPIO */

#endif
