/* SPDX-License-Identifier: Apache-2.0 */
#include "control/types.h"

#include "base/util.h"
#include "control/command.h"

#include <string.h>

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Rows of members: help is for arguments alone. */
#define HAS(name, of) MUST_OF(name, ARG_ANY, of, NULL)
#define MAY_HAVE(name, of) MAY_OF(name, ARG_ANY, of, NULL)

const struct type control_types[] = {
	{ "QMPCapability", NULL, WORDS("oob") },
	{ "RunState", NULL,
	  WORDS("empty", "prelaunch", "running", "paused", "inmigrate", "finish-migrate",
	        "postmigrate", "save-vm", "shutdown", "internal-error") },
	{ "MigrationStatus", NULL,
	  WORDS("none", "setup", "wait-unplug", "active", "device", "cancelling", "cancelled",
	        "completed", "failed") },
	{ "MigrationCapability", NULL, migration_capability_names },
	{ "DumpStatus", NULL, WORDS("none", "active", "completed", "failed") },
	{ "DumpFormat", NULL, WORDS("elf") },
	{ "SysEmuTarget", NULL, WORDS("x86_64", "aarch64") },

	{ "RebootAction", NULL, WORDS("reset") },
	{ "ShutdownAction", NULL, WORDS("poweroff") },
	{ "PanicAction", NULL, WORDS("none", "pause", "shutdown") },
	{ "WatchdogAction", NULL, WORDS("none", "pause", "reset", "poweroff", "inject-nmi") },

	{ "VersionTriple", ARGS(HAS("major", "int"), HAS("minor", "int"), HAS("micro", "int")),
	  NULL },
	{ "VersionInfo",
	  ARGS(HAS("qemu", "VersionTriple"), HAS("godwit", "VersionTriple"), HAS("package", "str")),
	  NULL },
	{ "ArgumentInfo",
	  ARGS(HAS("name", "str"), HAS("type", "str"), HAS("required", "bool"), HAS("help", "str")),
	  NULL },
	{ "CommandInfo",
	  ARGS(HAS("name", "str"), HAS("help", "str"), HAS("arguments", "[ArgumentInfo]")), NULL },
	{ "EventInfo", ARGS(HAS("name", "str"), HAS("help", "str")), NULL },
	{ "SchemaInfo", ARGS(HAS("name", "str"), HAS("meta-type", "str")), NULL },
	{ "KvmInfo", ARGS(HAS("enabled", "bool"), HAS("present", "bool")), NULL },
	{ "StatusInfo", ARGS(HAS("running", "bool"), HAS("status", "RunState")), NULL },
	{ "NameInfo", ARGS(MAY_HAVE("name", "str")), NULL },
	{ "UuidInfo", ARGS(HAS("UUID", "str")), NULL },
	{ "TargetInfo", ARGS(HAS("arch", "SysEmuTarget")), NULL },
	{ "MachineInfo",
	  ARGS(HAS("name", "str"), HAS("cpu-max", "int"), HAS("hotpluggable-cpus", "bool"),
	       HAS("numa-mem-supported", "bool"), HAS("deprecated", "bool"), HAS("acpi", "bool"),
	       MAY_HAVE("is-default", "bool")),
	  NULL },
	{ "CpuInfoFast",
	  ARGS(HAS("cpu-index", "int"), HAS("thread-id", "int"), HAS("qom-path", "str"),
	       HAS("target", "SysEmuTarget"), MAY_HAVE("props", "CpuInstanceProperties")),
	  NULL },
	{ "CpuInstanceProperties",
	  ARGS(MAY_HAVE("node-id", "int"), MAY_HAVE("socket-id", "int"), MAY_HAVE("die-id", "int"),
	       MAY_HAVE("core-id", "int"), MAY_HAVE("thread-id", "int")),
	  NULL },
	{ "HotpluggableCPU",
	  ARGS(HAS("type", "str"), HAS("vcpus-count", "int"), HAS("props", "CpuInstanceProperties"),
	       MAY_HAVE("qom-path", "str")),
	  NULL },
	{ "MemoryDeviceInfoKind", NULL, WORDS("virtio-mem") },
	{ "VirtioMEMDeviceInfo",
	  ARGS(MAY_HAVE("id", "str"), HAS("memaddr", "int"), HAS("requested-size", "int"),
	       HAS("size", "int"), HAS("max-size", "int"), HAS("block-size", "int"),
	       HAS("node", "int"), HAS("memdev", "str")),
	  NULL },
	{ "MemoryDeviceInfo",
	  ARGS(HAS("type", "MemoryDeviceInfoKind"), HAS("data", "VirtioMEMDeviceInfo")), NULL },
	{ "PciInfo", ARGS(HAS("bus", "int"), HAS("devices", "[any]")), NULL },
	{ "MemoryInfo", ARGS(HAS("base-memory", "int"), MAY_HAVE("plugged-memory", "int")), NULL },
	{ "BalloonInfo", ARGS(HAS("actual", "int")), NULL },
	{ "ChardevInfo",
	  ARGS(HAS("label", "str"), HAS("filename", "str"), HAS("frontend-open", "bool")), NULL },
	{ "DeviceInfo",
	  ARGS(HAS("id", "str"), HAS("type", "str"), HAS("slot", "int"), HAS("info", "any")),
	  NULL },

	{ "BlockdevCacheInfo",
	  ARGS(HAS("writeback", "bool"), HAS("direct", "bool"), HAS("no-flush", "bool")), NULL },
	{ "ImageInfo",
	  ARGS(HAS("filename", "str"), HAS("format", "str"), HAS("virtual-size", "int")), NULL },
	{ "BlockDeviceInfo",
	  ARGS(HAS("file", "str"), HAS("node-name", "str"), HAS("ro", "bool"), HAS("drv", "str"),
	       HAS("encrypted", "bool"), HAS("detect_zeroes", "str"), HAS("bps", "int"),
	       HAS("bps_rd", "int"), HAS("bps_wr", "int"), HAS("iops", "int"),
	       HAS("iops_rd", "int"), HAS("iops_wr", "int"), HAS("write_threshold", "int"),
	       HAS("cache", "BlockdevCacheInfo"), HAS("image", "ImageInfo")),
	  NULL },
	{ "BlockInfo",
	  ARGS(HAS("device", "str"), HAS("qdev", "str"), HAS("type", "str"),
	       HAS("removable", "bool"), HAS("locked", "bool"),
	       MAY_HAVE("inserted", "BlockDeviceInfo")),
	  NULL },

	{ "BlockJobInfo", ARGS(HAS("type", "str"), HAS("device", "str")), NULL },
	{ "JobInfo", ARGS(HAS("id", "str"), HAS("type", "str"), HAS("status", "str")), NULL },
	{ "IOThreadInfo", ARGS(HAS("id", "str"), HAS("thread-id", "int")), NULL },

	{ "BlockDeviceStats",
	  ARGS(HAS("rd_bytes", "int"), HAS("wr_bytes", "int"), HAS("rd_operations", "int"),
	       HAS("wr_operations", "int"), HAS("flush_operations", "int")),
	  NULL },
	{ "BlockStats",
	  ARGS(HAS("device", "str"), HAS("qdev", "str"), HAS("node-name", "str"),
	       HAS("stats", "BlockDeviceStats")),
	  NULL },

	{ "AddfdInfo", ARGS(HAS("fdset-id", "int"), HAS("fd", "int")), NULL },
	{ "FdsetFdInfo", ARGS(HAS("fd", "int"), MAY_HAVE("opaque", "str")), NULL },
	{ "FdsetInfo", ARGS(HAS("fdset-id", "int"), HAS("fds", "[FdsetFdInfo]")), NULL },
	{ "DumpQueryResult",
	  ARGS(HAS("status", "DumpStatus"), HAS("completed", "int"), HAS("total", "int")), NULL },

	{ "MigrationChannel", ARGS(HAS("channel-type", "str"), HAS("addr", "any")), NULL },
	{ "MigrationParameters", migrate_parameter_args, NULL },
	{ "MigrationCapabilityStatus",
	  ARGS(HAS("capability", "MigrationCapability"), HAS("state", "bool")), NULL },
	{ "MigrationStats",
	  ARGS(HAS("transferred", "int"), HAS("remaining", "int"), HAS("total", "int"),
	       MAY_HAVE("duplicate", "int"), MAY_HAVE("normal", "int"),
	       MAY_HAVE("normal-bytes", "int"), MAY_HAVE("dirty-pages-rate", "int"),
	       MAY_HAVE("mbps", "number"), MAY_HAVE("dirty-sync-count", "int"),
	       MAY_HAVE("page-size", "int"), MAY_HAVE("pages-per-second", "int"),
	       MAY_HAVE("precopy-bytes", "int"), MAY_HAVE("downtime-bytes", "int"),
	       MAY_HAVE("postcopy-bytes", "int"), MAY_HAVE("postcopy-requests", "int"),
	       MAY_HAVE("multifd-bytes", "int"), MAY_HAVE("dirty-sync-missed-zero-copy", "int")),
	  NULL },
	{ "VfioDeviceStats",
	  ARGS(HAS("id", "str"), HAS("transferred", "int"), HAS("remaining", "int"),
	       HAS("prepare-time", "int"), HAS("iterate-time", "int"), HAS("quiesce-time", "int"),
	       HAS("stop-time", "int"), HAS("save-time", "int")),
	  NULL },
	{ "VfioStats", ARGS(HAS("transferred", "int"), HAS("devices", "[VfioDeviceStats]")), NULL },
	{ "MigrationInfo",
	  ARGS(MAY_HAVE("status", "MigrationStatus"), MAY_HAVE("ram", "MigrationStats"),
	       MAY_HAVE("vfio", "VfioStats"), MAY_HAVE("total-time", "int"),
	       MAY_HAVE("downtime", "int"), MAY_HAVE("expected-downtime", "int"),
	       MAY_HAVE("setup-time", "int"), MAY_HAVE("error-desc", "str"),
	       MAY_HAVE("blocked-reasons", "[str]"), MAY_HAVE("degraded-devices", "[str]")),
	  NULL },
	{ NULL, NULL, NULL },
};

const struct type *type_find(const char *name)
{
	for (const struct type *t = control_types; t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

const char *type_of_arg(const struct arg *arg)
{
	static const char *const names[] = {
		[ARG_STRING] = "str",  [ARG_BOOL] = "bool",  [ARG_UINT] = "int",
		[ARG_OBJECT] = "any",  [ARG_LIST] = "[any]", [ARG_WORDS] = "[str]",
		[ARG_STRINGS] = "any", [ARG_ANY] = "any",
	};

	return arg->of ? arg->of : names[arg->type];
}
