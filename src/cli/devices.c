/* SPDX-License-Identifier: Apache-2.0 */
/* godwit devices: the host's devices, for people as a table with remarks, for programs as JSON. */
#include "cli/cli.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const cJSON *device, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(device, key);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static bool is_true(const cJSON *device, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, key));
}

/* A number, or "-" where there is none. */
static const char *number_of(const cJSON *device, const char *key, char *buf, size_t size)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(device, key);

	if (cJSON_IsNumber(item))
		snprintf(buf, size, "%.0f", item->valuedouble);
	else
		snprintf(buf, size, "-");
	return buf;
}

/* "Ethernet controller: Intel Corporation 82574L", with numbers where words are missing. */
static void print_name(const cJSON *device)
{
	const char *vendor = text_of(device, "vendor-name"), *name = text_of(device, "device-name");
	const char *class = text_of(device, "class-name");

	if (!strcmp(text_of(device, "kind"), "mdev")) {
		printf("mediated device, %s\n", text_of(device, "mdev-type"));
		return;
	}
	printf("%s: ", *class ? class : "device");
	if (*vendor)
		printf("%s ", vendor);
	if (*name)
		printf("%s ", name);
	printf("[%s:%s]\n", text_of(device, "vendor"), text_of(device, "device"));
}

/* "  LABEL: a b c", if there are any. */
static void print_list(const cJSON *device, const char *key, const char *label)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(device, key), *item;

	if (!cJSON_GetArraySize(list))
		return;
	printf("    %s:", label);
	cJSON_ArrayForEach(item, list)
	{
		printf(" %s", cJSON_IsString(item) ? item->valuestring : "?");
	}
	putchar('\n');
}

static void print_migration(const cJSON *device)
{
	const cJSON *migration = cJSON_GetObjectItemCaseSensitive(device, "migration"), *item;
	bool any = false;

	if (!migration || cJSON_IsNull(migration))
		return;
	printf("    migration:");
	cJSON_ArrayForEach(item, migration)
	{
		if (cJSON_IsTrue(item))
			printf(" %s", item->string);
		else if (cJSON_IsNumber(item))
			printf(" %s=%.0f", item->string, item->valuedouble);
		any |= cJSON_IsTrue(item) || cJSON_IsNumber(item);
	}
	puts(any ? "" : " none");
}

static void print_remark(const cJSON *device, const char *key, const char *label)
{
	const char *text = text_of(device, key);

	if (*text)
		printf("    %s: %s\n", label, text);
}

static void print_device(const cJSON *device)
{
	const char *host = text_of(device, "host"), *driver = text_of(device, "driver");
	char group[16], node[16];

	/* A mediated device's path is as long as it is; its line goes on behind it. */
	printf("%-12s  %-15s  %5s  %4s  %-4s  %-4s  ", host, *driver ? driver : "-",
	       number_of(device, "iommu-group", group, sizeof(group)),
	       number_of(device, "numa-node", node, sizeof(node)),
	       is_true(device, "passable") ? "yes" : "no",
	       is_true(device, "movable") ? "yes" : "no");
	print_name(device);
	print_list(device, "group-others", "group also has");
	print_list(device, "reset-methods", "reset");
	print_remark(device, "character-device", "character device");
	print_migration(device);
	print_remark(device, "not-passable", "cannot be passed through");
	print_remark(device, "not-movable", "cannot be moved");
	print_remark(device, "mend", "to mend it");
}

static int print_table(const char *what, const char *json)
{
	cJSON *list = cJSON_Parse(json);
	const cJSON *device;

	if (!cJSON_IsArray(list)) {
		cJSON_Delete(list);
		return cli_error(what, "out of memory");
	}
	printf("%-12s  %-15s  %5s  %4s  %-4s  %-4s  %s\n", "HOST", "DRIVER", "GROUP", "NODE",
	       "PASS", "MOVE", "DEVICE");
	cJSON_ArrayForEach(device, list)
	{
		print_device(device);
	}
	cJSON_Delete(list);
	return CLI_OK;
}

int cli_devices(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	int option, status = CLI_OK;
	struct gw_error err;
	bool as_json = false;
	char *json = NULL;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'j')
			return cli_usage(argv[0], "bad option");
		as_json = true;
	}
	if (optind < argc)
		return cli_usage(argv[0], "\"%s\" is one word too many", argv[optind]);
	if (gw_host_devices(&json, &err) < 0)
		return cli_error(argv[0], "%s", err.text);
	if (as_json)
		cli_print_json(json);
	else
		status = print_table(argv[0], json);
	gw_free(json);
	return status;
}
