/* SPDX-License-Identifier: Apache-2.0 */
/* device_add in QEMU's words: what becomes of names and parameters. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "control/qemu_device.h"
#include "vm.h"
#include "vmm/config_internal.h"
#include "vmm/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int translate(const char *driver, const char *args, char *out, size_t size)
{
	cJSON *entry = cJSON_Parse(args);
	struct gw_error err = { 0 };
	char *text;
	int r;

	cr_assert(entry, "%s", args);
	r = qemu_device_translate(entry, driver, &err);
	text = cJSON_PrintUnformatted(entry);
	snprintf(out, size, "%s", r < 0 ? err.text : text);
	free(text);
	cJSON_Delete(entry);
	return r;
}

static void becomes(const char *driver, const char *args, const char *wanted)
{
	char got[1100];

	cr_assert_eq(translate(driver, args, got, sizeof(got)), 0, "%s: %s", args, got);
	cr_assert_str_eq(got, wanted, "%s %s: %s", driver, args, got);
}

static void refused(const char *driver, const char *args, const char *part)
{
	char got[1100];

	cr_assert_lt(translate(driver, args, got, sizeof(got)), 0, "%s: %s", args, got);
	cr_assert(strstr(got, part), "%s %s: %s", driver, args, got);
}

Test(qemu_device, drivers_have_their_types)
{
	static const char *const rows[][2] = {
		{ "virtio-blk-pci", "virtio-blk" },
		{ "virtio-net-pci", "virtio-net" },
		{ "virtio-net-pci-non-transitional", "virtio-net" },
		{ "virtio-rng-pci", "virtio-rng" },
		{ "virtio-balloon-pci", "virtio-balloon" },
		{ "virtio-mem-pci", "virtio-mem" },
		{ "pvpanic-pci", "pvpanic" },
		{ "vfio-pci", "vfio-pci" },
		{ "vfio-user-pci", "vfio-user-pci" },
		{ "i6300esb", "i6300esb" },
		{ "virtio-console", "virtio-console" },
		{ "unheard-of", "unheard-of" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char wanted[128];

		snprintf(wanted, sizeof(wanted), "{\"id\":\"x\",\"type\":\"%s\"}", rows[i][1]);
		becomes(rows[i][0], "{\"id\":\"x\"}", wanted);
	}
	becomes("vhost-vsock-pci", "{\"guest-cid\":\"7\"}",
	        "{\"cid\":7,\"vhost\":\"on\",\"type\":\"virtio-vsock\"}");
	becomes("vhost-vsock-pci", "{\"cid\":7,\"vhost\":\"auto\"}",
	        "{\"cid\":7,\"vhost\":\"auto\",\"type\":\"virtio-vsock\"}");
	refused("virtserialport", "{}", "driver \"virtserialport\" is not supported: a console");
	refused("virtio-serial-pci", "{}", "driver=virtio-console");
}

Test(qemu_device, places_are_slots_and_ports)
{
	becomes("virtio-rng-pci", "{\"bus\":\"pcie.0\",\"addr\":\"0x1f.7\"}",
	        "{\"slot\":31,\"function\":7,\"type\":\"virtio-rng\"}");
	becomes("virtio-rng-pci", "{\"addr\":\"a\"}", "{\"slot\":10,\"type\":\"virtio-rng\"}");
	becomes("virtio-rng-pci", "{\"addr\":5}", "{\"slot\":5,\"type\":\"virtio-rng\"}");
	becomes("virtio-rng-pci", "{\"addr\":\"0x0\",\"bus\":\"root-port12\"}",
	        "{\"port\":12,\"type\":\"virtio-rng\"}");
	becomes("virtio-rng-pci", "{\"slot\":3}", "{\"slot\":3,\"type\":\"virtio-rng\"}");
	refused("virtio-rng-pci", "{\"addr\":\"1.\",\"bus\":\"pcie.0\"}",
	        "parameter \"addr\": \"1.\"");
	refused("virtio-rng-pci", "{\"addr\":\"20\"}", "\"20\" is not SLOT.FUNCTION");
	refused("virtio-rng-pci", "{\"addr\":\"1\",\"bus\":\"root-port1\"}", "parameter \"addr\"");
	refused("virtio-rng-pci", "{\"bus\":\"root-port1x\"}", "parameter \"bus\"");
	refused("virtio-rng-pci", "{\"bus\":\"pci.1\"}", "virtio-rng-pci: parameter \"bus\"");
}

Test(qemu_device, parameters_become_keys)
{
	becomes("virtio-blk-pci", "{\"num-queues\":\"4\",\"queue-size\":128,\"file\":\"/x\"}",
	        "{\"file\":\"/x\",\"queues\":4,\"queue-size\":128,\"type\":\"virtio-blk\"}");
	becomes("virtio-balloon-pci", "{\"deflate-on-oom\":\"on\",\"free-page-reporting\":\"off\"}",
	        "{\"deflate-on-oom\":true,\"free-page-reporting\":false,\"type\":\"virtio-"
	        "balloon\"}");
	becomes("virtio-net-pci", "{\"host_mtu\":1400,\"failover\":true,\"tap\":\"t\"}",
	        "{\"tap\":\"t\",\"mtu\":1400,\"standby\":true,\"type\":\"virtio-net\"}");
	becomes("virtio-mem-pci", "{\"requested-size\":0,\"block-size\":\"2M\",\"size\":4}",
	        "{\"size\":4,\"requested\":0,\"block\":\"2M\",\"type\":\"virtio-mem\"}");
	becomes("vfio-pci", "{\"host\":\"03:00.0\",\"romfile\":\"\",\"failover_pair_id\":\"n\"}",
	        "{\"failover\":\"n\",\"host\":\"0000:03:00.0\",\"rom\":\"none\",\"type\":\"vfio-"
	        "pci\"}");
	becomes("vfio-pci", "{\"host\":\"0001:03:00.0\",\"rombar\":0,\"romfile\":\"/r\"}",
	        "{\"host\":\"0001:03:00.0\",\"rom\":\"none\",\"type\":\"vfio-pci\"}");
	becomes("vfio-pci", "{\"sysfsdev\":\"/sys/x\",\"rombar\":1}",
	        "{\"host\":\"/sys/x\",\"type\":\"vfio-pci\"}");
	becomes("vfio-user-pci",
	        "{\"socket\":{\"type\":\"unix\",\"path\":\"/s\"},\"x-msg-timeout\":700}",
	        "{\"socket\":\"/s\",\"timeout\":700,\"type\":\"vfio-user-pci\"}");
	becomes("vfio-user-pci", "{\"socket\":{\"type\":\"fd\",\"str\":\"f\"}}",
	        "{\"fd\":\"f\",\"type\":\"vfio-user-pci\"}");
	becomes("vfio-user-pci", "{\"socket\":\"/s\"}",
	        "{\"socket\":\"/s\",\"type\":\"vfio-user-pci\"}");
	refused("vfio-user-pci", "{\"socket\":{\"type\":\"inet\",\"port\":\"1\"}}", "\"socket\"");
	refused("virtio-blk-pci", "{\"num-queues\":4,\"queues\":4}",
	        "\"num-queues\" is another name of \"queues\"");
}

Test(qemu_device, what_is_harmless_is_ignored_and_what_is_not_is_named)
{
	becomes("virtio-blk-pci",
	        "{\"disable-legacy\":\"on\",\"disable-modern\":false,\"vectors\":9,\"packed\":"
	        "\"on\","
	        "\"iothread\":\"io1\",\"write-cache\":\"on\",\"werror\":\"report\",\"ats\":false,"
	        "\"share-rw\":\"off\",\"romfile\":\"\",\"bootindex\":1}",
	        "{\"type\":\"virtio-blk\"}");
	refused("virtio-blk-pci", "{\"drive\":\"d0\"}",
	        "parameter \"drive\": d0 is not supported: a disk and its file come in one");
	refused("virtio-blk-pci", "{\"share-rw\":true}", "parameter \"share-rw\": on");
	refused("virtio-blk-pci", "{\"write-cache\":\"off\"}", "parameter \"write-cache\": off");
	refused("virtio-blk", "{\"werror\":\"stop\"}", "parameter \"werror\": stop");
	refused("virtio-net-pci", "{\"netdev\":\"n0\"}", "tap=NAME or fd=NAME");
	refused("virtio-net-pci", "{\"host_tso4\":\"off\"}", "offload=false");
	refused("virtio-rng-pci", "{\"rng\":\"o\"}", "parameter \"rng\"");
	refused("virtio-rng-pci", "{\"disable-modern\":\"true\"}", "virtio 1 alone");
	refused("virtio-rng-pci", "{\"disable-legacy\":{\"a\":1}}", "\"disable-legacy\" is not");
	refused("virtio-mem-pci", "{\"memdev\":\"m\"}", "size=BYTES");
	refused("vfio-pci", "{\"enable-migration\":\"off\"}",
	        "parameter \"enable-migration\": off");
	refused("vfio-pci", "{\"iommufd\":\"i0\"}", "backend=iommufd");
	/* What no table has is the configuration's to judge. */
	becomes("virtio-rng-pci", "{\"x-nonsense\":1}",
	        "{\"x-nonsense\":1,\"type\":\"virtio-rng\"}");
}

/* Each row once; and each key that a row makes is one of the type's. */
static void check_row(const struct qemu_driver *d, const struct device_driver *driver,
                      const struct qemu_param *param)
{
	unsigned times = 0;

	for (size_t i = 0; d->tables[i]; i++)
		for (const struct qemu_param *other = d->tables[i]; other->name; other++)
			times += !strcmp(other->name, param->name);
	cr_assert_eq(times, 1, "%s: %s", d->name, param->name);
	cr_assert(!param->key || config_find_key(driver->keys, NULL, param->key) ||
	                  config_find_key(config_device_keys, NULL, param->key),
	          "%s: %s: there is no key %s", d->name, param->name, param->key);
}

Test(qemu_device, tables_name_types_and_keys_that_there_are)
{
	unsigned rows = 0;

	for (const struct qemu_driver *d = qemu_drivers; d->name; d++) {
		const struct device_driver *driver =
		        d->type ? config_find_driver(&vm_drivers, d->type) : NULL;

		cr_assert(!d->type == !!d->instead, "%s", d->name);
		cr_assert(!d->type || driver, "%s: there is no type %s", d->name, d->type);
		for (size_t i = 0; d->tables[i]; i++)
			for (const struct qemu_param *param = d->tables[i]; param->name; param++) {
				check_row(d, driver, param);
				rows++;
			}
	}
	cr_assert_gt(rows, 300);
}
