/* SPDX-License-Identifier: Apache-2.0 */
/* What a client of the control socket sends, in pieces as they may arrive. */
#include "control/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire wire = { 0 };
	size_t step = size ? data[0] + 1u : 1;
	const char *text;
	size_t len;

	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;

		if (wire_feed(&wire, data + at, n) < 0)
			break;
		while (wire_next(&wire, &text, &len) == WIRE_REQUEST) {
			struct wire_request request;
			struct gw_error err;

			wire_parse(text, len, &request, &err);
			free(wire_return(NULL,
			                 cJSON_DetachItemViaPointer(request.root, request.id)));
			wire_request_free(&request);
		}
	}
	wire_free(&wire);
	return 0;
}
