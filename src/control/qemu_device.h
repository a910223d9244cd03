/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_add as clients of QEMU give it: the names of its drivers that are devices here, and of
 * their parameters. A table says of each parameter which key it is, or with which values it may be
 * ignored, since the guest and its data are none the worse for it; with others it is refused by
 * name. What is in no table is passed on: the keys of the configuration are, and what is none of
 * them is refused there.
 */
#ifndef CONTROL_QEMU_DEVICE_H
#define CONTROL_QEMU_DEVICE_H

#include "godwit.h"

#include <cjson/cJSON.h>

/* How a parameter's value is passed on: as it is, or made what the key takes, if it can be. */
enum qemu_value { QEMU_ANY, QEMU_BOOL, QEMU_NUMBER };

struct qemu_param {
	const char *name; /* NULL ends a table */
	enum qemu_value value;
	const char *key; /* NULL: none */
	/* Takes it in its own way. `value` is no part of `entry` any more. */
	int (*take)(cJSON *entry, const cJSON *value, struct gw_error *err);
	const char *harmless; /* values to be ignored, with a comma behind each; NULL: all */
	const char *instead;  /* said where it is refused */
};

#define QEMU_TABLES 3

struct qemu_driver {
	const char *name;                                 /* NULL ends the list */
	const char *type;                                 /* here; NULL: it is refused */
	const char *instead;                              /* then: what there is instead */
	const struct qemu_param *tables[QEMU_TABLES + 1]; /* NULL at the end */
	const char *key, *value;                          /* what it means beside its type; NULL */
};

extern const struct qemu_driver qemu_drivers[];

/* An entry of the configuration's `devices` out of device_add's arguments, with "driver" taken off
 * and without "type", which is added. -EINVAL, -ENOTSUP: the parameter, or the driver, is named. */
int qemu_device_translate(cJSON *entry, const char *driver, struct gw_error *err);

/* The value as QEMU prints it: "on" and "off" for truth values, "" for what is no scalar. */
const char *qemu_value_text(const cJSON *value, char *buf, size_t size);

#endif
