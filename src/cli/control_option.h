/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a subcommand that holds a VM serves its control socket:
 *
 *     --control PATH            a UNIX socket made here
 *     --control systemd         a socket that the service manager hands over
 *     --control tls:HOST:PORT   TCP, with TLS
 *     --control-group GROUP     with the first two: this group may use it as well
 *     --tls-dir DIR             with the last: ca-cert.pem, server-cert.pem, server-key.pem
 *
 * One gives what getopt found to control_option(), looks once with control_choice_check() when all
 * options are read, and calls control_open() when the VM is there.
 */
#ifndef CLI_CONTROL_OPTION_H
#define CLI_CONTROL_OPTION_H

#include "godwit.h"

/* The options for getopt_long(), to be put into the subcommand's table. */
#define CONTROL_OPTIONS                                                                            \
	{ "control", required_argument, NULL, 0 },                                                 \
	        { "control-group", required_argument, NULL, 0 },                                   \
	{                                                                                          \
		"tls-dir", required_argument, NULL, 0                                              \
	}

/* All NULL: no control socket. The strings are argv's. */
struct control_choice {
	const char *where;
	const char *group;
	const char *tls_dir;
};

/* `name` is the option's, without the dashes. -ENOENT: it is none of these. -EINVAL: given twice.
 */
int control_option(const char *name, const char *value, struct control_choice *choice,
                   struct gw_error *err);

/* Do they go together? -EINVAL. */
int control_choice_check(const struct control_choice *choice, struct gw_error *err);

/* Serves the VM there; *out stays NULL if no socket is wanted. */
int control_open(struct gw_vm *vm, const struct control_choice *choice, struct gw_control **out,
                 struct gw_error *err);

#endif
