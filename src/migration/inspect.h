/* SPDX-License-Identifier: Apache-2.0 */
/* Looks into a snapshot directory or a file that holds a stream; needs no VM. */
#ifndef MIGRATION_INSPECT_H
#define MIGRATION_INSPECT_H

#include "godwit.h"

/* See gw_inspect() in godwit.h. */
int inspect_path(const char *path, char **json, struct gw_error *err);

#endif
