/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's pairs: a device and the one that stands in for it. */
#include "config_drivers.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct config config;

#define NET "{\"id\":\"n\",\"type\":\"t\",\"host\":\"h\",\"standby\":true}"
#define PRIMARY(more) "{\"id\":\"p\",\"type\":\"plain\",\"failover\":\"n\"" more "}"

static int parse(const char *devices, struct gw_error *err)
{
	char json[1024];

	snprintf(json, sizeof(json),
	         "{\"memory\":\"4G\",\"boot\":{\"kernel\":\"/k\"},\"devices\":[%s]}", devices);
	return config_parse(json, "f", &drivers, &config, err);
}

Test(config_pair, is_taken_in_either_order)
{
	struct gw_error err = { 0 };

	cr_assert_eq(parse(NET "," PRIMARY(""), &err), 0, "%s", err.text);
	cr_assert_str_eq(config.devices[1].failover, "n");
	cr_assert_eq(parse(PRIMARY("") "," NET, &err), 0, "%s", err.text);
	cr_assert_str_eq(config_find_device(&config, "p")->failover, "n");
	cr_assert_null(config_find_device(&config, "q"));
}

Test(config_pair, has_two_that_fit)
{
	static const struct {
		const char *devices, *says;
	} bad[] = {
		{ PRIMARY(""), "devices[0].failover: there is no device \"n\"" },
		{ "{\"id\":\"n\",\"type\":\"t\",\"host\":\"h\"}," PRIMARY(""),
		  "devices[1].failover: n is no virtio-net with standby" },
		{ "{\"id\":\"n\",\"type\":\"plain\"}," PRIMARY(""),
		  "devices[1].failover: n is no virtio-net with standby" },
		{ "{\"id\":\"n\",\"type\":\"t\",\"host\":\"h\",\"standby\":true,\"failover\":"
		  "\"n\"}",
		  "devices[0].failover: n is no virtio-net with standby" },
		{ NET "," PRIMARY("") ",{\"id\":\"q\",\"type\":\"plain\",\"failover\":\"n\"}",
		  "devices[2].failover: n stands in for p already" },
		{ NET "," PRIMARY(",\"slot\":4") ",{\"id\":\"q\",\"type\":\"plain\",\"slot\":4,"
		                                 "\"function\":1}",
		  "devices[1].failover: q is in the same slot" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct gw_error err = { 0 };

		cr_assert_eq(parse(bad[i].devices, &err), -EINVAL, "%s", bad[i].devices);
		cr_assert(strstr(err.text, bad[i].says), "%s\nnot: %s", err.text, bad[i].says);
	}
}

Test(config_pair, reads_as_it_was_printed)
{
	struct gw_error err = { 0 };
	char *text;

	cr_assert_eq(parse(NET "," PRIMARY(""), &err), 0, "%s", err.text);
	text = config_print(&config, &drivers);
	cr_assert(strstr(text, "\"failover\":\"n\""), "%s", text);
	cr_assert_eq(config_parse(text, "again", &drivers, &config, &err), 0, "%s", err.text);
	cr_assert_str_eq(config.devices[1].failover, "n");
	free(text);
}

Test(config_pair, the_one_can_be_left_out_and_not_the_other)
{
	static const struct {
		struct gw_map map;
		int r;
		const char *says;
	} bad[] = {
		{ { "devices.n", "none" }, -EINVAL, "no other device stands in for it" },
		{ { "devices.p", "/dev" }, -EINVAL, "can be \"none\" only" },
		{ { "devices.x", "none" }, -ENOENT, "no such device" },
		{ { "devices.", "none" }, -ENOENT, "no such device" },
		{ { "devices", "none" }, -EINVAL, "no such path" },
	};
	const struct gw_map good = { "devices.p", "none" };
	struct gw_error err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(parse(PRIMARY("") "," NET, &err), 0, "%s", err.text);
		cr_assert_eq(config_apply_map(&config, &drivers, &bad[i].map, 1, &err), bad[i].r,
		             "%s", bad[i].map.path);
		cr_assert(strstr(err.text, bad[i].says), "%s", err.text);
		cr_assert_eq(config.device_count, 2);
	}
	cr_assert_eq(config_apply_map(&config, &drivers, &good, 1, &err), 0, "%s", err.text);
	cr_assert_eq(config.device_count, 1);
	cr_assert_str_eq(config.devices[0].id, "n");
}

/* Of an address that is not known before nothing can be said. */
Test(config_pair, addresses_that_are_known_are_the_same)
{
	static const struct {
		const char *primary;
		int r;
	} rows[] = {
		{ "\"room\":5", 0 },
		{ "\"room\":6", -EINVAL },
		{ "\"room\":6,\"fast\":false", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct gw_error err = { 0 };
		char devices[400];

		snprintf(devices, sizeof(devices),
		         "{\"id\":\"n\",\"type\":\"t\",\"host\":\"h\",\"standby\":true,\"room\":5},"
		         "{\"id\":\"p\",\"type\":\"t\",\"host\":\"h\",\"failover\":\"n\",%s}",
		         rows[i].primary);
		cr_assert_eq(parse(devices, &err), 0, "%s", err.text);
		cr_assert_eq(config_check_addresses(&config, &config.devices[1], &drivers, &err),
		             rows[i].r);
		if (rows[i].r)
			cr_assert(strstr(err.text, "this one has 02:02:02:02:02:06, and n "
			                           "02:02:02:02:02:05"),
			          "%s", err.text);
	}
}
