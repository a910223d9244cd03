/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations: from a file, or from a stream. What is accepted must print and parse again. */
#include "vm.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = malloc(2 * sizeof(*config));
	char *text = malloc(size + 1);
	struct config_device device;
	struct gw_error err;

	memcpy(text, data, size);
	text[size] = 0;
	config_parse_device(text, &vm_drivers, &device, &err);
	if (config_parse(text, "fuzz", &vm_drivers, config, &err) == 0) {
		char *again = config_print(config, &vm_drivers);

		if (!again || config_parse(again, "again", &vm_drivers, config + 1, &err) < 0)
			abort();
		free(again);
	}
	free(text);
	free(config);
	return 0;
}
