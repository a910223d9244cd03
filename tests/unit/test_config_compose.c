/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration put together from flags. */
#include <criterion/criterion.h>

/* The program's files are no part of the library that tests link with. */
#include "cli/compose.c"
#include "cli/value.c"

#include <getopt.h>

/* flags: NAME, VALUE, ..., NULL */
static char *composed(const char *base, const char *const *flags, struct gw_error *err)
{
	struct compose c = { 0 };
	char *out = NULL;
	int r;

	for (; *flags; flags += 2)
		cr_assert_eq(compose_option(flags[0], flags[1], &c, err), 0, "%s", err->text);
	r = compose_text(&c, base, &out, err);
	cr_assert_eq(r < 0, out == NULL);
	return out;
}

static void expect(const char *base, const char *const *flags, const char *wanted)
{
	struct gw_error err = { 0 };
	char *out = composed(base, flags, &err);

	cr_assert(out, "%s", err.text);
	cr_assert_str_eq(out, wanted);
	free(out);
}
#define FLAGS(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static void refused(const char *base, const char *set, const char *says)
{
	struct gw_error err = { 0 };

	cr_assert_not(composed(base, FLAGS("set", set), &err), "%s", set);
	cr_assert(strstr(err.text, says), "%s: %s", set, err.text);
}

Test(compose, the_quick_case)
{
	expect(NULL, FLAGS("kernel", "/k", "cpus", "2", "name", "5", "memory", "1G"),
	       "{\"memory\":\"1G\",\"serial\":{\"stdio\":true},\"boot\":{\"kernel\":\"/k\"},"
	       "\"cpus\":2,\"name\":\"5\"}");
	expect(NULL,
	       FLAGS("disk", "a,b.img,ro", "net", "tap0", "disk", "c", "vfio", "0000:00:10.0"),
	       "{\"memory\":\"512M\",\"serial\":{\"stdio\":true},\"devices\":["
	       "{\"id\":\"disk0\",\"type\":\"virtio-blk\",\"file\":\"a,b.img\",\"read-only\":true},"
	       "{\"id\":\"net0\",\"type\":\"virtio-net\",\"tap\":\"tap0\"},"
	       "{\"id\":\"disk1\",\"type\":\"virtio-blk\",\"file\":\"c\"},"
	       "{\"id\":\"vfio0\",\"type\":\"vfio-pci\",\"host\":\"0000:00:10.0\"}]}");
}

Test(compose, on_top_of_a_file)
{
	static const char base[] = "{\"memory\":\"1G\",\"devices\":[{\"id\":\"disk0\",\"slot\":1},"
	                           "{\"id\":\"x\"}]}";

	expect(base, FLAGS("set", "devices.x.slot=3", "set", "devices[0].slot=4", "memory", "2G"),
	       "{\"memory\":\"2G\",\"devices\":[{\"id\":\"disk0\",\"slot\":4},"
	       "{\"id\":\"x\",\"slot\":3}]}");
	expect(base, FLAGS("set", "devices.disk1.serial=s", "disk", "f"),
	       "{\"memory\":\"1G\",\"devices\":[{\"id\":\"disk0\",\"slot\":1},{\"id\":\"x\"},"
	       "{\"id\":\"disk1\",\"type\":\"virtio-blk\",\"file\":\"f\",\"serial\":\"s\"}]}");
	expect(base, FLAGS("set", "devices=null", "set", "a.b.c=x=y", "set", "l[0].d=[1,\"2\"]"),
	       "{\"memory\":\"1G\",\"a\":{\"b\":{\"c\":\"x=y\"}},\"l\":[{\"d\":[1,\"2\"]}]}");
	expect(base, FLAGS("set", "devices[1]=null", "set", "nothing.there=null"),
	       "{\"memory\":\"1G\",\"devices\":[{\"id\":\"disk0\",\"slot\":1}],\"nothing\":{}}");
}

Test(compose, refuses_places_that_there_are_not)
{
	static const char base[] = "{\"memory\":\"1G\",\"devices\":[]}";

	refused(base, "devices.nic0.slot=3", "--set: devices.nic0.slot: there is no such place");
	refused(base, "devices[2].slot=3", "there is no such place");
	refused(base, "devices[99999999999999999999]=3", "there is no such place");
	refused(base, "memory.x=3", "there is no such place");
	refused(base, "memory[0]=3", "there is no such place");
	refused(base, "a..b=3", "not a path");
	refused(base, ".a=3", "not a path");
	refused(base, "a.=3", "not a path");
	refused(base, "a[x]=3", "not a path");
	refused(base, "a]=3", "not a path");
	refused(base, "memory", "not PATH=VALUE");
	refused(base, "=3", "not PATH=VALUE");
	refused("{\"devices\":3}", "devices[0]=1", "there is no such place");
}

/* The schema knows where numbers, words and lists are meant to be text. */
Test(compose, takes_text_for_what_is_text)
{
	static const char base[] = "{\"devices\":[{\"id\":\"d\",\"type\":\"virtio-blk\"}]}";

	expect("{}",
	       FLAGS("set", "serial.log=123", "set", "serial.stdio=true", "set", "boot.cmdline=[1]",
	             "set", "name=true", "set", "clock=1", "set", "cpus=2", "set",
	             "memory=4194304"),
	       "{\"serial\":{\"log\":\"123\",\"stdio\":true},\"boot\":{\"cmdline\":\"[1]\"},"
	       "\"name\":\"true\",\"clock\":\"1\",\"cpus\":2,\"memory\":4194304}");
	expect("{}",
	       FLAGS("set", "serial.log=\"17\"", "set", "name=x", "set", "name=null", "set",
	             "cpu.affinity[0]=3", "set", "nowhere.at.all=4"),
	       "{\"serial\":{\"log\":\"17\"},\"cpu\":{\"affinity\":[\"3\"]},"
	       "\"nowhere\":{\"at\":{\"all\":4}}}");
	expect(base,
	       FLAGS("set", "devices.d.serial=17", "set", "devices[0].queues=2", "set",
	             "devices[0].fd=0"),
	       "{\"devices\":[{\"id\":\"d\",\"type\":\"virtio-blk\",\"serial\":\"17\","
	       "\"queues\":2,\"fd\":\"0\"}]}");
	/* Of another type nothing is known, but for what every device has. */
	expect("{\"devices\":[{\"id\":\"d\",\"type\":\"counter\"}]}",
	       FLAGS("set", "devices.d.serial=17", "set", "devices.d.failover=1"),
	       "{\"devices\":[{\"id\":\"d\",\"type\":\"counter\",\"serial\":17,"
	       "\"failover\":\"1\"}]}");
}

Test(compose, values_of_a_single_device)
{
	cJSON *device = cJSON_Parse("{\"type\":\"virtio-blk\"}"), *value;

	value = value_read_device(device, "serial", "17");
	cr_assert(cJSON_IsString(value));
	cr_assert_str_eq(value->valuestring, "17");
	cJSON_Delete(value);
	value = value_read_device(device, "queues", "17");
	cr_assert(cJSON_IsNumber(value));
	cJSON_Delete(value);
	cJSON_Delete(device);
}

Test(compose, leaves_what_is_no_object_to_the_library)
{
	expect("{\n\"a\":}", FLAGS("memory", "1G"), "{\n\"a\":}");
	expect("[]", FLAGS("memory", "1G"), "[]");
}

Test(compose, knows_its_flags)
{
	static const struct option options[] = { COMPOSE_OPTIONS };
	struct compose c = { 0 };
	struct gw_error err;

	/* The command line offers each of them. */
	cr_assert_eq(ARRAY_SIZE(options), ARRAY_SIZE(flags));
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		cr_assert(find_flag(options[i].name), "%s", options[i].name);

	cr_assert_eq(compose_option("control", "x", &c, &err), -ENOENT);
	for (unsigned i = 0; i < COMPOSE_WORDS_MAX; i++)
		cr_assert_eq(compose_option("set", "a=1", &c, &err), 0);
	cr_assert_eq(compose_option("set", "a=1", &c, &err), -E2BIG);
}
