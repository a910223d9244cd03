/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program `godwit`: subcommands on top of godwit.h.
 *
 * A subcommand is a function that gets its words as main() gets them (argv[0]
 * is its name) and returns the exit status. Messages go to stderr as
 * "godwit: SUBCOMMAND: ...", answers to stdout.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "godwit.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

int cli_run(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_ctl(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_config(int argc, char **argv);
int cli_devices(int argc, char **argv);
int cli_device_server(int argc, char **argv);

/* The longest configuration that is read. */
#define CLI_CONFIG_MAX (1u << 20)

/* JSON on stdout, for people: over several lines. */
void cli_print_json(const char *json);

/* "godwit: WHAT: ..." on stderr; returns CLI_FAILED. */
int cli_error(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, with a pointer to `godwit help WHAT`; returns CLI_USAGE. */
int cli_usage(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
