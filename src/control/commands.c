/* SPDX-License-Identifier: Apache-2.0 */
#include "control/command.h"

#include "base/error.h"

#include <string.h>

/* Shared rows. */
#define ARG_MAP                                                                                    \
	MAY("map", ARG_STRINGS,                                                                    \
	    "host resources that differ here: path in the configuration to value")
#define ARG_URI MAY("uri", ARG_STRING, "tcp:HOST:PORT or unix:PATH")
#define ARG_CHANNELS                                                                               \
	MAY_OF("channels", ARG_LIST, "[MigrationChannel]",                                         \
	       "instead of uri: one entry with channel-type \"main\" and addr")
#define ARG_ID MUST("id", ARG_STRING, "which device")

/* Rows of what is not offered. */
#define REFUSED(name, instead)                                                                     \
	{                                                                                          \
		name, NULL, NULL, NULL, COMMAND_REFUSED | COMMAND_OPEN, instead                    \
	}

const struct command control_commands[] = {
	/* The conversation */
	{ "qmp_capabilities",
	  ARGS(MAY_OF("enable", ARG_WORDS, "[QMPCapability]", "\"oob\": out-of-band execution")),
	  NULL, command_negotiate, COMMAND_INLINE | COMMAND_NEGOTIATE,
	  "ends the negotiation: other commands are taken from now on, and events sent" },
	{ "query-version", NULL, "VersionInfo", command_query_version, COMMAND_INLINE,
	  "the version of godwit, and of QMP that it follows" },
	{ "query-commands", NULL, "[CommandInfo]", command_query_commands, COMMAND_INLINE,
	  "the commands, with their arguments" },
	{ "query-events", NULL, "[EventInfo]", command_query_events, COMMAND_INLINE, "the events" },
	{ "query-qmp-schema", NULL, "[SchemaInfo]", command_query_schema, 0,
	  "commands, events and types, as QAPI describes them" },

	/* The machine */
	{ "query-status", NULL, "StatusInfo", command_query_status, COMMAND_OOB,
	  "the VM's state, and whether it runs" },
	{ "query-name", NULL, "NameInfo", command_query_name, 0, "the VM's name, if it has one" },
	{ "query-uuid", NULL, "UuidInfo", command_query_uuid, 0,
	  "the VM's UUID; all zeros if it has none" },
	{ "query-kvm", NULL, "KvmInfo", command_query_kvm, COMMAND_INLINE,
	  "whether KVM is used: always" },
	{ "query-target", NULL, "TargetInfo", command_query_target, COMMAND_INLINE,
	  "the architecture" },
	{ "query-machines", NULL, "[MachineInfo]", command_query_machines, COMMAND_INLINE,
	  "the kinds of machine: one" },
	{ "query-cpus-fast", NULL, "[CpuInfoFast]", command_query_cpus, 0,
	  "the vCPUs and their threads" },
	{ "query-hotpluggable-cpus", NULL, "[HotpluggableCPU]", command_query_hotpluggable_cpus, 0,
	  "the places for vCPUs: those that there are, since none can be added" },
	{ "query-memory-size-summary", NULL, "MemoryInfo", command_query_memory, 0,
	  "the guest's memory, in bytes" },
	{ "query-memory-devices", NULL, "[MemoryDeviceInfo]", command_query_memory_devices, 0,
	  "memory that comes and goes: the virtio-mem devices" },
	{ "query-pci", NULL, "[PciInfo]", command_query_pci, 0, "the PCI functions" },
	{ "query-config", NULL, "any", command_query_config, 0,
	  "the configuration that the machine has now" },
	{ "query-config-schema", NULL, "any", command_query_config_schema, 0,
	  "the JSON Schema of configurations, with all types of device" },
	{ "stop", NULL, NULL, command_stop, 0, "stops the vCPUs" },
	{ "cont",
	  ARGS(MAY("force", ARG_BOOL,
	           "run a guest that was handed over: safe only once the destination's process "
	           "has ended without having run it")),
	  NULL, command_cont, 0, "runs the vCPUs" },
	{ "quit", NULL, NULL, command_quit, 0, "ends the VM, and the program" },
	{ "system_powerdown", NULL, NULL, command_powerdown, 0,
	  "presses the power button; the guest decides what to do about it" },
	{ "system_reset", NULL, NULL, command_reset, 0, "resets the machine" },
	{ "system_wakeup", NULL, NULL, command_wakeup, 0,
	  "wakes a suspended guest; none ever is, so it is an error" },
	{ "set-action",
	  ARGS(MAY_OF("reboot", ARG_STRING, "RebootAction", "when the guest resets"),
	       MAY_OF("shutdown", ARG_STRING, "ShutdownAction", "when it powers itself off"),
	       MAY_OF("panic", ARG_STRING, "PanicAction", "when a pvpanic tells of a panic"),
	       MAY_OF("watchdog", ARG_STRING, "WatchdogAction", "when an i6300esb runs out")),
	  NULL, command_set_action, 0, "sets what is done when the guest resets, panics or hangs" },
	{ "inject-nmi", NULL, NULL, command_nmi, 0,
	  "sends a non-maskable interrupt to every vCPU" },
	{ "dump-guest-memory",
	  ARGS(MUST("paging", ARG_BOOL, "false: the core has physical addresses"),
	       MUST("protocol", ARG_STRING, "file:PATH, which must not exist yet, or fd:NAME"),
	       MAY("detach", ARG_BOOL, "reply at once; DUMP_COMPLETED follows"),
	       MAY_OF("format", ARG_STRING, "DumpFormat", "elf")),
	  NULL, command_dump, 0, "writes memory and registers as an ELF core; vCPUs stand still" },
	{ "query-dump", NULL, "DumpQueryResult", command_query_dump, 0,
	  "the present or last dump" },

	/* Devices */
	{ "device_add",
	  ARGS(MAY("driver", ARG_STRING,
	           "the type of device, or QEMU's name of it: vfio-pci, virtio-rng-pci, ..."),
	       MAY("type", ARG_STRING, "instead of driver: the type, without QEMU's names"),
	       MUST("id", ARG_STRING, "what it will be called")),
	  NULL, command_device_add, COMMAND_OPEN,
	  "plugs a device in; takes all keys that its type has in a configuration" },
	{ "device_del",
	  ARGS(ARG_ID,
	       MAY_UINT("timeout", 0, 3600000,
	                "milliseconds after which a guest that keeps it is told of by "
	                "DEVICE_UNPLUG_GUEST_ERROR, or loses it with force"),
	       MAY("force", ARG_BOOL, "take it away then; 10 s without timeout")),
	  NULL, command_device_del, 0,
	  "asks the guest to let a device go; DEVICE_DELETED follows when it has" },
	{ "query-devices", NULL, "[DeviceInfo]", command_query_devices, 0,
	  "the devices, and what each says of itself" },
	{ "query-block", NULL, "[BlockInfo]", command_query_block, 0, "the disks" },
	{ "query-named-block-nodes", ARGS(MAY("flat", ARG_BOOL, "without meaning")),
	  "[BlockDeviceInfo]", command_query_block_nodes, 0, "the disks' files" },
	{ "query-blockstats", NULL, "[BlockStats]", command_query_blockstats, 0,
	  "what has been read from and written to the disks" },
	{ "device-command",
	  ARGS(ARG_ID, MUST("command", ARG_STRING, "what its type knows, see docs/config.md"),
	       MAY("arguments", ARG_OBJECT, "what that needs")),
	  "any", command_device, 0, "asks a device something of its own" },
	{ "block_resize",
	  ARGS(MAY("device", ARG_STRING, "which disk"),
	       MAY("node-name", ARG_STRING, "another name for device"),
	       MUST_UINT("size", 0, 0, "bytes")),
	  NULL, command_block_resize, 0, "gives a disk another size, its file as well" },
	{ "query-block-jobs", NULL, "[BlockJobInfo]", command_query_none, COMMAND_INLINE,
	  "jobs on disks: never any" },
	{ "query-jobs", NULL, "[JobInfo]", command_query_none, COMMAND_INLINE,
	  "jobs that go on behind a command: never any" },
	{ "query-iothreads", NULL, "[IOThreadInfo]", command_query_none, COMMAND_INLINE,
	  "I/O threads that are objects: never any, each device has its own" },
	{ "query-chardev", NULL, "[ChardevInfo]", command_query_chardev, 0,
	  "the serial line and consoles, and where they lead" },
	{ "balloon", ARGS(MUST_UINT("value", 0, 0, "bytes that the guest is to have")), NULL,
	  command_balloon, 0, "asks the guest to take or give back memory" },
	{ "query-balloon", NULL, "BalloonInfo", command_query_balloon, 0,
	  "bytes that the guest has" },

	/* Descriptors */
	{ "getfd", ARGS(MUST("fdname", ARG_STRING, "its name")), NULL, command_getfd,
	  COMMAND_TAKES_FD, "takes the descriptor that was sent (SCM_RIGHTS), under a name" },
	{ "closefd", ARGS(MUST("fdname", ARG_STRING, "its name")), NULL, command_closefd, 0,
	  "closes a descriptor" },
	{ "add-fd",
	  ARGS(MAY_UINT("fdset-id", 0, FDSET_MAX, "which set; left out: a new one"),
	       MAY("opaque", ARG_STRING, "a note, which query-fdsets returns")),
	  "AddfdInfo", command_add_fd, COMMAND_TAKES_FD,
	  "puts the descriptor that was sent into a set, which is named /dev/fdset/N" },
	{ "remove-fd",
	  ARGS(MUST_UINT("fdset-id", 0, FDSET_MAX, "which set"),
	       MAY_UINT("fd", 0, FDSET_MAX, "which member; left out: all")),
	  NULL, command_remove_fd, 0, "takes descriptors out of a set" },
	{ "query-fdsets", NULL, "[FdsetInfo]", command_query_fdsets, 0, "the sets" },

	/* Migration */
	{ "migrate",
	  ARGS(ARG_URI, ARG_CHANNELS,
	       MAY("detach", ARG_BOOL, "taken and without meaning: it always detaches")),
	  NULL, command_migrate, 0, "starts to move the VM to another host" },
	{ "migrate-incoming",
	  ARGS(ARG_URI, ARG_CHANNELS, ARG_MAP,
	       MAY("exit-on-error", ARG_BOOL,
	           "false only: a stream that fails does not end the program")),
	  NULL, command_migrate_incoming, 0, "makes an empty VM wait for a migration" },
	{ "migrate_cancel", NULL, NULL, command_migrate_cancel, COMMAND_OOB,
	  "asks the migration under way to stop; fine if there is none" },
	{ "query-migrate", NULL, "MigrationInfo", command_query_migrate, COMMAND_OOB,
	  "the present or last migration" },
	{ "migrate-set-parameters", migrate_parameter_args, NULL, command_set_parameters, 0,
	  "sets parameters of migrations to come and under way" },
	{ "query-migrate-parameters", NULL, "MigrationParameters", command_query_parameters, 0,
	  "the parameters of migrations" },
	{ "migrate-set-capabilities",
	  ARGS(MUST_OF("capabilities", ARG_LIST, "[MigrationCapabilityStatus]",
	               "entries of capability and state")),
	  NULL, command_set_capabilities, 0, "switches capabilities of migration" },
	{ "query-migrate-capabilities", NULL, "[MigrationCapabilityStatus]",
	  command_query_capabilities, 0, "the capabilities of migration, and which are on" },

	/* Snapshots */
	{ "snapshot-save",
	  ARGS(MUST("directory", ARG_STRING, "a directory that does not exist yet"),
	       MAY("unplug-primaries", ARG_BOOL,
	           "whether NICs that another one stands in for are unplugged meanwhile; left out: "
	           "false")),
	  NULL, command_snapshot_save, 0, "saves the VM to a directory; it goes on as before" },
	{ "snapshot-load",
	  ARGS(MUST("directory", ARG_STRING, "what snapshot-save has made"), ARG_MAP,
	       MAY("run", ARG_BOOL, "whether it runs if it ran when it was saved; left out: true")),
	  NULL, command_snapshot_load, 0, "fills an empty VM from a directory" },

	REFUSED("human-monitor-command",
	        "there is no monitor for people here; `godwit ctl` is one"),
	REFUSED("blockdev-add", "a disk and its file come in one: device_add driver=virtio-blk"),
	REFUSED("blockdev-del", "a disk and its file go in one: device_del"),
	REFUSED("netdev_add", "a NIC and its tap come in one: device_add driver=virtio-net"),
	REFUSED("netdev_del", "a NIC and its tap go in one: device_del"),
	REFUSED("chardev-add", "a console and where it leads are set in the configuration"),
	REFUSED("chardev-remove", "a console and where it leads are set in the configuration"),
	REFUSED("object-add", "there are no objects beside the devices: device_add"),
	REFUSED("object-del", "there are no objects beside the devices: device_del"),
	{ NULL, NULL, NULL, NULL, 0, NULL },
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = control_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int command_take_json(char *json, cJSON **ret, struct gw_error *err)
{
	*ret = cJSON_Parse(json);
	gw_free(json);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int command_pass_json(struct call *call,
                      int (*query)(struct gw_vm *vm, char **json, struct gw_error *err),
                      const char *empty, struct gw_error *err)
{
	char *json = NULL;
	int r = query(call->vm, &json, err);

	if (r == -ENODATA) {
		call->ret = cJSON_Parse(empty);
		return call->ret ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	return r < 0 ? r : command_take_json(json, &call->ret, err);
}

int command_list_devices(struct gw_vm *vm, cJSON **out, struct gw_error *err)
{
	struct call call = { .vm = vm };
	int r = command_pass_json(&call, gw_vm_query_devices, "[]", err);

	*out = call.ret;
	return r;
}
