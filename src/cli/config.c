/* SPDX-License-Identifier: Apache-2.0 */
/* godwit config: what a configuration may hold, and whether one is good. */
#include "cli/cli.h"

#include "base/io.h"
#include "base/util.h"

#include <getopt.h>
#include <stdio.h>

static int print_schema(const char *what)
{
	struct gw_error err;
	char *json = NULL;

	if (gw_config_schema(&json, &err) < 0)
		return cli_error(what, "%s", err.text);
	puts(json);
	gw_free(json);
	return CLI_OK;
}

static int print_help(const char *what, bool markdown)
{
	struct gw_error err;
	char *text = NULL;

	if (gw_config_help(markdown, &text, &err) < 0)
		return cli_error(what, "%s", err.text);
	fputs(text, stdout);
	gw_free(text);
	return CLI_OK;
}

/* Each file by itself, so that all that is wrong is told. */
static int check_files(const char *what, char **files, bool host)
{
	int status = CLI_OK;

	for (; *files; files++) {
		autofree char *json = NULL;
		struct gw_error err;
		int r = io_read_file(*files, CLI_CONFIG_MAX, &json, NULL, &err);

		if (!r)
			r = gw_config_check(json, *files, host, &err);
		if (r < 0)
			status = cli_error(what, "%s", err.text);
		else
			printf("%s: good\n", *files);
	}
	return status;
}

int cli_config(int argc, char **argv)
{
	static const struct option options[] = {
		{ "schema", no_argument, NULL, 's' },   { "help", no_argument, NULL, 'h' },
		{ "markdown", no_argument, NULL, 'm' }, { "check", no_argument, NULL, 'c' },
		{ "host", no_argument, NULL, 'H' },     { 0 },
	};
	bool markdown = false, host = false;
	int option, act = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == '?')
			return cli_usage(argv[0], "bad option");
		if (option == 'm')
			markdown = true;
		else if (option == 'H')
			host = true;
		else if (act && act != option)
			return cli_usage(argv[0], "one of --schema, --help, --check at a time");
		else
			act = option;
	}
	if (host && act != 'c')
		return cli_usage(argv[0], "--host: goes with --check");
	if (markdown && act != 'h')
		return cli_usage(argv[0], "--markdown: goes with --help");
	if (act == 'c')
		return optind < argc ? check_files(argv[0], argv + optind, host)
		                     : cli_usage(argv[0], "--check: needs a file");
	if (optind < argc || !act)
		return cli_usage(argv[0], "needs --schema, --help or --check FILE...");
	return act == 's' ? print_schema(argv[0]) : print_help(argv[0], markdown);
}
