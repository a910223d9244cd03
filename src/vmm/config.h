/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's configuration: JSON in, a checked struct out, and back.
 * One table (config.c) names every key with its type, range and meaning.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DEVICES_MAX 31
#define CONFIG_PATH_MAX 256

struct config_device {
	char id[32];
	char type[16];              /* "vfio-pci" */
	char host[CONFIG_PATH_MAX]; /* "0000:00:10.0", or a sysfs path */
	uint32_t slot;              /* PCI slot; 0: any */
};

struct config_serial {
	char socket[CONFIG_PATH_MAX]; /* UNIX stream socket to listen on; "" none */
	char log[CONFIG_PATH_MAX];    /* file that output is appended to; "" none */
	bool stdio;                   /* the process's stdin and stdout */
};

struct config {
	char name[64];
	uint32_t cpus;
	uint64_t memory; /* bytes, multiple of 2 MiB */
	struct {
		char kernel[CONFIG_PATH_MAX];
		char initrd[CONFIG_PATH_MAX];
		char cmdline[2048];
	} boot;
	struct config_serial serial;
	struct config_device devices[CONFIG_DEVICES_MAX];
	unsigned device_count;
};

/* Parses and checks. All faults are in the error's text, "; " between them. */
int config_parse(const char *json, const char *name, struct config *out, struct gw_error *err);
/* One entry of "devices". */
int config_parse_device(const char *json, struct config_device *out, struct gw_error *err);
/* Overrides by path: "serial.socket", "devices.ID.host". */
int config_apply_map(struct config *config, const struct gw_map *map, size_t count,
                     struct gw_error *err);
/* As JSON text, released with free(). NULL: out of memory. */
char *config_print(const struct config *config);

#endif
