/* SPDX-License-Identifier: Apache-2.0 */
#include "control/events.h"

#include <string.h>

#define BY_WHOM                                                                                    \
	ARGS(MUST("guest", ARG_BOOL, "whether the guest caused it"),                               \
	     MUST("reason", ARG_STRING, "what it was"))

const struct event_kind control_events[] = {
	{ "STOP", NULL, false, "the vCPUs have stopped" },
	{ "RESUME", NULL, false, "the vCPUs run" },
	{ "RESET", BY_WHOM, false, "the machine was reset, by the guest or by `system_reset`" },
	{ "POWERDOWN", NULL, false, "the power button was pressed" },
	{ "SHUTDOWN", BY_WHOM, false, "the guest has powered off, or the VM was told to quit" },
	{ "GUEST_PANICKED", ARGS(MUST("action", ARG_STRING, "what was done about it")), false,
	  "the guest's kernel says that it has panicked" },
	{ "GUEST_CRASHLOADED", ARGS(MUST("action", ARG_STRING, "what was done about it")), false,
	  "the guest's kernel has panicked and goes on to its crash kernel" },
	{ "WATCHDOG", ARGS(MUST("action", ARG_STRING, "what was done about it")), true,
	  "a watchdog has run out" },
	{ "BALLOON_CHANGE", ARGS(MUST("actual", ARG_UINT, "bytes that the guest has")), true,
	  "the guest's balloon has another size" },
	{ "MEMORY_DEVICE_SIZE_CHANGE",
	  ARGS(MAY("id", ARG_STRING, "which device"), MUST("size", ARG_UINT, "bytes plugged in"),
	       MUST("qom-path", ARG_STRING, "the same device, as a path")),
	  true, "a memory device has another size" },
	{ "VSERPORT_CHANGE",
	  ARGS(MUST("id", ARG_STRING, "which port"),
	       MUST("open", ARG_BOOL, "whether the guest has it open")),
	  true, "the guest has opened or closed a console's port" },
	{ "BLOCK_IO_ERROR",
	  ARGS(MUST("device", ARG_STRING, "which disk"),
	       MUST("operation", ARG_STRING, "read or write"),
	       MUST("action", ARG_STRING, "report: the guest was told"),
	       MUST("nospace", ARG_BOOL, "whether the host's disk is full"),
	       MUST("reason", ARG_STRING, "the system's words")),
	  true, "a disk's file could not be read or written" },
	{ "DEVICE_DELETED",
	  ARGS(MAY("device", ARG_STRING, "its id"), MUST("path", ARG_STRING, "its place")), false,
	  "the guest has let a device go, and it is the host's again" },
	{ "DEVICE_UNPLUG_GUEST_ERROR",
	  ARGS(MAY("device", ARG_STRING, "its id"), MUST("path", ARG_STRING, "its place")), false,
	  "the guest has not let a device go" },
	{ "DEVICE_BROKEN",
	  ARGS(MUST("device", ARG_STRING, "its id"), MUST("reason", ARG_STRING, "what was wrong")),
	  false, "the server of a vfio-user device is gone; the device answers no more" },
	{ "DEVICE_REPAIRED", ARGS(MUST("device", ARG_STRING, "its id")), false,
	  "its server is back, and the device was reset" },
	{ "DEVICE_DEGRADED",
	  ARGS(MUST("device", ARG_STRING, "its id"), MUST("state", ARG_STRING, "reset or failed"),
	       MUST("reason", ARG_STRING, "what failed, and what was done about it")),
	  false,
	  "a migration has left a device in a state that the guest notices, or it does not run "
	  "where it arrived" },
	{ "DUMP_COMPLETED",
	  ARGS(MUST_OF("result", ARG_OBJECT, "DumpQueryResult", "as query-dump has it"),
	       MAY("error", ARG_STRING, "why it failed")),
	  false, "a dump that was detached has ended" },
	{ "MIGRATION",
	  ARGS(MUST_OF("status", ARG_STRING, "MigrationStatus", "as query-migrate has it")), false,
	  "a migration has entered this status" },
	{ "MIGRATION_PASS", ARGS(MUST("pass", ARG_UINT, "its number")), false,
	  "a pass over dirty memory begins" },
	{ "FAILOVER_NEGOTIATED", ARGS(MUST("device-id", ARG_STRING, "the virtio-net's id")), false,
	  "the guest's driver knows that a NIC may be the stand-in of another" },
	{ "PLUG_PRIMARY", ARGS(MUST("device-id", ARG_STRING, "its id")), false,
	  "a NIC that another one stands in for has been plugged in" },
	{ "UNPLUG_PRIMARY", ARGS(MUST("device-id", ARG_STRING, "its id")), false,
	  "the guest is asked to let go of a NIC that another one stands in for" },
	{ "PRIMARY_MISSING",
	  ARGS(MUST("device-id", ARG_STRING, "its id"), MUST("reason", ARG_STRING, "why")), false,
	  "such a NIC could not be plugged in; the guest goes on with its stand-in" },
	{ "VFIO_DEVICE_ERROR",
	  ARGS(MUST("device-id", ARG_STRING, "its id"),
	       MUST("timeout", ARG_UINT, "how long the guest has to let go, in ms")),
	  false,
	  "a VFIO device is in error, says the host or its server: it is taken from the guest" },
	{ "VFIO_DEVICE_REQUEST",
	  ARGS(MUST("device-id", ARG_STRING, "its id"),
	       MUST("timeout", ARG_UINT, "how long the guest has to let go, in ms")),
	  false, "the host, or its server, wants a VFIO device back: it is taken from the guest" },
	{ "VFIO_MIGRATION",
	  ARGS(MUST("device-id", ARG_STRING, "its id"),
	       MUST("device-state", ARG_STRING, "the state's name")),
	  false, "a VFIO device has entered this state" },
	{ NULL, NULL, false, NULL },
};

const struct event_kind *event_find(const char *name)
{
	for (const struct event_kind *e = control_events; e->name; e++)
		if (!strcmp(e->name, name))
			return e;
	return NULL;
}
