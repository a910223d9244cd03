/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>

void cli_print_json(const char *json)
{
	cJSON *root = cJSON_Parse(json);
	autofree char *pretty = root ? cJSON_Print(root) : NULL;

	puts(pretty ? pretty : json);
	cJSON_Delete(root);
}

int cli_inspect(int argc, char **argv)
{
	static const struct option none[] = { { 0 } };
	struct gw_error err;
	char *json = NULL;
	int r;

	if (getopt_long(argc, argv, "", none, NULL) != -1 || argc != optind + 1)
		return cli_usage(argv[0], "needs one directory or file");
	r = gw_inspect(argv[optind], &json, &err);
	if (json)
		cli_print_json(json);
	gw_free(json);
	return r < 0 ? cli_error(argv[0], "%s", err.text) : CLI_OK;
}
