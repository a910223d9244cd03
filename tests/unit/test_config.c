/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is accepted, what is refused and by which words; maps. */
#include "config_drivers.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct config config;

static const struct thing *thing(unsigned i)
{
	return (const void *)config.devices[i].options;
}

Test(config, reads_everything)
{
	struct gw_error err;
	const char *json =
	        "{\"name\":\"a\",\"cpus\":3,\"memory\":\"512M\",\"boot\":{\"kernel\":\"/k\","
	        "\"initrd\":\"/i\",\"cmdline\":\"c\"},\"serial\":{\"stdio\":true},"
	        "\"devices\":[{\"id\":\"n0\",\"type\":\"t\",\"host\":\"h\",\"slot\":4}]}";

	cr_assert_eq(config_parse(json, "x", &drivers, &config, &err), 0, "%s", err.text);
	cr_assert_str_eq(config.name, "a");
	cr_assert_eq(config.cpus, 3);
	cr_assert_eq(config.memory, 512ull << 20);
	cr_assert_str_eq(config.boot.initrd, "/i");
	cr_assert(config.serial.stdio);
	cr_assert_eq(config.device_count, 1);
	cr_assert_eq(config.devices[0].slot, 4);
	cr_assert_str_eq(thing(0)->host, "h");
	cr_assert_eq(thing(0)->queues, 2, "the default");
}

Test(config, prints_what_it_reads)
{
	struct gw_error err;
	static struct config again;
	char *text;

	cr_assert_eq(
	        config_parse(
	                "{\"memory\":4194304,\"boot\":{\"kernel\":\"/k \\\"q\\\"\"},\"devices\":"
	                "[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\"}]}",
	                "x", &drivers, &config, &err),
	        0, "%s", err.text);
	text = config_print(&config, &drivers);
	cr_assert(text);
	cr_assert_eq(config_parse(text, "y", &drivers, &again, &err), 0, "%s in %s", err.text,
	             text);
	cr_assert_eq(memcmp(&config, &again, sizeof(config)), 0, "%s", text);
	free(text);
}

static const struct {
	const char *json, *says;
} faulty[] = {
	{ "", "not JSON" },
	{ "{\n\n\"a\":}", "line 3: not JSON" },
	{ "[]", "must be a JSON object" },
	{ "{}", "memory: missing" },
	{ "{\"memory\":\"1M\"}", "memory: 1048576 is not within" },
	{ "{\"memory\":\"3M\"}", "not a multiple of 2M" },
	{ "{\"memory\":\"12X\"}", "memory: must be a whole number" },
	{ "{\"memory\":\"99999999999999999999G\"}", "memory: must be a whole number" },
	{ "{\"memory\":\"18014398509481984K\"}", "memory: must be a whole number" },
	{ "{\"memory\":-4}", "memory: must be a whole number" },
	{ "{\"memory\":2097152.5}", "memory: must be a whole number" },
	{ "{\"memory\":true}", "memory: must be a whole number" },
	{ "{\"cpus\":256}", "cpus: 256 is not within 1 and 255" },
	{ "{\"cpus\":\"2\"}", "cpus: must be a number" },
	{ "{\"boot\":3}", "boot: must be an object" },
	{ "{\"boot\":{\"kernel\":\"\"}}", "boot.kernel: missing" },
	{ "{\"devices\":[{\"id\":\"\"}]}", "devices[0].id: must not be empty" },
	{ "{\"boot\":{\"kernal\":\"/k\"}}", "boot.kernal: no such key" },
	{ "{\"serial\":{\"stdio\":1}}", "serial.stdio: must be true or false" },
	{ "{\"devices\":{}}", "devices: must be a list" },
	{ "{\"devices\":[1]}", "devices[0]: must be an object" },
	{ "{\"devices\":[{\"id\":\"a b\",\"type\":\"t\",\"host\":\"h\"}]}",
	  "devices[0].id: \"a b\"" },
	{ "{\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\"},{\"id\":\"a\",\"type\":\"t\","
	  "\"host\":"
	  "\"h\"}]}",
	  "devices[1].id: \"a\" is devices[0]'s already" },
	{ "{\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\",\"slot\":32}]}",
	  "devices[0].slot: 32 is not within" },
};

Test(config, refuses_by_name)
{
	for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++) {
		struct gw_error err = { 0 };

		cr_assert_eq(config_parse(faulty[i].json, "f.json", &drivers, &config, &err),
		             -EINVAL, "%s", faulty[i].json);
		cr_assert(strstr(err.text, faulty[i].says), "%s: %s", faulty[i].json, err.text);
		cr_assert_eq(strncmp(err.text, "f.json: ", 8), 0, "%s", err.text);
	}
}

Test(config, names_all_faults_at_once)
{
	struct gw_error err;

	cr_assert_eq(config_parse("{\"cpus\":0,\"memory\":\"x\",\"nonsense\":1}", "f", &drivers,
	                          &config, &err),
	             -EINVAL);
	cr_assert(strstr(err.text, "cpus:") && strstr(err.text, "memory:") &&
	                  strstr(err.text, "nonsense:") && strstr(err.text, "boot.kernel: missing"),
	          "%s", err.text);
}

Test(config, maps_what_is_the_hosts_and_nothing_else)
{
	const struct gw_map good[] = { { "devices.a.host", "/new" },
		                       { "serial.log", "/log" },
		                       { "serial.stdio", "true" } };
	static const struct gw_map bad[] = { { "memory", "1G" },
		                             { "devices.b.host", "h" },
		                             { "devices.a.type", "t" },
		                             { "serial.stdio", "maybe" },
		                             { "boot.kernel", "/other" } };
	struct gw_error err;

	cr_assert_eq(config_parse("{\"memory\":4194304,\"boot\":{\"kernel\":\"/k\"},\"devices\":"
	                          "[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\"}]}",
	                          "x", &drivers, &config, &err),
	             0);
	cr_assert_eq(config_apply_map(&config, &drivers, good, 3, &err), 0, "%s", err.text);
	cr_assert_str_eq(thing(0)->host, "/new");
	cr_assert_str_eq(config.serial.log, "/log");
	cr_assert(config.serial.stdio);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_lt(config_apply_map(&config, &drivers, &bad[i], 1, &err), 0, "%s",
		             bad[i].path);
		cr_assert(strstr(err.text, bad[i].path), "%s", err.text);
	}
}
