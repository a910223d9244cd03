/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's configuration: JSON in, a checked struct out, and back.
 *
 * Every key is a row of a table (struct config_key): the machine's in
 * config_keys.c, a device's beside its driver. From the rows come the checks,
 * the JSON schema, the documentation and `godwit config --help`.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DEVICES_MAX 31
#define CONFIG_PATH_MAX 256
#define CONFIG_OPTIONS_SIZE 2048
#define CONFIG_CPUS_MAX 255
#define CONFIG_NODES_MAX 16

/* ---- keys ------------------------------------------------------------------------------- */

struct config_texts {
	unsigned count;
	char item[CONFIG_CPUS_MAX][24];
};

struct config_numbers {
	unsigned count;
	uint32_t item[CONFIG_NODES_MAX];
};

enum config_kind {
	CONFIG_TEXT,  /* char[max]: at most max - 1 bytes */
	CONFIG_UINT,  /* uint32_t from min to max */
	CONFIG_SIZE,  /* uint64_t bytes from min to max; "512M" in JSON, or a number */
	CONFIG_BOOL,  /* bool */
	CONFIG_ENUM,  /* uint32_t: which of `words` */
	CONFIG_TEXTS, /* struct config_texts: a list of at most max strings */
	CONFIG_UINTS, /* struct config_numbers: a list of numbers from min to max */
	CONFIG_JSON,  /* char[max]: any JSON value, kept as text */
};

#define CONFIG_REQUIRED 1u
#define CONFIG_FILE 2u /* a file that must be there and readable when the machine is made */
#define CONFIG_OF_HOST                                                                             \
	4u /* names something of the host: may be overridden where a guest arrives                 \
	    */

struct config_key {
	const char *section; /* object that it stands in; NULL: top level */
	const char *name;    /* NULL ends a table */
	enum config_kind kind;
	unsigned flags;
	size_t offset; /* into struct config, or into a driver's options struct */
	uint64_t min, max;
	const char *otherwise;    /* the default as JSON text; NULL: empty, 0 or false */
	const char *const *words; /* CONFIG_ENUM: ends with NULL */
	const char *help;
	/* CONFIG_TEXT: NULL, or what else is to be checked; errors without the key's name. */
	int (*check)(const char *text, struct gw_error *err);
};

/* Shorthands for rows. */
#define CONFIG_ROW_TEXT(section, name, flags, type, member, help)                                  \
	{                                                                                          \
		section, name, CONFIG_TEXT, flags, offsetof(type, member), 0,                      \
		        sizeof(((type *)0)->member), NULL, NULL, help, NULL                        \
	}
#define CONFIG_ROW_NUMBER(section, name, kind, flags, type, member, min, max, otherwise, help)     \
	{                                                                                          \
		section, name, kind, flags, offsetof(type, member), min, max, otherwise, NULL,     \
		        help, NULL                                                                 \
	}
#define CONFIG_ROW_BOOL(section, name, type, member, otherwise, help)                              \
	{                                                                                          \
		section, name, CONFIG_BOOL, 0, offsetof(type, member), 0, 0, otherwise, NULL,      \
		        help, NULL                                                                 \
	}
#define CONFIG_ROW_ENUM(section, name, type, member, otherwise, words, help)                       \
	{                                                                                          \
		section, name, CONFIG_ENUM, 0, offsetof(type, member), 0, 0, otherwise, words,     \
		        help, NULL                                                                 \
	}
#define CONFIG_ROW_END                                                                             \
	{                                                                                          \
		NULL, NULL, CONFIG_TEXT, 0, 0, 0, 0, NULL, NULL, NULL, NULL                        \
	}

/* ---- what it becomes ------------------------------------------------------------------- */

struct config_device {
	char id[32];
	char type[16];
	uint32_t slot;     /* PCI slot of bus 0; 0: any */
	uint32_t port;     /* root port that it is behind; 0: none, or any */
	uint32_t function; /* in that slot */
	char failover[32]; /* the device that stands in for it while it is away; "": none */
	/* The driver's options struct, filled by its keys. */
	_Alignas(8) uint8_t options[CONFIG_OPTIONS_SIZE];
};

/* A NUMA node of the guest; its number is its place in the list. */
struct config_node {
	char cpus[640];  /* "0-3,8"; "": none */
	uint64_t memory; /* bytes; it follows the memory of the node before */
	char host_nodes[64];
	struct config_numbers distances; /* to each node; none: not told */
};

struct config_serial {
	char socket[CONFIG_PATH_MAX]; /* UNIX stream socket to listen on; "" none */
	char log[CONFIG_PATH_MAX];    /* file that output is appended to; "" none */
	bool stdio;                   /* the process's stdin and stdout */
};

enum config_clock { CONFIG_CLOCK_CONTINUE, CONFIG_CLOCK_REALTIME };
enum config_cpu_model { CONFIG_CPU_HOST, CONFIG_CPU_V2, CONFIG_CPU_V3 };
/* The longest vectors of SVE, in bits; a feature that the host's KVM may offer. */
enum config_sve {
	CONFIG_SVE_AUTO,
	CONFIG_SVE_OFF,
	CONFIG_SVE_128,
	CONFIG_SVE_256,
	CONFIG_SVE_512,
	CONFIG_SVE_1024,
	CONFIG_SVE_2048
};
enum config_choice { CONFIG_CHOICE_AUTO, CONFIG_CHOICE_OFF, CONFIG_CHOICE_ON };
enum config_pages { CONFIG_PAGES_TRANSPARENT, CONFIG_PAGES_4K, CONFIG_PAGES_2M, CONFIG_PAGES_1G };

struct config {
	char name[64];
	char uuid[37];
	uint32_t cpus;
	struct {
		uint32_t model;                         /* enum config_cpu_model */
		uint32_t sockets, dies, cores, threads; /* 0: worked out */
		uint32_t sve;                           /* enum config_sve */
		uint32_t pauth;                         /* enum config_choice */
		bool pmu;
		struct config_texts affinity; /* host CPUs of each vCPU: "3", "0-1,4" */
	} cpu;
	uint64_t memory; /* bytes, multiple of 2 MiB */
	struct {
		uint32_t pages; /* enum config_pages */
		bool lock;
		bool prealloc;
		bool shared;    /* other processes may map it, too, so nothing stands in for it */
		char nodes[64]; /* host NUMA nodes to bind to: "0", "0-1"; "": any */
	} backing;
	struct config_node numa[CONFIG_NODES_MAX];
	unsigned node_count; /* 0: the guest is told of no nodes */
	uint32_t clock;      /* enum config_clock */
	struct {
		char kernel[CONFIG_PATH_MAX];
		char initrd[CONFIG_PATH_MAX];
		char cmdline[2048];
		char firmware[CONFIG_PATH_MAX];
	} boot;
	struct {
		uint32_t root_ports; /* 0: as many as the architecture has by itself */
		uint32_t node;       /* NUMA node that the root bus is near to */
	} pci;
	struct config_serial serial;
	struct config_device devices[CONFIG_DEVICES_MAX];
	unsigned device_count;
};

/* The types of device that there are. */
struct device_driver;
struct device_drivers {
	const struct device_driver *const *list;
	unsigned count;
};

/* NULL: there is no such type. */
const struct device_driver *config_find_driver(const struct device_drivers *drivers,
                                               const char *type);

/* Parses and checks. All faults are in the error's text, "; " between them. */
int config_parse(const char *json, const char *name, const struct device_drivers *drivers,
                 struct config *out, struct gw_error *err);
/* And config_check_host() as well, of whatever could be read: the faults of both are told at once.
 */
int config_parse_here(const char *json, const char *name, const struct device_drivers *drivers,
                      struct config *out, struct gw_error *err);
/* One entry of "devices". */
int config_parse_device(const char *json, const struct device_drivers *drivers,
                        struct config_device *out, struct gw_error *err);
/* Whether `device`, an entry of `config`, has whom its `failover` names. */
int config_check_pair(const struct config *config, const struct config_device *device,
                      const struct device_drivers *drivers, struct gw_error *err);
/* Whether the two have the same Ethernet address, as far as that is known before. */
int config_check_addresses(const struct config *config, const struct config_device *device,
                           const struct device_drivers *drivers, struct gw_error *err);
/* How many root ports a machine made from it has. */
uint32_t config_root_ports(const struct config *config);
/* NULL: there is none of that name. */
struct config_device *config_find_device(struct config *config, const char *id);
/* What the configuration names on this host is there: files, devices (device_driver.check_host).
 * Not part of config_parse, since what arrives from elsewhere is mapped first. With `incoming`
 * the machine's own files are not looked for: the boot images come along. */
int config_check_host(const struct config *config, const char *name,
                      const struct device_drivers *drivers, bool incoming, struct gw_error *err);
int config_check_host_device(const struct config_device *device,
                             const struct device_drivers *drivers, struct gw_error *err);
/* Overrides by path, of keys that are CONFIG_OF_HOST: "serial.socket", "devices.ID.host",
 * "numa.NUMBER.host-nodes". And
 * "devices.ID" with the value "none" leaves a device out that another one stands in for. */
int config_apply_map(struct config *config, const struct device_drivers *drivers,
                     const struct gw_map *map, size_t count, struct gw_error *err);
/* As JSON text that config_parse takes, released with free(). NULL: out of memory. */
char *config_print(const struct config *config, const struct device_drivers *drivers);

/* From the same tables, released with free(); NULL: out of memory (config_describe.c). */
char *config_schema(const struct device_drivers *drivers);
/* For people: every key with type, range, default and meaning; as text or as Markdown. */
char *config_help(const struct device_drivers *drivers, bool markdown);

#endif
