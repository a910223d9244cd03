/* SPDX-License-Identifier: Apache-2.0 */
/* Two drivers as the configuration's tests like them: every kind of key, none of them real. */
#ifndef TESTS_CONFIG_DRIVERS_H
#define TESTS_CONFIG_DRIVERS_H

#include "base/error.h"
#include "vmm/device.h"

#include <string.h>

struct thing {
	char host[64];
	char image[64];
	uint32_t queues;
	uint64_t room;
	bool fast;
	uint32_t mode;
	char any[64];
	bool standby;
};

_Static_assert(sizeof(struct thing) <= CONFIG_OPTIONS_SIZE, "options");

static const char *const thing_modes[] = { "tap", "vhost", NULL };

static const struct config_key thing_keys[] = {
	CONFIG_ROW_TEXT(NULL, "host", CONFIG_REQUIRED | CONFIG_OF_HOST, struct thing, host, "h"),
	CONFIG_ROW_TEXT(NULL, "image", CONFIG_FILE, struct thing, image, "i"),
	CONFIG_ROW_NUMBER("rings", "queues", CONFIG_UINT, 0, struct thing, queues, 1, 8, "2", "q"),
	CONFIG_ROW_NUMBER(NULL, "room", CONFIG_SIZE, 0, struct thing, room, 0, UINT64_MAX,
	                  "\"64K\"", "r"),
	CONFIG_ROW_BOOL(NULL, "fast", struct thing, fast, "true", "f"),
	CONFIG_ROW_ENUM(NULL, "mode", struct thing, mode, "\"vhost\"", thing_modes, "m"),
	CONFIG_ROW_BOOL(NULL, "standby", struct thing, standby, NULL, "s"),
	{ NULL, "any", CONFIG_JSON, 0, offsetof(struct thing, any), 0, 64, NULL, NULL, "a", NULL },
	CONFIG_ROW_END,
};

static int thing_check_host(const void *options, struct gw_error *err)
{
	const struct thing *t = options;

	return strcmp(t->host, "gone") ? 0 : error_set(err, -ENODEV, "host: no such thing gone");
}

static bool thing_may_stand_in(const void *options)
{
	return ((const struct thing *)options)->standby;
}

/* The last byte is the room's. */
static bool thing_address(const void *options, uint8_t mac[6])
{
	const struct thing *t = options;

	memset(mac, 2, 6);
	mac[5] = (uint8_t)t->room;
	return t->fast;
}

static const struct config_key plain_keys[] = { CONFIG_ROW_END };

static const struct device_driver thing_driver = { .type = "t",
	                                           .help = "a thing",
	                                           .keys = thing_keys,
	                                           .check_host = thing_check_host,
	                                           .address = thing_address,
	                                           .may_stand_in = thing_may_stand_in };
static const struct device_driver plain_driver = { .type = "plain",
	                                           .help = "nothing to say",
	                                           .keys = plain_keys };
static const struct device_driver *const config_drivers_list[] = { &thing_driver, &plain_driver };
static const struct device_drivers drivers = { config_drivers_list, 2 };

#endif
