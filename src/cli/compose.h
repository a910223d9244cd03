/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration put together on the command line: from a file or from
 * nothing, with quick flags and single values on top.
 *
 *     --name, --memory, --cpus, --kernel, --initrd, --cmdline   the key of that name
 *     --disk FILE[,ro]   a virtio-blk      --net TAP   a virtio-net
 *     --vfio ADDRESS     a vfio-pci        --vfio-user SOCKET   a vfio-user-pci
 *     --set PATH=VALUE   any key
 *
 * All is done on JSON; what the keys mean is the library's business. --set
 * comes after the other flags, so that it reaches the devices that they make.
 */
#ifndef CLI_COMPOSE_H
#define CLI_COMPOSE_H

#include "godwit.h"

#define COMPOSE_WORDS_MAX 128

struct compose_word {
	const char *flag; /* without the dashes */
	const char *value;
};

/* The strings are argv's. */
struct compose {
	struct compose_word words[COMPOSE_WORDS_MAX];
	unsigned count;
};

/* The options for getopt_long(), to be put into the subcommand's table. */
#define COMPOSE_OPTION(name)                                                                       \
	{                                                                                          \
		name, required_argument, NULL, 0                                                   \
	}
#define COMPOSE_OPTIONS                                                                            \
	COMPOSE_OPTION("name"), COMPOSE_OPTION("memory"), COMPOSE_OPTION("cpus"),                  \
	        COMPOSE_OPTION("kernel"), COMPOSE_OPTION("initrd"), COMPOSE_OPTION("cmdline"),     \
	        COMPOSE_OPTION("disk"), COMPOSE_OPTION("net"), COMPOSE_OPTION("vfio"),             \
	        COMPOSE_OPTION("vfio-user"), COMPOSE_OPTION("set")

/* Notes a flag. -ENOENT: it is none of these. -E2BIG: too many. */
int compose_option(const char *flag, const char *value, struct compose *to, struct gw_error *err);

/* The configuration: `base` is a file's text or NULL, for which there are the defaults of the
 * quick case (512M, console on stdin and stdout). *out is released with free(). What is no JSON
 * object is handed on as it is, for the library to refuse. */
int compose_text(const struct compose *c, const char *base, char **out, struct gw_error *err);

#endif
