/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int cli_version(int argc, char **argv);
static int cli_help(int argc, char **argv);

static const struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *synopsis;
	const char *help;
} subcommands[] = {
	{ "run", cli_run,
	  "run CONFIG [--control PATH] [--paused] [-v|-q]\n"
	  "run --incoming URI|defer [--map PATH=VALUE]... [--control PATH] [-v|-q]",
	  "Runs a virtual machine, from a configuration or as the place where one\n"
	  "arrives, until it powers off or is told to quit. SIGINT and SIGTERM quit.\n"
	  "\n"
	  "  --incoming URI    wait for a migration on tcp:HOST:PORT or unix:PATH;\n"
	  "                    defer: until migrate-incoming or snapshot-load is given\n"
	  "  --map PATH=VALUE  host resources that differ here, as devices.ID.host=...\n"
	  "  --control PATH    serve QMP on a UNIX socket\n"
	  "  --paused          wait for cont before the first instruction\n"
	  "  -v, -q            say more, or less; may be repeated\n" },
	{ "restore", cli_restore,
	  "restore DIR [--map PATH=VALUE]... [--control PATH] [--paused] [-v|-q]",
	  "Runs a virtual machine from a snapshot directory. One that was paused when\n"
	  "it was saved stays paused. Options as with run.\n" },
	{ "ctl", cli_ctl,
	  "ctl PATH COMMAND [KEY=VALUE]... [--timeout S]\n"
	  "ctl PATH events [--timeout S]\n"
	  "ctl PATH wait EVENT [KEY=VALUE]... [--timeout S]\n"
	  "ctl PATH wait-migration [--timeout S]",
	  "Sends a command to a control socket and prints what it returns. A value is\n"
	  "JSON if it can be read as such, and a string otherwise. query-commands lists\n"
	  "the commands.\n"
	  "\n"
	  "  events            print events, one a line\n"
	  "  wait EVENT        print the first event of that name whose data has these\n"
	  "                    values\n"
	  "  wait-migration    wait until a migration has ended and print\n"
	  "                    query-migrate; the exit status says if it was completed\n"
	  "  --timeout S       give up after S seconds; until then, wait for a socket\n"
	  "                    that is not there yet\n" },
	{ "inspect", cli_inspect, "inspect DIR|FILE",
	  "Describes a snapshot directory, or a file that holds a stream, as JSON, and\n"
	  "checks every checksum in it.\n" },
	{ "version", cli_version, "version", "Prints the version.\n" },
	{ "help", cli_help, "help [SUBCOMMAND]", "Says how a subcommand is used.\n" },
};

static const struct subcommand *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (!strcmp(subcommands[i].name, name))
			return &subcommands[i];
	return NULL;
}

static void print_synopsis(FILE *to, const struct subcommand *sub)
{
	const char *line = sub->synopsis;

	while (*line) {
		const size_t len = strcspn(line, "\n");

		fprintf(to, "  godwit %.*s\n", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

static void print_all(FILE *to)
{
	fprintf(to, "usage:\n");
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		print_synopsis(to, &subcommands[i]);
}

static int cli_version(int argc, char **argv)
{
	if (argc > 1)
		return cli_usage(argv[0], "takes no arguments");
	printf("godwit %s\n", gw_version());
	return CLI_OK;
}

static int cli_help(int argc, char **argv)
{
	const struct subcommand *sub;

	if (argc < 2) {
		print_all(stdout);
		return CLI_OK;
	}
	sub = find(argv[1]);
	if (!sub || argc > 2)
		return cli_usage(argv[0], "no subcommand is named \"%s\"", argv[argc - 1]);
	print_synopsis(stdout, sub);
	printf("\n%s", sub->help);
	return CLI_OK;
}

int cli_error(const char *what, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "godwit: %s: ", what);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_usage(const char *what, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "godwit: %s: ", what);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "; see \"godwit help %s\"\n", what);
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct subcommand *sub;
	int status;

	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	else if (!strcmp(name, "--version"))
		name = "version";
	sub = find(name);
	if (!sub) {
		if (*name)
			fprintf(stderr, "godwit: no subcommand is named \"%s\"\n", name);
		print_all(stderr);
		return CLI_USAGE;
	}
	status = sub->run(argc - 1, argv + 1);
	if (fflush(stdout) == EOF && status == CLI_OK)
		status = cli_error(sub->name, "cannot write to stdout");
	return status;
}
