/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about devices, over a VM that says what the test wants. */
#include <criterion/criterion.h>

#include "godwit.h"

static int fake_query_devices(struct gw_vm *vm, char **json, struct gw_error *err);
static int fake_query_config(struct gw_vm *vm, char **json, struct gw_error *err);
static int fake_device_command(struct gw_vm *vm, const char *id, const char *command,
                               const char *args, char **ret, struct gw_error *err);
static int fake_device_add(struct gw_vm *vm, const char *json, struct gw_error *err);
static int fake_device_del(struct gw_vm *vm, const char *id, struct gw_error *err);

/* The file's own names belong to the library's copy. */
#define gw_vm_query_devices fake_query_devices
#define gw_vm_query_config fake_query_config
#define gw_vm_device_command fake_device_command
#define gw_vm_device_add fake_device_add
#define gw_vm_device_del fake_device_del
#define command_device_add tested_device_add
#define command_device_del tested_device_del
#define command_query_devices tested_query_devices
#define command_query_block tested_query_block
#define command_query_block_nodes tested_query_block_nodes
#define command_query_blockstats tested_query_blockstats
#define command_query_chardev tested_query_chardev
#define command_device tested_device
#define command_block_resize tested_block_resize
#define command_balloon tested_balloon
#define command_query_balloon tested_query_balloon
#include "control/commands_device.c"

static const char *devices, *config; /* NULL: the VM is empty */
static char asked[512];              /* what the VM was told */

static int answer(const char *text, char **json, struct gw_error *err)
{
	if (!text)
		return error_set(err, -ENODATA, "the VM is empty");
	*json = strdup(text);
	return 0;
}

static int fake_query_devices(struct gw_vm *vm, char **json, struct gw_error *err)
{
	(void)vm;
	return answer(devices, json, err);
}

static int fake_query_config(struct gw_vm *vm, char **json, struct gw_error *err)
{
	(void)vm;
	return answer(config, json, err);
}

static int fake_device_command(struct gw_vm *vm, const char *id, const char *command,
                               const char *args, char **ret, struct gw_error *err)
{
	(void)vm;
	snprintf(asked, sizeof(asked), "%s %s %s", id, command, args ? args : "-");
	return answer("{\"actual\":4096}", ret, err);
}

static int fake_device_add(struct gw_vm *vm, const char *json, struct gw_error *err)
{
	(void)vm;
	(void)err;
	snprintf(asked, sizeof(asked), "%s", json);
	return 0;
}

static int fake_device_del(struct gw_vm *vm, const char *id, struct gw_error *err)
{
	(void)vm;
	(void)err;
	snprintf(asked, sizeof(asked), "del %s", id);
	return 0;
}

/* Runs it and returns what it returns as text, or the error's. Never released. */
static const char *run(command_fn fn, const char *args)
{
	cJSON *object = args ? cJSON_Parse(args) : NULL;
	struct call call = { .args = object, .fd = -1 };
	struct gw_error err = { 0 };
	static char text[4096];
	char *json;
	int r = fn(&call, &err);

	json = call.ret ? cJSON_PrintUnformatted(call.ret) : strdup("{}");
	snprintf(text, sizeof(text), "%s", r < 0 ? err.text : json);
	cr_assert_eq(r < 0, r < 0 && err.code == r, "%d %d", r, err.code);
	free(json);
	cJSON_Delete(call.ret);
	cJSON_Delete(object);
	return text;
}

static void expect_parts(const char *text, const char *const *parts)
{
	for (; *parts; parts++)
		cr_assert(strstr(text, *parts), "%s is not in %s", *parts, text);
}

#define EXPECT_PARTS(text, ...) expect_parts(text, (const char *const[]){ __VA_ARGS__, NULL })

static const char some_devices[] =
        "[{\"id\":\"net0\",\"type\":\"virtio-net\",\"slot\":1,\"info\":{}},"
        "{\"id\":\"d\\\"0\",\"type\":\"virtio-blk\",\"slot\":2,\"info\":{\"file\":\"/a b.img\","
        "\"ro\":true,\"direct\":true,\"size\":1048576,\"rd_bytes\":512,\"wr_bytes\":0,"
        "\"rd_operations\":1,\"wr_operations\":0,\"flush_operations\":7}},"
        "{\"id\":\"con\",\"type\":\"virtio-console\",\"slot\":3,\"info\":{\"chardevs\":["
        "{\"label\":\"con\",\"filename\":\"null\",\"frontend-open\":false}]}},"
        "{\"id\":\"ball\",\"type\":\"virtio-balloon\",\"slot\":4,\"info\":{}}]";

Test(control_device, an_empty_vm_has_empty_lists)
{
	devices = config = NULL;
	cr_assert_str_eq(run(tested_query_devices, NULL), "[]");
	cr_assert_str_eq(run(tested_query_block, NULL), "[]");
	cr_assert_str_eq(run(tested_query_block_nodes, NULL), "[]");
	cr_assert_str_eq(run(tested_query_blockstats, NULL), "[]");
	cr_assert_str_eq(run(tested_query_chardev, NULL), "[]");
}

Test(control_device, disks_are_told_as_qmp_has_them)
{
	devices = some_devices;
	EXPECT_PARTS(run(tested_query_block, NULL),
	             "[{\"device\":\"d\\\"0\",\"qdev\":\"d\\\"0\",\"type\":\"unknown\",",
	             "\"inserted\":{", "\"file\":\"/a b.img\"", "\"ro\":true", "\"drv\":\"raw\"",
	             "\"virtual-size\":1048576", "\"iops_wr\":0", "\"direct\":true");
	EXPECT_PARTS(run(tested_query_block_nodes, NULL), "\"node-name\":\"d\\\"0\"",
	             "\"file\":\"/a b.img\"");
	EXPECT_PARTS(run(tested_query_blockstats, NULL),
	             "\"stats\":{\"rd_bytes\":512,\"wr_bytes\":0,\"rd_operations\":1,"
	             "\"wr_operations\":0,\"flush_operations\":7}}]");
}

Test(control_device, character_devices_are_the_serial_line_and_the_consoles)
{
	devices = some_devices;
	config = "{\"serial\":{\"socket\":\"/run/x\"}}";
	cr_assert_str_eq(run(tested_query_chardev, NULL),
	                 "[{\"label\":\"serial0\",\"filename\":\"unix:/run/x,server=on\","
	                 "\"frontend-open\":true},{\"label\":\"con\",\"filename\":\"null\","
	                 "\"frontend-open\":false}]");
	config = "{\"serial\":{\"stdio\":true}}";
	EXPECT_PARTS(run(tested_query_chardev, NULL), "\"stdio\"");
	config = "{\"serial\":{\"log\":\"/l\"}}";
	EXPECT_PARTS(run(tested_query_chardev, NULL), "\"file:/l\"");
	config = "{}";
	EXPECT_PARTS(run(tested_query_chardev, NULL),
	             "\"label\":\"serial0\",\"filename\":\"null\"");
}

Test(control_device, what_is_added_is_the_configurations_entry)
{
	cr_assert_str_eq(run(tested_device_add, "{\"driver\":\"virtio-blk\",\"id\":\"a\","
	                                        "\"path\":\"/x\",\"queues\":4,\"direct\":true}"),
	                 "{}");
	cr_assert_str_eq(asked, "{\"id\":\"a\",\"path\":\"/x\",\"queues\":4,\"direct\":true,"
	                        "\"type\":\"virtio-blk\"}");
	run(tested_device_add, "{\"type\":\"t\",\"id\":\"a\",\"o\":{\"driver\":1}}");
	cr_assert_str_eq(asked, "{\"type\":\"t\",\"id\":\"a\",\"o\":{\"driver\":1}}");
	run(tested_device_del, "{\"id\":\"a\"}");
	cr_assert_str_eq(asked, "del a");
}

Test(control_device, each_is_asked_in_its_own_words)
{
	devices = some_devices;
	run(tested_block_resize, "{\"device\":\"d\",\"size\":9007199254740991}");
	cr_assert_str_eq(asked, "d resize {\"size\":9007199254740991}");
	run(tested_block_resize, "{\"node-name\":\"n\",\"size\":0}");
	cr_assert_str_eq(asked, "n resize {\"size\":0}");
	run(tested_balloon, "{\"value\":8192}");
	cr_assert_str_eq(asked, "ball balloon {\"value\":8192}");
	cr_assert_str_eq(run(tested_query_balloon, NULL), "{\"actual\":4096}");
	cr_assert_str_eq(asked, "ball query-balloon -");
	cr_assert_str_eq(run(tested_device, "{\"id\":\"x\",\"command\":\"c\"}"),
	                 "{\"actual\":4096}");
	cr_assert_str_eq(asked, "x c -");
	run(tested_device, "{\"id\":\"x\",\"command\":\"c\",\"arguments\":{\"a\":[1]}}");
	cr_assert_str_eq(asked, "x c {\"a\":[1]}");
}

Test(control_device, a_machine_without_a_balloon_has_its_own_class_of_error)
{
	struct call call = { .fd = -1 };
	struct gw_error err = { 0 };

	devices = "[]";
	cr_assert_lt(tested_query_balloon(&call, &err), 0);
	cr_assert_eq(err.cls, GW_ERROR_DEVICE_NOT_ACTIVE);
	cr_assert(strstr(err.text, "virtio-balloon"), "%s", err.text);
	devices = NULL;
	cr_assert_lt(tested_balloon(&call, &err), 0);
	cr_assert_eq(err.cls, GW_ERROR_DEVICE_NOT_ACTIVE);
}
