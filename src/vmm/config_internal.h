/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the configuration share: the tables, faults that gather, single values. */
#ifndef VMM_CONFIG_INTERNAL_H
#define VMM_CONFIG_INTERNAL_H

#include "vmm/config.h"

#include <cjson/cJSON.h>

/* The machine's own keys; offsets into struct config. */
extern const struct config_key config_machine_keys[];
/* What a NUMA node has; offsets into struct config_node. */
extern const struct config_key config_node_keys[];
/* What every device has; offsets into struct config_device. */
extern const struct config_key config_device_keys[];

/* ---- config_faults.c: all faults of a text, told at once ---- */

struct config_faults {
	const char *name; /* put before all */
	struct gw_error *err;
	struct gw_error text;
	size_t room;
	unsigned count, left_out;
	uint32_t faulty_devices; /* a bit for each of the list that could not be read */
	bool faulty_nodes;       /* some entry of "numa" could not be read */
};

/* `err` may be NULL. */
void config_faults_begin(struct config_faults *faults, const char *name, struct gw_error *err);
void config_fault(struct config_faults *faults, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* The same with another code than -EINVAL; the first one's is what is returned in the end. */
void config_fault_code(struct config_faults *faults, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* 0 if there was none; otherwise fills the error and returns its code. */
int config_faults_end(struct config_faults *faults);

/* ---- config_value.c: one key's value ---- */

/* `base` is what the key's offset counts from; `path` is what faults call the key. */
void config_read_value(const cJSON *item, const struct config_key *key, const char *path,
                       void *base, struct config_faults *faults);
/* The defaults of a table's keys; the rest is zero already. */
void config_read_defaults(const struct config_key *keys, void *base, struct config_faults *faults);
/* Adds it to `object`, unless it is what a key without a value reads as. False: out of memory. */
bool config_print_value(cJSON *object, const struct config_key *key, const void *base);

/* ---- config_keys.c ---- */

const struct config_key *config_find_key(const struct config_key *keys, const char *section,
                                         const char *name);
bool config_same_section(const char *a, const char *b);

/* ---- config_check.c: do the values fit each other? ---- */
void config_check_whole(const struct config *config, const struct device_drivers *drivers,
                        struct config_faults *faults);
/* Is what it names on this host? Devices that could not be read are passed over. */
void config_check_here(const struct config *config, const struct device_drivers *drivers,
                       bool incoming, struct config_faults *faults);

/* ---- config_numa.c ---- */
void config_check_numa(const struct config *config, struct config_faults *faults);

/* ---- config_pair.c ---- */
void config_check_pairs(const struct config *config, const struct device_drivers *drivers,
                        struct config_faults *faults);

#endif
