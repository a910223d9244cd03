/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports a console has: from its options, and for those who ask. */
#include "vmm/virtio/console.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

static const struct port_key {
	const char *name;
	size_t offset, room;
} port_keys[] = {
#define PORT_KEY(member)                                                                           \
	{                                                                                          \
#member, offsetof(struct console_port_config, member),                             \
		        sizeof(((struct console_port_config *)0)->member)                          \
	}
	PORT_KEY(name),
	PORT_KEY(socket),
	PORT_KEY(log),
	PORT_KEY(fd),
#undef PORT_KEY
};

static int read_key(const cJSON *item, unsigned index, struct console_port_config *port,
                    struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(port_keys); i++) {
		const struct port_key *key = &port_keys[i];

		if (strcmp(item->string, key->name))
			continue;
		if (!cJSON_IsString(item))
			return error_set(err, -EINVAL, "[%u].%s: not a string", index, key->name);
		if (strlen(item->valuestring) >= key->room)
			return error_set(err, -EINVAL, "[%u].%s: longer than %zu bytes", index,
			                 key->name, key->room - 1);
		strcpy((char *)port + key->offset, item->valuestring);
		return 0;
	}
	return error_set(err, -EINVAL, "[%u]: no key \"%.40s\"", index, item->string);
}

static int check_names(const struct console_port_config *ports, unsigned count,
                       struct gw_error *err)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned j = 0; j < i; j++)
			if (ports[i].name[0] && !strcmp(ports[i].name, ports[j].name))
				return error_set(err, -EINVAL, "[%u].name: \"%s\" is [%u]'s too", i,
				                 ports[i].name, j);
	return 0;
}

static int parse_list(const cJSON *list, struct console_port_config *ports, struct gw_error *err)
{
	const cJSON *entry, *item;
	unsigned count = 0;
	int r = 0;

	if (!cJSON_IsArray(list))
		return error_set(err, -EINVAL, "not a list");
	cJSON_ArrayForEach(entry, list)
	{
		if (count == CONSOLE_PORTS_MAX)
			return error_set(err, -EINVAL, "more than %u ports", CONSOLE_PORTS_MAX);
		if (!cJSON_IsObject(entry))
			return error_set(err, -EINVAL, "[%u]: not an object", count);
		memset(&ports[count], 0, sizeof(ports[count]));
		cJSON_ArrayForEach(item, entry)
		{
			r = read_key(item, count, &ports[count], err);
			if (r < 0)
				return r;
		}
		count++;
	}
	if (!count)
		return error_set(err, -EINVAL, "no port in the list");
	r = check_names(ports, count, err);
	return r < 0 ? r : (int)count;
}

static int parse_ports(const char *json, struct console_port_config *ports, struct gw_error *err)
{
	cJSON *list = cJSON_Parse(json);
	const int r = parse_list(list, ports, err);

	cJSON_Delete(list);
	return r;
}

int console_check_ports(const char *json, struct gw_error *err)
{
	autofree struct console_port_config *ports = calloc(CONSOLE_PORTS_MAX, sizeof(*ports));
	int r;

	if (!ports)
		return error_set(err, -ENOMEM, "out of memory");
	r = parse_ports(json, ports, err);
	return r < 0 ? r : 0;
}

int console_read_ports(const struct console_options *options,
                       struct console_port_config ports[CONSOLE_PORTS_MAX], struct gw_error *err)
{
	const struct console_options *o = options;
	int r;

	if (o->ports[0]) {
		if (o->name[0] || o->socket[0] || o->log[0] || o->fd[0])
			return error_set(err, -EINVAL,
			                 "ports: name, socket, log and fd belong into its entries");
		r = parse_ports(o->ports, ports, err);
		return r < 0 ? error_context(err, "ports") : r;
	}
	memset(&ports[0], 0, sizeof(ports[0]));
	memcpy(ports[0].name, o->name, sizeof(o->name));
	memcpy(ports[0].socket, o->socket, sizeof(o->socket));
	memcpy(ports[0].log, o->log, sizeof(o->log));
	memcpy(ports[0].fd, o->fd, sizeof(o->fd));
	return 1;
}

int console_check_host(const void *options, struct gw_error *err)
{
	autofree struct console_port_config *ports = calloc(CONSOLE_PORTS_MAX, sizeof(*ports));
	int r;

	if (!ports)
		return error_set(err, -ENOMEM, "ports: out of memory");
	r = console_read_ports(options, ports, err);
	return r < 0 ? r : 0;
}

void console_port_label(const char *id, unsigned index, bool only,
                        const struct console_port_config *port, char label[CONSOLE_LABEL_SIZE])
{
	if (only)
		snprintf(label, CONSOLE_LABEL_SIZE, "%s", id);
	else if (port->name[0])
		snprintf(label, CONSOLE_LABEL_SIZE, "%s.%s", id, port->name);
	else
		snprintf(label, CONSOLE_LABEL_SIZE, "%s.%u", id, index);
}

bool console_describe_port(cJSON *list, const char *id, unsigned index, bool only,
                           const struct console_port_config *port, bool open)
{
	cJSON *entry = cJSON_CreateObject();
	char label[CONSOLE_LABEL_SIZE], filename[CONFIG_PATH_MAX + 16];

	console_port_label(id, index, only, port, label);
	if (port->socket[0])
		snprintf(filename, sizeof(filename), "unix:%s,server=on", port->socket);
	else if (port->fd[0])
		snprintf(filename, sizeof(filename), "fd:%s", port->fd);
	else if (port->log[0])
		snprintf(filename, sizeof(filename), "file:%s", port->log);
	else
		snprintf(filename, sizeof(filename), "null");
	if (cJSON_AddStringToObject(entry, "label", label) &&
	    cJSON_AddStringToObject(entry, "filename", filename) &&
	    cJSON_AddBoolToObject(entry, "frontend-open", open) &&
	    cJSON_AddItemToArray(list, entry))
		return true;
	cJSON_Delete(entry);
	return false;
}

const struct config_key console_keys[] = {
	CONFIG_ROW_TEXT(NULL, "name", 0, struct console_options, name,
	                "name of the port, in a Linux guest /dev/virtio-ports/NAME; without it, "
	                "it is a console (/dev/hvc0)"),
	CONFIG_ROW_TEXT(NULL, "socket", CONFIG_OF_HOST, struct console_options, socket,
	                "UNIX stream socket to listen on, for one client at a time"),
	CONFIG_ROW_TEXT(NULL, "log", CONFIG_OF_HOST, struct console_options, log,
	                "file that output is appended to"),
	CONFIG_ROW_TEXT(NULL, "fd", CONFIG_OF_HOST, struct console_options, fd,
	                "name of a descriptor that was given, to be read and written"),
	{ NULL, "ports", CONFIG_JSON, CONFIG_OF_HOST, offsetof(struct console_options, ports), 0,
	  sizeof(((struct console_options *)0)->ports), NULL, NULL,
	  "up to 8 ports, a list of objects of name, socket, log and fd", console_check_ports },
	CONFIG_ROW_NUMBER(NULL, "columns", CONFIG_UINT, 0, struct console_options, columns, 0,
	                  65535, NULL, "width of the consoles in characters; 0: not told"),
	CONFIG_ROW_NUMBER(NULL, "rows", CONFIG_UINT, 0, struct console_options, rows, 0, 65535,
	                  NULL, "their height"),
	CONFIG_ROW_END,
};
