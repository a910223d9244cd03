/* SPDX-License-Identifier: Apache-2.0 */
/* The tables for people: as text for a terminal, as Markdown for docs/config.md. */
#include "vmm/config_internal.h"

#include "base/util.h"
#include "vmm/device.h"

#include <stdio.h>
#include <string.h>

#define WIDTH 78

/* ---- one value ----------------------------------------------------------------------------- */

static void put_size(FILE *to, uint64_t bytes)
{
	static const struct {
		char letter;
		uint64_t factor;
	} units[] = { { 'T', 1024 * GIB }, { 'G', GIB }, { 'M', MIB }, { 'K', KIB } };

	for (size_t i = 0; bytes && i < ARRAY_SIZE(units); i++) {
		if (bytes % units[i].factor)
			continue;
		fprintf(to, "%llu%c", (unsigned long long)(bytes / units[i].factor),
		        units[i].letter);
		return;
	}
	fprintf(to, "%llu", (unsigned long long)bytes);
}

static void put_text(FILE *to, const struct config_key *key)
{
	fputs(key->flags & CONFIG_FILE ? "file" : "text", to);
}

static void put_uint(FILE *to, const struct config_key *key)
{
	fprintf(to, "number, %llu to %llu", (unsigned long long)key->min,
	        (unsigned long long)key->max);
}

static void put_sizes(FILE *to, const struct config_key *key)
{
	fputs("size, ", to);
	put_size(to, key->min);
	fputs(" to ", to);
	put_size(to, key->max);
}

static void put_bool(FILE *to, const struct config_key *key)
{
	(void)key;
	fputs("true, false", to);
}

static void put_enum(FILE *to, const struct config_key *key)
{
	for (unsigned i = 0; key->words[i]; i++)
		fprintf(to, "%s%s", i ? ", " : "", key->words[i]);
}

static void put_texts(FILE *to, const struct config_key *key)
{
	(void)key;
	fputs("list of texts", to);
}

static void put_uints(FILE *to, const struct config_key *key)
{
	fputs("list of numbers, each ", to);
	fprintf(to, "%llu to %llu", (unsigned long long)key->min, (unsigned long long)key->max);
}

static void put_json(FILE *to, const struct config_key *key)
{
	(void)key;
	fputs("any JSON", to);
}

static void (*const put_type[])(FILE *to, const struct config_key *key) = {
	[CONFIG_TEXT] = put_text,   [CONFIG_UINT] = put_uint, [CONFIG_SIZE] = put_sizes,
	[CONFIG_BOOL] = put_bool,   [CONFIG_ENUM] = put_enum, [CONFIG_TEXTS] = put_texts,
	[CONFIG_UINTS] = put_uints, [CONFIG_JSON] = put_json,
};

/* "devices[].host", "boot.kernel". */
static void put_path(FILE *to, const char *prefix, const struct config_key *key)
{
	fprintf(to, "%s%s%s%s", prefix, key->section ? key->section : "", key->section ? "." : "",
	        key->name);
}

/* What it is where it is left out; NULL: nothing. */
static const char *default_of(const struct config_key *key)
{
	return !key->otherwise && key->kind == CONFIG_BOOL ? "false" : key->otherwise;
}

/* The default as people write it: words without JSON's quotes. */
static void put_default(FILE *to, const struct config_key *key)
{
	const char *text = default_of(key);
	const size_t len = strlen(text);
	const bool quoted = text[0] == '"' && len >= 2;

	fprintf(to, "%.*s", (int)(quoted ? len - 2 : len), text + quoted);
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Words, each line indented. */
static void put_wrapped(FILE *to, const char *words, unsigned indent)
{
	unsigned column = 0;

	while (*words) {
		const size_t len = strcspn(words, " ");

		if (column && column + 1 + len > WIDTH) {
			fputc('\n', to);
			column = 0;
		}
		if (column)
			fputc(' ', to);
		else
			fprintf(to, "%*s", (int)indent, "");
		column = (column ? column + 1 : indent) + (unsigned)len;
		fwrite(words, 1, len, to);
		words += len;
		words += strspn(words, " ");
	}
	fputc('\n', to);
}

static void text_keys(FILE *to, const char *prefix, const struct config_key *keys)
{
	for (const struct config_key *key = keys; key->name; key++) {
		put_path(to, prefix, key);
		fputs("   ", to);
		put_type[key->kind](to, key);
		if (key->flags & CONFIG_REQUIRED)
			fputs("; required", to);
		if (default_of(key)) {
			fputs("; default ", to);
			put_default(to, key);
		}
		if (key->flags & CONFIG_OF_HOST)
			fputs("; may be mapped", to);
		fputc('\n', to);
		put_wrapped(to, key->help, 8);
	}
}

static void text_head(FILE *to, const char *type, const char *help)
{
	fprintf(to, "\n%s\n\n", help);
	if (type)
		fprintf(to, "devices[].type   %s\n", type);
}

/* ---- Markdown ----------------------------------------------------------------------------- */

static void markdown_keys(FILE *to, const char *prefix, const struct config_key *keys)
{
	fputs("| key | type | default | meaning |\n| --- | --- | --- | --- |\n", to);
	for (const struct config_key *key = keys; key->name; key++) {
		fputs("| `", to);
		put_path(to, prefix, key);
		fputs("` | ", to);
		put_type[key->kind](to, key);
		fputs(" | ", to);
		if (key->flags & CONFIG_REQUIRED)
			fputs("required", to);
		else if (default_of(key))
			put_default(to, key);
		fputs(" | ", to);
		for (const char *c = key->help; *c; c++)
			fprintf(to, "%s%c", *c == '|' ? "\\" : "", *c);
		fprintf(to, "%s |\n", key->flags & CONFIG_OF_HOST ? " (may be mapped)" : "");
	}
}

static void markdown_head(FILE *to, const char *type, const char *help)
{
	if (type)
		fprintf(to, "\n### `%s`\n\n%c%s.\n\n", type, help[0] & ~0x20, help + 1);
	else
		fprintf(to, "\n### %s\n\n", help);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static const struct form {
	void (*keys)(FILE *to, const char *prefix, const struct config_key *keys);
	void (*head)(FILE *to, const char *type, const char *help);
} forms[] = { { text_keys, text_head }, { markdown_keys, markdown_head } };

char *config_help(const struct device_drivers *drivers, bool markdown)
{
	const struct form *form = &forms[markdown];
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	bool failed;

	if (!to)
		return NULL;
	form->keys(to, "", config_machine_keys);
	form->head(to, NULL, "Every NUMA node");
	form->keys(to, "numa[].", config_node_keys);
	form->head(to, NULL, "Every device");
	form->keys(to, "devices[].", config_device_keys);
	for (unsigned i = 0; i < drivers->count; i++) {
		form->head(to, drivers->list[i]->type, drivers->list[i]->help);
		form->keys(to, "devices[].", drivers->list[i]->keys);
	}
	failed = ferror(to);
	if (fclose(to) || failed) {
		free(text);
		return NULL;
	}
	return text;
}
