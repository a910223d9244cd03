/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the form KEY=VALUE. */
#ifndef CLI_KEYVALUE_H
#define CLI_KEYVALUE_H

#include "godwit.h"

#include <cjson/cJSON.h>

/* Words as a JSON object: a value is JSON if it can be read as such, and a string otherwise.
 * -EINVAL: a word without "=" or key, or a key that is there twice. */
int keyvalue_parse(char *const *words, int count, cJSON **out, struct gw_error *err);

/* "PATH=VALUE", cut in place: the entry points into the word. -EINVAL. */
int keyvalue_map(char *word, struct gw_map *out, struct gw_error *err);

#endif
