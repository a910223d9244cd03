/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device trees that machines in a lab host were given, under the checks of the
 * unit tests: the bindings' and dtc's.
 *
 *   check_dtb FILE...
 */
#include "bindings.h"

#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE_MAX (1 << 20)

static int check(const char *path, char *said, size_t size)
{
	static char tree[TREE_MAX];
	FILE *file = fopen(path, "rb");
	size_t len;

	if (!file)
		return snprintf(said, size, "cannot be read"), 0;
	len = fread(tree, 1, sizeof(tree), file);
	fclose(file);
	if (fdt_check_full(tree, len))
		return snprintf(said, size, "no device tree"), 0;
	if (!bindings_hold(tree, said, size))
		return 0;
	if (dtc_is_content(tree, len, said, size) < 0)
		return snprintf(said, size, "there is no dtc"), 0;
	return !*said;
}

int main(int argc, char **argv)
{
	char said[1024] = "";

	for (int i = 1; i < argc; i++)
		if (!check(argv[i], said, sizeof(said)))
			return fprintf(stderr, "%s: %s\n", argv[i], said), EXIT_FAILURE;
	return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
