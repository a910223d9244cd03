/* SPDX-License-Identifier: Apache-2.0 */
#include "control/wire.h"

#include "base/error.h"
#include "base/util.h"

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

/* cJSON ends a string at a NUL, which would make two different strings the same. */
static bool has_nul_escape(const char *text)
{
	for (const char *at = text; (at = strstr(at, "\\u0000")); at++) {
		size_t slashes = 0;

		while (at - slashes > text && at[-1 - (ptrdiff_t)slashes] == '\\')
			slashes++;
		if (slashes % 2 == 0)
			return true;
	}
	return false;
}

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
		if (!strcmp(item->string, "execute"))
			command = item;
		else if (!strcmp(item->string, "arguments"))
			out->arguments = item;
		else if (!strcmp(item->string, "exec-oob"))
			return error_set(err, -EINVAL,
			                 "request: out-of-band execution is not offered");
		else if (strcmp(item->string, "id") != 0)
			return error_set(err, -EINVAL, "request: no member is named \"%s\"",
			                 item->string);
	}
	if (!command)
		return error_set(err, -EINVAL, "request: \"execute\" is missing");
	if (!cJSON_IsString(command))
		return error_set(err, -EINVAL, "request: \"execute\" must be a string");
	if (out->arguments && !cJSON_IsObject(out->arguments))
		return error_set(err, -EINVAL, "request: \"arguments\" must be an object");
	out->command = command->valuestring;
	return 0;
}

int wire_parse(const char *text, size_t len, struct wire_request *out, struct gw_error *err)
{
	autofree char *copy = strndup(text, len);

	*out = (struct wire_request){ 0 };
	if (!copy)
		return error_set(err, -ENOMEM, "request: out of memory");
	if (has_nul_escape(copy))
		return error_set(err, -EINVAL, "request: \\u0000 is not taken");
	out->root = cJSON_ParseWithOpts(copy, NULL, 1);
	if (!out->root)
		return error_set(err, -EINVAL, "request: not JSON, or nested too deeply");
	if (!cJSON_IsObject(out->root))
		return error_set(err, -EINVAL, "request: must be a JSON object");
	out->id = cJSON_GetObjectItemCaseSensitive(out->root, "id");
	return take_members(out, err);
}

void wire_request_free(struct wire_request *request)
{
	cJSON_Delete(request->root);
	*request = (struct wire_request){ 0 };
}

/* ---- lines to send ---------------------------------------------------------------------- */

/* The code point at *text, which moves on; a byte that is no UTF-8 is U+FFFD (RFC 3629, 4). */
static unsigned next_code_point(const unsigned char **text)
{
	static const struct {
		unsigned char mask, lead;
		unsigned more, least;
	} forms[] = { { 0x80, 0x00, 0, 0 },
		      { 0xe0, 0xc0, 1, 0x80 },
		      { 0xf0, 0xe0, 2, 0x800 },
		      { 0xf8, 0xf0, 3, 0x10000 } };
	const unsigned char *at = (*text)++;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		unsigned code, n;

		if ((*at & forms[i].mask) != forms[i].lead)
			continue;
		code = *at & (unsigned char)~forms[i].mask;
		for (n = 0; n < forms[i].more && (at[1 + n] & 0xc0) == 0x80; n++)
			code = code << 6 | (at[1 + n] & 0x3f);
		if (n < forms[i].more || code < forms[i].least || code > 0x10ffff ||
		    (code >= 0xd800 && code < 0xe000))
			return 0xfffd;
		*text += n;
		return code;
	}
	return 0xfffd;
}

/* JSON text as a line of ASCII. In what cJSON prints, other bytes are within strings only. */
static char *ascii_line(const char *json)
{
	const unsigned char *from = (const unsigned char *)json;
	char *line = malloc(strlen(json) * 6 + 3);
	char *to = line;

	while (line && *from) {
		unsigned code = next_code_point(&from);

		if (code < 0x80)
			*to++ = (char)code;
		else if (code < 0x10000)
			to += sprintf(to, "\\u%04x", code);
		else
			to += sprintf(to, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
			              0xdc00 + ((code - 0x10000) & 0x3ff));
	}
	if (line)
		strcpy(to, "\r\n");
	return line;
}

/* Releases root. `complete`: nothing is missing in it. */
static char *to_line(cJSON *root, bool complete)
{
	autofree char *json = root && complete ? cJSON_PrintUnformatted(root) : NULL;

	cJSON_Delete(root);
	return json ? ascii_line(json) : NULL;
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

char *wire_event(const struct gw_event *event)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *data = cJSON_Parse(event->data);
	cJSON *time = cJSON_AddObjectToObject(root, "timestamp");
	bool ok = cJSON_AddStringToObject(root, "event", event->name) &&
	          cJSON_AddNumberToObject(time, "seconds", (double)event->seconds) &&
	          cJSON_AddNumberToObject(time, "microseconds", (double)event->microseconds);

	ok = put(root, "data", data ? data : cJSON_CreateObject()) && ok;
	return to_line(root, ok);
}

cJSON *wire_version(void)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *version = cJSON_AddObjectToObject(root, "godwit");
	char package[32];

	snprintf(package, sizeof(package), "godwit %s", gw_version());
	if (cJSON_AddNumberToObject(version, "major", GW_VERSION_MAJOR) &&
	    cJSON_AddNumberToObject(version, "minor", GW_VERSION_MINOR) &&
	    cJSON_AddNumberToObject(version, "micro", GW_VERSION_PATCH) &&
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
	bool ok = version && put(qmp, "version", version) &&
	          cJSON_AddArrayToObject(qmp, "capabilities");

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
