/* SPDX-License-Identifier: Apache-2.0 */
/* Queries about parts of a machine, and set-action, over a VM that says what the test wants. */
#include <criterion/criterion.h>

#include "godwit.h"

#include <cjson/cJSON.h>

static int fake_query_devices(struct gw_vm *vm, char **json, struct gw_error *err);
static int fake_query_cpus(struct gw_vm *vm, char **json, struct gw_error *err);
static int fake_device_command(struct gw_vm *vm, const char *id, const char *command,
                               const char *args, char **ret, struct gw_error *err);

/* The files' own names belong to the library's copy. */
#define gw_vm_query_cpus fake_query_cpus
#define gw_vm_device_command fake_device_command
#define command_list_devices fake_list_devices
#define command_query_hotpluggable_cpus tested_hotpluggable_cpus
#define command_query_memory_devices tested_memory_devices
#define command_query_none tested_none
#define command_set_action tested_set_action
#include "control/commands_action.c"
#include "control/commands_parts.c"

static const char *devices;
static char asked[512]; /* what the VM was told */

int fake_list_devices(struct gw_vm *vm, cJSON **out, struct gw_error *err)
{
	char *json = NULL;
	int r = fake_query_devices(vm, &json, err);

	return r < 0 ? r : command_take_json(json, out, err);
}

static int fake_query_devices(struct gw_vm *vm, char **json, struct gw_error *err)
{
	(void)vm;
	(void)err;
	*json = strdup(devices);
	return 0;
}

static int fake_query_cpus(struct gw_vm *vm, char **json, struct gw_error *err)
{
	(void)vm;
	(void)err;
	*json = strdup("[{\"cpu-index\":0,\"thread-id\":7,\"props\":{\"core-id\":0}},"
	               "{\"cpu-index\":1,\"thread-id\":8,\"props\":{\"core-id\":1}}]");
	return 0;
}

static int fake_device_command(struct gw_vm *vm, const char *id, const char *command,
                               const char *args, char **ret, struct gw_error *err)
{
	const size_t len = strlen(asked);

	(void)vm;
	(void)ret;
	(void)err;
	snprintf(asked + len, sizeof(asked) - len, "%s %s %s;", id, command, args);
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
	int r;

	asked[0] = 0;
	r = fn(&call, &err);
	json = call.ret ? cJSON_PrintUnformatted(call.ret) : strdup("{}");
	snprintf(text, sizeof(text), "%s", r < 0 ? err.text : json);
	free(json);
	cJSON_Delete(call.ret);
	cJSON_Delete(object);
	return text;
}

Test(control_parts, every_place_for_a_vcpu_has_one)
{
	char wanted[512];

	snprintf(wanted, sizeof(wanted),
	         "[{\"type\":\"%s\",\"vcpus-count\":1,\"props\":{\"core-id\":0},"
	         "\"qom-path\":\"/machine/cpu[0]\"},{\"type\":\"%s\",\"vcpus-count\":1,"
	         "\"props\":{\"core-id\":1},\"qom-path\":\"/machine/cpu[1]\"}]",
	         command_target_cpu(), command_target_cpu());
	cr_assert_str_eq(run(tested_hotpluggable_cpus, NULL), wanted);
}

Test(control_parts, memory_devices_are_the_virtio_mem)
{
	devices = "[{\"id\":\"d\",\"type\":\"virtio-blk\",\"info\":{}},"
	          "{\"id\":\"m0\",\"type\":\"virtio-mem\",\"slot\":3,\"info\":{\"address\":"
	          "4294967296,\"size\":1073741824,\"block\":2097152,\"requested\":8388608,"
	          "\"plugged\":4194304,\"node\":1}}]";
	cr_assert_str_eq(run(tested_memory_devices, NULL),
	                 "[{\"type\":\"virtio-mem\",\"data\":{\"id\":\"m0\",\"memdev\":"
	                 "\"/machine/m0\",\"memaddr\":4294967296,\"requested-size\":8388608,"
	                 "\"size\":4194304,\"max-size\":1073741824,\"block-size\":2097152,"
	                 "\"node\":1}}]");
	devices = "[]";
	cr_assert_str_eq(run(tested_memory_devices, NULL), "[]");
	cr_assert_str_eq(run(tested_none, NULL), "[]");
}

static void refused(const char *args, const char *words)
{
	const char *text = run(tested_set_action, args);

	cr_assert(strstr(text, words), "%s: %s", args, text);
	cr_assert_str_eq(asked, "", "%s", args);
}

Test(control_parts, actions_are_set_where_there_is_what_finds_out)
{
	devices = "[{\"id\":\"p\",\"type\":\"pvpanic\",\"info\":{}},"
	          "{\"id\":\"w\",\"type\":\"i6300esb\",\"info\":{}}]";
	cr_assert_str_eq(run(tested_set_action, NULL), "{}");
	cr_assert_str_eq(run(tested_set_action, "{\"reboot\":\"reset\",\"shutdown\":\"poweroff\"}"),
	                 "{}");
	cr_assert_str_eq(asked, "");
	cr_assert_str_eq(
	        run(tested_set_action, "{\"panic\":\"shutdown\",\"watchdog\":\"inject-nmi\"}"),
	        "{}");
	cr_assert_str_eq(asked, "p set-action {\"action\":\"poweroff\"};"
	                        "w set-action {\"action\":\"nmi\"};");
	refused("{\"panic\":\"pause\",\"reboot\":\"shutdown\"}",
	        "argument \"reboot\": \"shutdown\" is not offered; there is: reset");
	refused("{\"shutdown\":\"pause\"}", "argument \"shutdown\": \"pause\" is not offered");
	refused("{\"panic\":\"exit-failure\"}", "there is: none, pause, shutdown");
	refused("{\"watchdog\":\"debug\"}", "there is: none, pause, reset, poweroff, inject-nmi");
}

Test(control_parts, an_action_that_nothing_would_take_is_refused)
{
	devices = "[]";
	refused("{\"panic\":\"pause\"}", "argument \"panic\": the machine has no pvpanic");
	refused("{\"watchdog\":\"reset\"}", "argument \"watchdog\": the machine has no i6300esb");
	cr_assert_str_eq(run(tested_set_action, "{\"panic\":\"none\",\"watchdog\":\"none\"}"),
	                 "{}");
}
