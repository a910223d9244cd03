/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of commands, events and types as QAPI's introspection shows them (SchemaInfo). */
#ifndef CONTROL_SCHEMA_H
#define CONTROL_SCHEMA_H

#include <cjson/cJSON.h>

/* The list that query-qmp-schema returns. NULL: out of memory. */
cJSON *schema_make(void);

#endif
