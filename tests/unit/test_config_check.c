/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's checks: keys that were meant, values that fit each other, the host. */
#include "config_drivers.h"

#include "vm.h"

#include "base/cpulist.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct config config;

#define MACHINE "\"memory\":\"4G\",\"boot\":{\"kernel\":\"/k\"}"

static void refused(const char *json, const char *says)
{
	struct gw_error err = { 0 };

	cr_assert_eq(config_parse(json, "f", &drivers, &config, &err), -EINVAL, "%s", json);
	cr_assert(strstr(err.text, says), "%s\n%s\nnot: %s", json, err.text, says);
}

static void taken(const char *json)
{
	struct gw_error err = { 0 };

	cr_assert_eq(config_parse(json, "f", &drivers, &config, &err), 0, "%s: %s", json, err.text);
}

Test(config_check, says_what_was_meant)
{
	refused("{\"memroy\":\"4G\"}", "memroy: no such key; did you mean memory?");
	refused("{\"bot\":{}}", "bot: no such key; did you mean boot?");
	refused("{\"kernel\":\"/k\"}", "kernel: no such key; did you mean boot.kernel?");
	refused("{\"boot\":{\"kernal\":\"/k\"}}",
	        "boot.kernal: no such key; did you mean boot.kernel?");
	refused("{\"devices\":[{\"type\":\"t\",\"hots\":\"x\"}]}",
	        "devices[0].hots: no such key; did you mean devices[0].host?");
	refused("{\"devices\":[{\"type\":\"t\",\"queues\":1}]}",
	        "devices[0].queues: no such key; did you mean devices[0].rings.queues?");
	refused("{\"xyzzy\":1}", "xyzzy: no such key; ");
	refused("{\"boot\":{},\"a\\nb\":1}", "a?b: no such key");
}

Test(config_check, functions_of_a_slot)
{
	refused("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"function\":1}]}",
	        "devices[0].function: needs a slot");
	refused("{" MACHINE
	        ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"slot\":3,\"function\":1}]}",
	        "devices[0].function: slot 3 has no function 0");
	refused("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"slot\":3},"
	        "{\"id\":\"b\",\"type\":\"plain\",\"slot\":3}]}",
	        "devices[1].slot: 3 is devices[0]'s already");
	refused("{" MACHINE
	        ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"slot\":3,\"function\":8}]}",
	        "devices[0].function: 8 is not within");
	taken("{" MACHINE
	      ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"slot\":3,\"function\":7},"
	      "{\"id\":\"b\",\"type\":\"plain\",\"slot\":3}]}");
	cr_assert_eq(config.devices[0].function, 7);
}

#define PORTS ",\"pci\":{\"root-ports\":9},\"devices\":[{\"id\":\"a\",\"type\":\"plain\","

Test(config_check, root_ports)
{
	refused("{" MACHINE PORTS "\"port\":10}]}",
	        "devices[0].port: there are 9 (pci.root-ports)");
	refused("{" MACHINE PORTS "\"port\":2,\"slot\":3}]}",
	        "devices[0].port: slot is given too; it is one of them");
	refused("{" MACHINE PORTS "\"slot\":30}]}",
	        "devices[0].slot: 30 is the root ports' (pci.root-ports)");
	refused("{" MACHINE PORTS "\"port\":9},{\"id\":\"b\",\"type\":\"plain\",\"port\":9}]}",
	        "devices[1].port: 9 is devices[0]'s already");
	refused("{" MACHINE PORTS "\"port\":9,\"function\":1}]}",
	        "devices[0].function: port 9 has no function 0");
	taken("{" MACHINE PORTS "\"port\":9},{\"id\":\"b\",\"type\":\"plain\",\"slot\":29}]}");
	cr_assert_eq(config.devices[0].port, 9);
	cr_assert_eq(config_root_ports(&config), 9);
	taken("{" MACHINE PORTS "\"port\":9},"
	      "{\"id\":\"b\",\"type\":\"plain\",\"port\":9,\"function\":1}]}");
}

Test(config_check, keys_come_once)
{
	refused("{\"cpus\":1,\"cpus\":2," MACHINE "}", "cpus: given twice");
	refused("{" MACHINE ",\"boot\":{\"kernel\":\"/x\"}}", "boot.kernel: given twice");
	refused("{" MACHINE ",\"devices\":[],\"devices\":[]}", "devices: given twice");
}

Test(config_check, device_types)
{
	refused("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"tt\",\"x\":1}]}",
	        "devices[0].type: no device type \"tt\"; there are t, plain");
	refused("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\",\"host\":\"h\"}]}",
	        "devices[0].host: no such key");
	refused("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"t\"}]}",
	        "devices[0].host: missing");
	taken("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"plain\"}]}");
}

Test(config_check, values_of_each_kind)
{
	static const struct {
		const char *value, *says;
	} bad[] = {
		{ "\"rings\":{\"queues\":9}", "devices[0].rings.queues: 9 is not within 1 and 8" },
		{ "\"rings\":{\"queues\":1.5}", "devices[0].rings.queues: must be a whole number" },
		{ "\"mode\":\"fast\"", "devices[0].mode: must be one of \"tap\", \"vhost\"" },
		{ "\"mode\":1", "devices[0].mode: must be one of" },
		{ "\"fast\":\"yes\"", "devices[0].fast: must be true or false" },
		{ "\"room\":\"1.5G\"", "devices[0].room: must be a whole number of bytes" },
		{ "\"any\":\"xyz0123456789012345678901234567890123456789012345678901234567890\"",
		  "devices[0].any: longer than 63 bytes" },
	};
	const struct thing *t = (const void *)config.devices[0].options;
	char json[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(json, sizeof(json),
		         "{" MACHINE
		         ",\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\",%s}]}",
		         bad[i].value);
		refused(json, bad[i].says);
	}
	taken("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\","
	      "\"room\":\"18446744073709551615\",\"mode\":\"tap\",\"fast\":false,"
	      "\"any\":{\"x\":[1, null]}}]}");
	cr_assert_eq(t->room, UINT64_MAX);
	cr_assert_eq(t->mode, 0);
	cr_assert_eq(t->fast, false);
	cr_assert_str_eq(t->any, "{\"x\":[1,null]}");
	taken("{" MACHINE ",\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\"}]}");
	cr_assert_eq(t->room, 65536);
	cr_assert_eq(t->mode, 1);
	cr_assert_eq(t->fast, true);
	cr_assert_eq(t->queues, 2);
}

Test(config_check, the_machine_fits_itself)
{
	taken("{\"cpus\":8,\"cpu\":{\"sockets\":2,\"cores\":2,\"threads\":2}," MACHINE "}");
	taken("{\"cpus\":8,\"cpu\":{\"threads\":2}," MACHINE "}");
	refused("{\"cpus\":8,\"cpu\":{\"sockets\":2,\"cores\":2}," MACHINE "}",
	        "make 4, which does not fit 8 cpus");
	refused("{\"cpus\":8,\"cpu\":{\"threads\":3}," MACHINE "}", "make 3, which");
	refused("{\"cpus\":3,\"cpu\":{\"affinity\":[\"0\",\"0\"]}," MACHINE "}",
	        "cpu.affinity: 2 entries for 3 cpus");
	refused("{\"cpus\":1,\"cpu\":{\"affinity\":[\"0-\"]}," MACHINE "}",
	        "cpu.affinity[0]: \"0-\" is no list of numbers and ranges");
	refused("{\"cpu\":{\"model\":\"x86-64-v9\"}," MACHINE "}",
	        "cpu.model: must be one of \"host\", \"x86-64-v2\", \"x86-64-v3\"");
	refused("{\"uuid\":\"12\"," MACHINE "}", "uuid: \"12\" is no UUID");
	taken("{\"uuid\":\"12345678-9abc-DEF0-1234-56789abcdef0\"," MACHINE "}");
	refused("{\"memory\":\"1026M\",\"backing\":{\"pages\":\"1G\"},\"boot\":{\"kernel\":\"k\"}}",
	        "not a multiple of 1G");
	refused("{\"backing\":{\"nodes\":\"x\"}," MACHINE "}", "backing.nodes: \"x\" is no list");
}

Test(config_check, kernel_or_firmware)
{
	refused("{\"memory\":\"4G\"}", "boot.kernel: missing");
	refused("{\"memory\":\"4G\",\"boot\":{\"kernel\":\"k\",\"firmware\":\"f\"}}",
	        "boot.firmware: boot.kernel is given too");
	refused("{\"memory\":\"4G\",\"boot\":{\"firmware\":\"f\",\"initrd\":\"i\"}}",
	        "boot.initrd: needs boot.kernel");
	taken("{\"memory\":\"4G\",\"boot\":{\"firmware\":\"f\"}}");
}

Test(config_check, counts_what_does_not_fit_the_message)
{
	struct gw_error err = { 0 };
	char json[8192] = "{";
	unsigned more = 0;
	const char *at;

	for (unsigned i = 0; i < 200; i++)
		snprintf(json + strlen(json), sizeof(json) - strlen(json), "\"unknown-key-%u\":1,",
		         i);
	strcat(json, MACHINE "}");
	cr_assert_eq(config_parse(json, "f", &drivers, &config, &err), -EINVAL);
	at = strstr(err.text, "; and ");
	cr_assert(at && sscanf(at, "; and %u more", &more) == 1, "%s", err.text);
	for (at = err.text; (at = strstr(at, "unknown-key-")); at++)
		more++;
	cr_assert_eq(more, 200, "all are counted: %s", err.text);
}

/* ---- the host ----------------------------------------------------------------------------------
 */

Test(config_check, files_that_are_not_there)
{
	struct gw_error err = { 0 };

	taken("{\"memory\":\"4G\",\"boot\":{\"kernel\":\"/nonexistent/vmlinux\",\"initrd\":\"/\"},"
	      "\"devices\":[{\"id\":\"a\",\"type\":\"t\",\"host\":\"h\"},"
	      "{\"id\":\"b\",\"type\":\"t\",\"host\":\"gone\"},"
	      "{\"id\":\"c\",\"type\":\"t\",\"host\":\"h\",\"image\":\"/nonexistent/i\"}]}");
	cr_assert_eq(config_check_host(&config, "x.json", &drivers, false, &err), -ENOENT);
	cr_assert_str_eq(err.text,
	                 "x.json: boot.kernel: /nonexistent/vmlinux: No such file or directory; "
	                 "boot.initrd: /: Is a directory; devices[1].host: no such thing gone; "
	                 "devices[2].image: /nonexistent/i: No such file or directory");
	/* Where a guest arrives its boot images come along, and maps name a device by its id. */
	cr_assert_eq(config_check_host(&config, "x", &drivers, true, &err), -ENODEV);
	cr_assert(strstr(err.text, "x: devices.b.host: no such thing gone") == err.text, "%s",
	          err.text);
	cr_assert_eq(config_check_host_device(&config.devices[1], &drivers, &err), -ENODEV);
	cr_assert_str_eq(err.text, "device b: host: no such thing gone");
	cr_assert_eq(config_check_host_device(&config.devices[0], &drivers, &err), 0);
}

Test(config_check, cpus_and_nodes_that_are_not_there)
{
	struct gw_error err = { 0 };

	taken("{\"memory\":\"4G\",\"boot\":{\"kernel\":\"/dev/null\"},"
	      "\"cpu\":{\"affinity\":[\"0,4000\"]},\"backing\":{\"nodes\":\"900\"}}");
	cr_assert_eq(config_check_host(&config, "x", &drivers, false, &err), -ENODEV);
	cr_assert(strstr(err.text, "cpu.affinity[0]: the host has no CPU 4000 (it has "), "%s",
	          err.text);
	cr_assert(strstr(err.text, "backing.nodes: the host has no NUMA node 900"), "%s", err.text);
	taken("{\"memory\":\"4G\",\"boot\":{\"kernel\":\"/dev/null\"},"
	      "\"cpu\":{\"affinity\":[\"0\"]},\"backing\":{\"nodes\":\"0\"}}");
	cr_assert_eq(config_check_host(&config, "x", &drivers, false, &err), 0, "%s", err.text);
}

Test(cpulist, reads_what_the_kernel_writes)
{
	static const char *const bad[] = {
		"",   ",",    "1,",     "-1",   "3-1",  "1-",    "a",
		"1 ", "4096", "0-4096", "1--2", "1,,2", "1-2-3", "99999999999999999999"
	};
	struct cpulist a, b;

	cr_assert(cpulist_parse("0-2,64,4095", &a));
	for (unsigned n = 0; n < 4200; n++)
		cr_assert_eq(cpulist_has(&a, n), n <= 2 || n == 64 || n == 4095, "%u", n);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(cpulist_parse(bad[i], &b), "\"%s\"", bad[i]);
	cr_assert(cpulist_parse("0-63", &b));
	cr_assert_eq(cpulist_first_outside(&a, &b), 64);
	cr_assert(cpulist_parse("1,2", &b));
	cr_assert_eq(cpulist_first_outside(&b, &a), -1);
}

Test(config_check, faults_of_the_text_and_of_the_host_are_told_at_once)
{
	struct gw_error err;

	cr_assert_eq(config_parse_here(
	                     "{\"memroy\":1,\"memory\":\"2M\",\"boot\":{\"kernel\":\"/none\"},"
	                     "\"devices\":[{\"id\":\"a b\",\"type\":\"vfio-pci\",\"host\":\"x\"},"
	                     "{\"id\":\"n\",\"type\":\"vfio-pci\",\"host\":\"0000:99:00.0\"}]}",
	                     "x", &vm_drivers, &config, &err),
	             -EINVAL);
	cr_assert(strstr(err.text, "memroy: no such key"), "%s", err.text);
	cr_assert(strstr(err.text, "boot.kernel: /none: No such file"), "%s", err.text);
	cr_assert(strstr(err.text, "devices[0].id: "), "%s", err.text);
	cr_assert_not(strstr(err.text, "devices[0].host: "), "%s", err.text);
	cr_assert(strstr(err.text, "devices[1].host: no such PCI device"), "%s", err.text);
}
