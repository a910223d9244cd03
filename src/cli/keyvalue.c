/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/keyvalue.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

static int add_word(cJSON *object, const char *word, struct gw_error *err)
{
	const char *equals = strchr(word, '=');
	autofree char *key = NULL;
	cJSON *value;

	if (!equals || equals == word)
		return error_set(err, -EINVAL, "\"%s\" is not KEY=VALUE", word);
	key = strndup(word, (size_t)(equals - word));
	if (!key)
		return error_set(err, -ENOMEM, "out of memory");
	if (cJSON_GetObjectItemCaseSensitive(object, key))
		return error_set(err, -EINVAL, "%s is given twice", key);
	value = cJSON_ParseWithOpts(equals + 1, NULL, 1);
	if (!value)
		value = cJSON_CreateString(equals + 1);
	if (!value || !cJSON_AddItemToObject(object, key, value)) {
		cJSON_Delete(value);
		return error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

int keyvalue_parse(char *const *words, int count, cJSON **out, struct gw_error *err)
{
	cJSON *object = cJSON_CreateObject();

	if (!object)
		return error_set(err, -ENOMEM, "out of memory");
	for (int i = 0; i < count; i++) {
		int r = add_word(object, words[i], err);

		if (r < 0) {
			cJSON_Delete(object);
			return r;
		}
	}
	*out = object;
	return 0;
}

int keyvalue_map(char *word, struct gw_map *out, struct gw_error *err)
{
	char *equals = strchr(word, '=');

	if (!equals || equals == word)
		return error_set(err, -EINVAL, "\"%s\" is not PATH=VALUE", word);
	*equals = 0;
	*out = (struct gw_map){ .path = word, .value = equals + 1 };
	return 0;
}
