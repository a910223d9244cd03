/* SPDX-License-Identifier: Apache-2.0 */
/* The capabilities of a version message, as JSON and back. */
#include "vfio/user/wire.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <string.h>

#define TEXT_MAX 4096

char *wire_caps_print(const struct wire_caps *caps)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *c = cJSON_AddObjectToObject(root, "capabilities"), *twin;
	char *text = NULL;
	bool ok = c && cJSON_AddNumberToObject(c, "max_msg_fds", caps->max_msg_fds) &&
	          cJSON_AddNumberToObject(c, "max_data_xfer_size", caps->max_data_xfer_size) &&
	          cJSON_AddNumberToObject(c, "max_dma_maps", caps->max_dma_maps) &&
	          cJSON_AddNumberToObject(c, "pgsizes", (double)caps->pgsizes);

	if (ok && caps->write_multiple)
		ok = cJSON_AddTrueToObject(c, "write_multiple");
	if (ok && caps->twin_socket) {
		twin = cJSON_AddObjectToObject(c, "twin_socket");
		ok = twin && cJSON_AddTrueToObject(twin, "supported") &&
		     (caps->twin_fd < 0 ||
		      cJSON_AddNumberToObject(twin, "fd_index", caps->twin_fd));
	}
	if (ok)
		text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	return text;
}

/* A whole number from min to max; what is not there stays as it is. */
static int take_number(const cJSON *from, const char *name, double min, double max, double *out,
                       struct gw_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

	if (!item)
		return 0;
	if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max))
		return error_set(err, -EPROTO, "version: capability %s is out of range", name);
	*out = item->valuedouble;
	return 0;
}

static int take_numbers(const cJSON *c, struct wire_caps *out, struct gw_error *err)
{
	double fds = 1, data = WIRE_MAX_DATA, maps = WIRE_MAX_DMA_MAPS, pages = 4096;
	int r = take_number(c, "max_msg_fds", 0, UINT32_MAX, &fds, err);

	if (!r) /* at least what a register of 8 bytes takes */
		r = take_number(c, "max_data_xfer_size", 8, UINT32_MAX, &data, err);
	if (!r)
		r = take_number(c, "max_dma_maps", 1, UINT32_MAX, &maps, err);
	if (!r) /* above 2^53 a number in JSON is not exact */
		r = take_number(c, "pgsizes", 1, 0x1p53, &pages, err);
	if (r < 0)
		return r;
	out->max_msg_fds = (uint32_t)fds;
	out->max_data_xfer_size = (uint32_t)data;
	out->max_dma_maps = (uint32_t)maps;
	out->pgsizes = (uint64_t)pages;
	return 0;
}

static int take_twin(const cJSON *c, struct wire_caps *out, struct gw_error *err)
{
	const cJSON *twin = cJSON_GetObjectItemCaseSensitive(c, "twin_socket");
	double index = -1;
	int r;

	out->twin_socket = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(twin, "supported"));
	r = take_number(twin, "fd_index", 0, WIRE_MAX_FDS - 1, &index, err);
	out->twin_fd = (int)index;
	return r;
}

int wire_caps_parse(const char *text, size_t len, struct wire_caps *out, struct gw_error *err)
{
	const cJSON *c;
	cJSON *root;
	int r;

	*out = (struct wire_caps){
		.max_msg_fds = 1,
		.max_data_xfer_size = WIRE_MAX_DATA,
		.max_dma_maps = WIRE_MAX_DMA_MAPS,
		.pgsizes = 4096,
		.twin_fd = -1,
	};
	if (!len)
		return 0;
	if (len > TEXT_MAX || memchr(text, 0, len) != text + len - 1)
		return error_set(err, -EPROTO, "version: a text of %zu bytes that does not end",
		                 len);
	root = cJSON_ParseWithOpts(text, NULL, 1);
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return error_set(err, -EPROTO, "version: its text is no JSON object");
	}
	c = cJSON_GetObjectItemCaseSensitive(root, "capabilities");
	r = take_numbers(c, out, err);
	if (!r)
		r = take_twin(c, out, err);
	if (!r)
		out->write_multiple =
		        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(c, "write_multiple"));
	cJSON_Delete(root);
	return r;
}
