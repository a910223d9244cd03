/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/present.h"

#include "base/util.h"

#include <string.h>

#define INDENT 2
#define COLUMNS_MAX 24

static void put_value(FILE *to, const cJSON *json, int indent);

static bool is_scalar(const cJSON *json)
{
	return !cJSON_IsArray(json) && !cJSON_IsObject(json);
}

static bool is_scalar_list(const cJSON *json)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json)
	{
		if (!is_scalar(item))
			return false;
	}
	return cJSON_IsArray(json);
}

/* ---- one value ----------------------------------------------------------------------------- */

/* A string as it is, another scalar as JSON; control characters as "?". Released with free(). */
static char *scalar_text(const cJSON *json)
{
	char *text = cJSON_IsString(json) ? strdup(json->valuestring)
	             : cJSON_IsNull(json) ? strdup("-")
	                                  : cJSON_PrintUnformatted(json);

	for (char *c = text; c && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return text;
}

/* Characters, not bytes: those of UTF-8 that go on are not counted. */
static int width_of(const char *text)
{
	int width = 0;

	for (; text && *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static void put_padded(FILE *to, const char *text, int width)
{
	fprintf(to, "%s%*s", text ? text : "", MAX(width - width_of(text), 0), "");
}

static void put_scalars(FILE *to, const cJSON *list)
{
	const cJSON *item;
	const char *between = "";

	cJSON_ArrayForEach(item, list)
	{
		autofree char *text = scalar_text(item);

		fprintf(to, "%s%s", between, text ? text : "");
		between = ", ";
	}
	if (!cJSON_GetArraySize(list))
		fputs("-", to);
}

/* ---- tables -------------------------------------------------------------------------------- */

struct column {
	const char *name;
	int width;
};

/* A cell's text: scalars, and lists of them. Released with free(). */
static char *cell_text(const cJSON *row, const char *name)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(row, name);
	char *text = NULL;
	size_t size;
	FILE *to;

	if (!value)
		return strdup("-");
	if (is_scalar(value))
		return scalar_text(value);
	to = open_memstream(&text, &size);
	if (!to)
		return NULL;
	put_scalars(to, value);
	fclose(to);
	return text;
}

/* Every member of every row, in the order of the first to have it. 0: no table can be made. */
static unsigned find_columns(const cJSON *list, struct column *columns)
{
	const cJSON *row, *cell;
	unsigned count = 0;

	cJSON_ArrayForEach(row, list)
	{
		if (!cJSON_IsObject(row))
			return 0;
		cJSON_ArrayForEach(cell, row)
		{
			autofree char *text = NULL;
			unsigned i = 0;

			if (!is_scalar(cell) && !is_scalar_list(cell))
				return 0;
			while (i < count && strcmp(columns[i].name, cell->string) != 0)
				i++;
			if (i == COLUMNS_MAX)
				return 0;
			if (i == count)
				columns[count++] =
				        (struct column){ cell->string, width_of(cell->string) };
			text = cell_text(row, cell->string);
			columns[i].width = MAX(columns[i].width, width_of(text));
		}
	}
	return count;
}

static bool put_table(FILE *to, const cJSON *list, int indent)
{
	struct column columns[COLUMNS_MAX];
	const unsigned count = find_columns(list, columns);
	const cJSON *row;

	if (!count)
		return false;
	fprintf(to, "%*s", indent, "");
	for (unsigned i = 0; i < count; i++)
		put_padded(to, columns[i].name, i + 1 < count ? columns[i].width + INDENT : 0);
	fputc('\n', to);
	cJSON_ArrayForEach(row, list)
	{
		fprintf(to, "%*s", indent, "");
		for (unsigned i = 0; i < count; i++) {
			autofree char *text = cell_text(row, columns[i].name);

			put_padded(to, text, i + 1 < count ? columns[i].width + INDENT : 0);
		}
		fputc('\n', to);
	}
	return true;
}

/* ---- what is nested ------------------------------------------------------------------------- */

static void put_object(FILE *to, const cJSON *object, int indent)
{
	const cJSON *item;
	int width = 0;

	cJSON_ArrayForEach(item, object)
	{
		if (is_scalar(item) || is_scalar_list(item))
			width = MAX(width, width_of(item->string));
	}
	cJSON_ArrayForEach(item, object)
	{
		fprintf(to, "%*s", indent, "");
		if (is_scalar(item) || is_scalar_list(item)) {
			put_padded(to, item->string, width + INDENT);
			put_value(to, item, 0);
		} else {
			fprintf(to, "%s\n", item->string);
			put_value(to, item, indent + INDENT);
		}
	}
}

static void put_list(FILE *to, const cJSON *list, int indent)
{
	const cJSON *item;

	if (put_table(to, list, indent))
		return;
	cJSON_ArrayForEach(item, list)
	{
		if (item != list->child)
			fputc('\n', to);
		put_value(to, item, indent);
	}
}

static void put_value(FILE *to, const cJSON *json, int indent)
{
	autofree char *text = is_scalar(json) ? scalar_text(json) : NULL;

	if (cJSON_IsObject(json)) {
		put_object(to, json, indent);
	} else if (is_scalar(json)) {
		fprintf(to, "%*s%s\n", indent, "", text ? text : "");
	} else if (is_scalar_list(json)) {
		fprintf(to, "%*s", indent, "");
		put_scalars(to, json);
		fputc('\n', to);
	} else {
		put_list(to, json, indent);
	}
}

bool present(FILE *to, const cJSON *json)
{
	put_value(to, json, 0);
	return !ferror(to);
}
