/* SPDX-License-Identifier: Apache-2.0 */
/* What an embedder gives and gets without a machine: options, descriptors, types, its own loop. */
#include "base/error.h"
#include "base/util.h"
#include "vm.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct gw_vm *new_vm(bool external)
{
	const struct gw_options options = { .size = sizeof(options), .external_loop = external };
	struct gw_error err;
	struct gw_vm *vm;

	cr_assert(gw_vm_new_with(&options, &vm, &err) == 0, "%s", err.text);
	return vm;
}

static int fake_create(void *opaque, struct gw_device *handle, const char *options, void **device,
                       struct gw_error *err)
{
	(void)opaque;
	(void)handle;
	(void)options;
	(void)device;
	(void)err;
	return -ENODEV;
}

static void fake_destroy(void *device)
{
	(void)device;
}

static int fake_save(void *device, struct gw_state_out *out, struct gw_error *err)
{
	(void)device;
	(void)out;
	(void)err;
	return 0;
}

static struct gw_device_type good_type(void)
{
	return (struct gw_device_type){
		.size = sizeof(struct gw_device_type),
		.name = "my-dev",
		.state_version = 1,
		.vendor = 0x1234,
		.bars = { { .size = 4096 } },
		.vectors = 2,
		.create = fake_create,
		.destroy = fake_destroy,
	};
}

/* ---- options and the loop -------------------------------------------------------------- */

Test(embed, options_of_another_size_are_refused)
{
	struct gw_options options = { .size = sizeof(options) - 1 };
	struct gw_error err;
	struct gw_vm *vm = NULL;

	cr_assert_eq(gw_vm_new_with(&options, &vm, &err), -EINVAL);
	cr_assert_null(vm);
	cr_assert(strstr(err.text, "options of"), "%s", err.text);
}

static void refused(struct gw_config config, const char *says)
{
	struct gw_vm *vm = new_vm(false);
	struct gw_error err;

	cr_assert_eq(gw_vm_configure_with(vm, &config, &err), -EINVAL);
	cr_assert(strstr(err.text, says), "%s: %s", says, err.text);
	cr_assert_eq(gw_vm_state(vm), GW_STATE_EMPTY);
	gw_vm_free(vm);
}

/* What it says of a configuration as text, it says of one as a struct. */
Test(embed, a_configuration_as_a_struct_is_checked)
{
	static const char *const devices[] = { "{\"id\":\"a\",\"type\":\"pvpanic\"}", "{" };
	static const struct gw_config good = {
		.size = sizeof(good), .memory = 2 << 20, .kernel = "/dev/null", .cpus = 1
	};
	struct gw_config c = good;

	c.size--;
	refused(c, "configuration of");
	c = good;
	c.memory++;
	refused(c, "configuration: memory: 2097153 is not a multiple of 2M");
	c.memory = UINT64_MAX;
	refused(c, "configuration: memory: ");
	c = good;
	c.cpus = 256;
	c.kernel = "/nowhere";
	refused(c, "cpus: ");
	refused(c, "boot.kernel: /nowhere: No such file");
	c = good;
	c.more = "[]";
	refused(c, "configuration: more: not a JSON object");
	c.more = "{\"boot\":{\"kernel\":\"/dev/zero\"}}";
	refused(c, "boot.kernel: given twice");
	c.more = "{\"cpus\":2}";
	refused(c, "cpus: given twice");
	c.more = "{\"boot\":3}";
	refused(c, "boot: must be an object");
	c = good;
	c.devices = devices;
	c.device_count = 2;
	refused(c, "configuration: devices[1]: not JSON");
	c.device_count = 1;
	c.more = "{\"devices\":[{\"id\":\"a\",\"type\":\"virtio-rng\"}]}";
	refused(c, "devices[1].id: \"a\" is devices[0]'s already");
	c.more = "{\"devices\":{}}";
	refused(c, "devices: must be a list");
}

Test(embed, only_an_external_loop_is_dispatched)
{
	struct gw_vm *vm = new_vm(false);
	struct gw_error err;

	cr_assert_eq(gw_vm_fd(vm), -1);
	cr_assert_eq(gw_vm_dispatch(vm, 0, &err), -EINVAL);
	cr_assert(strstr(err.text, "a thread"), "%s", err.text);
	cr_assert_eq(gw_vm_wait(vm, 1, &err), -ETIMEDOUT);
	gw_vm_free(vm);
}

Test(embed, waiting_where_one_dispatches_is_refused)
{
	struct gw_vm *vm = new_vm(true);
	struct gw_error err;

	cr_assert_eq(gw_vm_wait(vm, 1, &err), -ETIMEDOUT, "nobody dispatches yet");
	cr_assert_eq(gw_vm_dispatch(vm, 0, &err), 0);
	cr_assert_eq(gw_vm_wait(vm, -1, &err), -EDEADLK);
	gw_vm_free(vm);
}

static void *quit_soon(void *vm)
{
	usleep(20000);
	gw_vm_quit(vm);
	return NULL;
}

Test(embed, a_change_of_state_ends_a_dispatch_without_limit)
{
	struct gw_vm *vm = new_vm(true);
	struct gw_error err;
	pthread_t thread;

	pthread_create(&thread, NULL, quit_soon, vm);
	cr_assert_eq(gw_vm_dispatch(vm, -1, &err), 0);
	pthread_join(thread, NULL);
	gw_vm_free(vm);
}

static void count_shutdown(void *count, const struct gw_event *event)
{
	if (!strcmp(event->name, "SHUTDOWN") && strstr(event->data, "\"host-qmp-quit\""))
		++*(int *)count;
}

Test(embed, quit_is_told_once_also_of_an_empty_vm)
{
	struct gw_vm *vm = new_vm(false);
	struct gw_error err;
	int count = 0;

	cr_assert_eq(gw_vm_listen(vm, count_shutdown, &count, &err), 0);
	gw_vm_quit(vm);
	cr_assert_eq(count, 1);
	gw_vm_quit(vm);
	gw_vm_free(vm);
	cr_assert_eq(count, 1);
}

Test(embed, the_descriptor_tells_of_work_and_of_its_end)
{
	struct gw_vm *vm = new_vm(true);
	struct pollfd p = { .fd = gw_vm_fd(vm), .events = POLLIN };

	cr_assert(p.fd >= 0);
	cr_assert_eq(poll(&p, 1, 0), 0);
	gw_vm_quit(vm);
	cr_assert_eq(poll(&p, 1, 0), 1);
	cr_assert_eq(gw_vm_dispatch(vm, 0, NULL), 0);
	cr_assert_eq(poll(&p, 1, 0), 0);
	gw_vm_free(vm);
}

/* ---- descriptors ------------------------------------------------------------------------- */

Test(embed, descriptors_are_copied_replaced_and_dropped)
{
	struct gw_vm *vm = new_vm(false);
	int pipe_a[2], pipe_b[2], copy;
	struct gw_error err;
	char c = 'x';

	cr_assert(!pipe(pipe_a) && !pipe(pipe_b));
	cr_assert_eq(gw_vm_give_fd(vm, "p", pipe_a[1], &err), 0);
	cr_assert_eq(gw_vm_give_fd(vm, "p", pipe_b[1], &err), 0);
	/* The first copy is closed: its reader sees the end once ours is. */
	close(pipe_a[1]);
	cr_assert_eq(read(pipe_a[0], &c, 1), 0);
	close(pipe_b[1]);
	copy = vm_take_fd(vm, "p");
	cr_assert(copy >= 0);
	cr_assert_eq(write(copy, &c, 1), 1);
	cr_assert(fcntl(copy, F_GETFD) & FD_CLOEXEC);
	close(copy);
	cr_assert_eq(gw_vm_drop_fd(vm, "p", &err), 0);
	cr_assert_eq(gw_vm_drop_fd(vm, "p", &err), -ENOENT);
	cr_assert_eq(vm_take_fd(vm, "p"), -ENOENT);
	cr_assert_eq(read(pipe_b[0], &c, 1), 1);
	cr_assert_eq(read(pipe_b[0], &c, 1), 0);
	gw_vm_free(vm);
}

Test(embed, bad_descriptors_and_names_are_refused)
{
	struct gw_vm *vm = new_vm(false);
	char name[100];
	struct gw_error err;

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	cr_assert_eq(gw_vm_give_fd(vm, "x", -1, &err), -EINVAL);
	cr_assert(strstr(err.text, "\"x\""), "%s", err.text);
	cr_assert_eq(gw_vm_give_fd(vm, "", 0, &err), -EINVAL);
	cr_assert_eq(gw_vm_give_fd(vm, name, 0, &err), -EINVAL);
	gw_vm_free(vm);
}

/* What is no KVM is used all the same, and found out. */
Test(embed, a_given_kvm_is_used)
{
	struct gw_vm *vm = new_vm(false);
	int fd = open("/dev/null", O_RDWR);
	struct gw_error err;

	cr_assert_eq(gw_vm_give_fd(vm, "kvm", fd, &err), 0);
	cr_assert(gw_vm_configure(vm,
	                          "{\"memory\":\"32M\",\"boot\":{\"kernel\":\"/proc/version\"}}",
	                          "t", &err) < 0);
	cr_assert(strstr(err.text, "/dev/kvm: "), "%s", err.text);
	cr_assert_eq(gw_vm_state(vm), GW_STATE_EMPTY);
	close(fd);
	gw_vm_free(vm);
}

/* ---- types ---------------------------------------------------------------------------------- */

Test(embed, a_type_is_checked)
{
	static const char *const words[] = {
		"bytes", "name",    "name",   "name",  "create",  "create",
		"save",  "version", "vendor", "class", "vectors", "BAR 2",
	};
	struct gw_device_type bad[ARRAY_SIZE(words)];
	struct gw_vm *vm = new_vm(false);
	struct gw_error err;

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		bad[i] = good_type();
	bad[0].size--;
	bad[1].name = NULL;
	bad[2].name = "a-name-that-is-too-long";
	bad[3].name = "My Dev";
	bad[4].create = NULL;
	bad[5].destroy = NULL;
	bad[6].save = fake_save;
	bad[7].state_version = 0;
	bad[8].vendor = 0xffff;
	bad[9].class_code = 0x1000000;
	bad[10].vectors = GW_DEVICE_VECTORS + 1;
	bad[11].bars[2].size = 24;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		cr_assert_eq(gw_vm_register_device_type(vm, &bad[i], NULL, &err), -EINVAL, "%u", i);
		cr_assert(strstr(err.text, words[i]), "%u: %s", i, err.text);
	}
	gw_vm_free(vm);
}

Test(embed, a_type_is_copied_and_unique)
{
	struct gw_vm *vm = new_vm(false), *other = new_vm(false);
	struct gw_device_type type = good_type();
	char name[] = "my-dev";
	struct gw_error err;

	type.name = name;
	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, &err), 0, "%s", err.text);
	name[0] = 'x';
	cr_assert_not_null(config_find_driver(vm_drivers_of(vm), "my-dev"));
	cr_assert_null(config_find_driver(vm_drivers_of(vm), name));
	cr_assert_null(config_find_driver(vm_drivers_of(other), "my-dev"));
	cr_assert_eq(vm_drivers_of(vm)->count, vm_drivers.count + 1);
	type.name = "my-dev";
	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, &err), -EEXIST);
	type.name = vm_drivers.list[0]->type;
	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, &err), -EEXIST, "a built-in one");
	type.name = "second";
	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, &err), 0);
	cr_assert_not_null(config_find_driver(vm_drivers_of(vm), "my-dev"));
	gw_vm_free(vm);
	gw_vm_free(other);
}

Test(embed, a_vm_that_waits_takes_no_more_types)
{
	struct gw_vm *vm = new_vm(false);
	struct gw_device_type type = good_type();
	struct gw_error err;

	cr_assert_eq(gw_vm_incoming(vm, NULL, NULL, 0, &err), 0);
	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, &err), -EBUSY);
	gw_vm_free(vm);
}

static void parse(struct gw_vm *vm, const char *options, int expected, const char *word)
{
	struct config_device *device = calloc(1, sizeof(*device));
	struct gw_error err = { 0 };
	char json[256];
	int r;

	snprintf(json, sizeof(json), "{\"type\":\"my-dev\",\"id\":\"d\"%s%s}",
	         options ? ",\"options\":" : "", options ? options : "");
	r = config_parse_device(json, vm_drivers_of(vm), device, &err);
	cr_assert_eq(r, expected, "%d: %s", r, err.text);
	cr_assert(strstr(r ? err.text : (const char *)device->options, word), "%s; %s", err.text,
	          (const char *)device->options);
	free(device);
}

Test(embed, options_are_an_object_kept_as_text)
{
	struct gw_device_type type = good_type();
	struct gw_vm *vm = new_vm(false);

	cr_assert_eq(gw_vm_register_device_type(vm, &type, NULL, NULL), 0);
	parse(vm, NULL, 0, "{}");
	parse(vm, "{ \"a\": [1, \"x\"] }", 0, "{\"a\":[1,\"x\"]}");
	parse(vm, "[]", -EINVAL, "options: must be an object");
	parse(vm, "null", -EINVAL, "options");
	gw_vm_free(vm);
}
