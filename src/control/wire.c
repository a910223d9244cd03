/* SPDX-License-Identifier: Apache-2.0 */
#include "control/wire.h"

#include "base/error.h"
#include "base/util.h"
#include "control/text.h"

#include <stdio.h>
#include <string.h>

/* ---- requests out of bytes --------------------------------------------------------- */

int wire_feed(struct wire *wire, const void *data, size_t len)
{
	size_t need;

	if (wire->start) {
		memmove(wire->buf, wire->buf + wire->start, wire->len - wire->start);
		wire->len -= wire->start;
		wire->scanned -= wire->start;
		wire->start = 0;
	}
	if (add_overflows(wire->len, len, &need))
		return -ENOMEM;
	if (need > wire->room) {
		size_t room = MAX(need, wire->room * 2);
		char *more = realloc(wire->buf, room);

		if (!more)
			return -ENOMEM;
		wire->buf = more;
		wire->room = room;
	}
	memcpy(wire->buf + wire->len, data, len);
	wire->len = need;
	return 0;
}

void wire_free(struct wire *wire)
{
	free(wire->buf);
	*wire = (struct wire){ 0 };
}

static bool is_reset(unsigned char c)
{
	return c < 0x20 && c != '\t' && c != '\r' && c != '\n';
}

/* The next request begins at `start`. */
static void begin(struct wire *wire, size_t start)
{
	wire->start = wire->scanned = start;
	wire->depth = 0;
	wire->in_string = wire->escaped = wire->skipping = false;
}

/* One character of a request; true if it is the last one. */
static bool step(struct wire *wire, char c)
{
	const char first = wire->buf[wire->start];

	if (first != '{' && first != '[')
		return false; /* nothing that has an end of its own before the line's */
	if (wire->escaped) {
		wire->escaped = false;
	} else if (wire->in_string) {
		wire->escaped = c == '\\';
		wire->in_string = c != '"';
	} else if (c == '"') {
		wire->in_string = true;
	} else if (c == '{' || c == '[') {
		wire->depth++;
	} else if (c == '}' || c == ']') {
		return --wire->depth == 0;
	}
	return false;
}

enum wire_next wire_next(struct wire *wire, const char **text, size_t *len)
{
	while (wire->scanned < wire->len) {
		const size_t at = wire->scanned;
		const char c = wire->buf[at];
		const bool started = at > wire->start;
		bool last;

		if (is_reset((unsigned char)c) || (wire->skipping && c == '\n')) {
			begin(wire, at + 1);
			continue;
		}
		if (!started && !wire->skipping && strchr(" \t\r\n", c)) {
			begin(wire, at + 1);
			continue;
		}
		wire->scanned++;
		if (wire->skipping) {
			wire->start = wire->scanned;
			continue;
		}
		last = c == '\n' || step(wire, c);
		if (last) {
			*text = wire->buf + wire->start;
			*len = wire->scanned - wire->start;
			begin(wire, wire->scanned);
			return WIRE_REQUEST;
		}
		if (wire->scanned - wire->start >= WIRE_REQUEST_MAX) {
			begin(wire, wire->scanned);
			wire->skipping = true;
			return WIRE_TOO_LONG;
		}
	}
	return WIRE_MORE;
}

/* ---- a request ---------------------------------------------------------------------- */

static int take_members(struct wire_request *out, struct gw_error *err)
{
	const cJSON *item, *command = NULL;

	cJSON_ArrayForEach(item, out->root)
	{
		const bool twice =
		        cJSON_GetObjectItemCaseSensitive(out->root, item->string) != item;

		if (twice)
			return error_set(err, -EINVAL, "request: \"%s\" is there twice",
			                 item->string);
		if (!strcmp(item->string, "execute") || !strcmp(item->string, "exec-oob")) {
			if (command)
				return error_set(err, -EINVAL,
				                 "request: give one of \"execute\" and "
				                 "\"exec-oob\"");
			command = item;
		} else if (!strcmp(item->string, "arguments"))
			out->arguments = item;
		else if (strcmp(item->string, "id") != 0)
			return error_set(err, -EINVAL, "request: no member is named \"%s\"",
			                 item->string);
	}
	if (!command)
		return error_set(err, -EINVAL, "request: \"execute\" is missing");
	if (!cJSON_IsString(command))
		return error_set(err, -EINVAL, "request: \"%s\" must be a string", command->string);
	if (out->arguments && !cJSON_IsObject(out->arguments))
		return error_set(err, -EINVAL, "request: \"arguments\" must be an object");
	out->command = command->valuestring;
	out->oob = !strcmp(command->string, "exec-oob");
	return 0;
}

/* cJSON keeps numbers as doubles, so one with more than 15 digits would come back as another. */
static int keep_id_as_written(struct wire_request *out, const char *text, struct gw_error *err)
{
	autofree char *written = NULL;
	cJSON *raw;

	out->id = cJSON_GetObjectItemCaseSensitive(out->root, "id");
	if (!cJSON_IsNumber(out->id) && !cJSON_IsArray(out->id) && !cJSON_IsObject(out->id))
		return 0;
	written = text_of_member(text, "id");
	if (!written)
		return 0;
	raw = cJSON_CreateRaw(written);
	if (!raw || !cJSON_ReplaceItemInObjectCaseSensitive(out->root, "id", raw)) {
		cJSON_Delete(raw);
		return error_set(err, -ENOMEM, "request: out of memory");
	}
	out->id = raw;
	return 0;
}

int wire_parse(const char *text, size_t len, struct wire_request *out, struct gw_error *err)
{
	autofree char *copy = strndup(text, len);
	int r;

	*out = (struct wire_request){ 0 };
	if (!copy)
		return error_set(err, -ENOMEM, "request: out of memory");
	if (!text_is_utf8(copy))
		return error_set(err, -EINVAL, "request: not UTF-8");
	if (text_has_nul_escape(copy))
		return error_set(err, -EINVAL, "request: \\u0000 is not taken");
	out->root = cJSON_ParseWithOpts(copy, NULL, 1);
	if (!out->root)
		return error_set(err, -EINVAL, "request: not JSON, or nested too deeply");
	if (!cJSON_IsObject(out->root))
		return error_set(err, -EINVAL, "request: must be a JSON object");
	r = keep_id_as_written(out, copy, err);
	return r < 0 ? r : take_members(out, err);
}

void wire_request_free(struct wire_request *request)
{
	cJSON_Delete(request->root);
	*request = (struct wire_request){ 0 };
}

/* ---- lines to send ---------------------------------------------------------------------- */

/* Releases root. `complete`: nothing is missing in it. */
static char *to_line(cJSON *root, bool complete)
{
	autofree char *json = root && complete ? cJSON_PrintUnformatted(root) : NULL;

	cJSON_Delete(root);
	return json ? text_to_line(json) : NULL;
}

/* Puts an item that may be NULL into an object; the item is released if that fails. */
static bool put(cJSON *object, const char *name, cJSON *item)
{
	if (!item || cJSON_AddItemToObject(object, name, item))
		return true;
	cJSON_Delete(item);
	return false;
}

char *wire_return(cJSON *ret, cJSON *id)
{
	cJSON *root = cJSON_CreateObject();
	bool ok = put(root, "return", ret ? ret : cJSON_CreateObject());

	ok = put(root, "id", id) && ok;
	return to_line(root, ok && cJSON_HasObjectItem(root, "return"));
}

char *wire_error(const char *cls, const char *text, cJSON *id)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *error = cJSON_AddObjectToObject(root, "error");
	bool ok = cJSON_AddStringToObject(error, "class", cls) &&
	          cJSON_AddStringToObject(error, "desc", text);

	ok = put(root, "id", id) && ok;
	return to_line(root, ok);
}

/* QMP leaves "data" out where there is nothing to say. */
char *wire_event(const struct gw_event *event)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *data = cJSON_Parse(event->data);
	cJSON *time = cJSON_AddObjectToObject(root, "timestamp");
	bool ok = cJSON_AddStringToObject(root, "event", event->name) &&
	          cJSON_AddNumberToObject(time, "seconds", (double)event->seconds) &&
	          cJSON_AddNumberToObject(time, "microseconds", (double)event->microseconds);

	if (cJSON_GetArraySize(data)) {
		ok = put(root, "data", data) && ok;
	} else {
		cJSON_Delete(data);
	}
	return to_line(root, ok);
}

static bool add_version(cJSON *root, const char *name, int major, int minor, int micro)
{
	cJSON *version = cJSON_AddObjectToObject(root, name);

	return cJSON_AddNumberToObject(version, "major", major) &&
	       cJSON_AddNumberToObject(version, "minor", minor) &&
	       cJSON_AddNumberToObject(version, "micro", micro);
}

/* Clients look for "qemu": it is the version of QMP that is followed here. */
cJSON *wire_version(void)
{
	cJSON *root = cJSON_CreateObject();
	char package[32];

	snprintf(package, sizeof(package), "godwit %s", gw_version());
	if (add_version(root, "qemu", 10, 0, 2) &&
	    add_version(root, "godwit", GW_VERSION_MAJOR, GW_VERSION_MINOR, GW_VERSION_PATCH) &&
	    cJSON_AddStringToObject(root, "package", package))
		return root;
	cJSON_Delete(root);
	return NULL;
}

char *wire_greeting(void)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *qmp = cJSON_AddObjectToObject(root, "QMP");
	cJSON *version = wire_version();
	bool ok = version && put(qmp, "version", version);
	cJSON *capabilities = cJSON_AddArrayToObject(qmp, "capabilities");

	ok = cJSON_AddItemToArray(capabilities, cJSON_CreateString(WIRE_OOB)) && ok;
	return to_line(root, ok);
}

const char *wire_error_class(enum gw_error_class cls)
{
	static const char *const names[] = {
		[GW_ERROR_GENERIC] = "GenericError",
		[GW_ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
		[GW_ERROR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
		[GW_ERROR_KVM_MISSING_CAP] = "KVMMissingCap",
	};

	return (size_t)cls < ARRAY_SIZE(names) ? names[cls] : names[GW_ERROR_GENERIC];
}
