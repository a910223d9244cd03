/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a configuration that are not a driver's: what may be said of the machine itself. */
#include "vmm/config_internal.h"

#include "base/cpulist.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/pci.h"

#include <ctype.h>
#include <string.h>

/* ---- what a text must look like ------------------------------------------------------------ */

static int check_id(const char *text, struct gw_error *err)
{
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_", *c))
			return error_set(err, -EINVAL,
			                 "\"%s\" may hold letters, digits, - and _ only", text);
	return 0;
}

/* RFC 4122, 3: 8-4-4-4-12 hexadecimal digits. */
static int check_uuid(const char *text, struct gw_error *err)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	bool good = strlen(text) == strlen(form);

	for (size_t i = 0; good && form[i]; i++)
		good = form[i] == '-' ? text[i] == '-' : isxdigit((unsigned char)text[i]) != 0;
	return good ? 0 : error_set(err, -EINVAL, "\"%s\" is no UUID of the form %s", text, form);
}

static int check_list(const char *text, struct gw_error *err)
{
	struct cpulist list;

	if (cpulist_parse(text, &list))
		return 0;
	return error_set(err, -EINVAL, "\"%s\" is no list of numbers and ranges, as \"0-3,8\"",
	                 text);
}

/* ---- the machine --------------------------------------------------------------------------- */

static const char *const model_words[] = {
	[CONFIG_CPU_HOST] = "host",
	[CONFIG_CPU_V2] = "x86-64-v2",
	[CONFIG_CPU_V3] = "x86-64-v3",
	NULL,
};

static const char *const sve_words[] = {
	[CONFIG_SVE_AUTO] = "auto", [CONFIG_SVE_OFF] = "off",
	[CONFIG_SVE_128] = "128",   [CONFIG_SVE_256] = "256",
	[CONFIG_SVE_512] = "512",   [CONFIG_SVE_1024] = "1024",
	[CONFIG_SVE_2048] = "2048", NULL,
};

static const char *const choice_words[] = {
	[CONFIG_CHOICE_AUTO] = "auto",
	[CONFIG_CHOICE_OFF] = "off",
	[CONFIG_CHOICE_ON] = "on",
	NULL,
};

static const char *const pages_words[] = {
	[CONFIG_PAGES_TRANSPARENT] = "transparent",
	[CONFIG_PAGES_4K] = "4K",
	[CONFIG_PAGES_2M] = "2M",
	[CONFIG_PAGES_1G] = "1G",
	NULL,
};

static const char *const clock_words[] = {
	[CONFIG_CLOCK_CONTINUE] = "continue",
	[CONFIG_CLOCK_REALTIME] = "realtime",
	NULL,
};

#define TEXT(section, name, flags, member, check, help)                                            \
	{                                                                                          \
		section, name, CONFIG_TEXT, flags, offsetof(struct config, member), 0,             \
		        sizeof(((struct config *)0)->member), NULL, NULL, help, check              \
	}
#define PART(name, help)                                                                           \
	CONFIG_ROW_NUMBER("cpu", #name, CONFIG_UINT, 0, struct config, cpu.name, 1,                \
	                  CONFIG_CPUS_MAX, NULL, help)

const struct config_key config_machine_keys[] = {
	TEXT(NULL, "name", 0, name, NULL, "what the machine is called"),
	TEXT(NULL, "uuid", 0, uuid, check_uuid, "the machine's UUID, as the guest is told it"),
	CONFIG_ROW_NUMBER(NULL, "cpus", CONFIG_UINT, 0, struct config, cpus, 1, CONFIG_CPUS_MAX,
	                  "1", "virtual CPUs"),
	CONFIG_ROW_ENUM("cpu", "model", struct config, cpu.model, "\"host\"", model_words,
	                "what the guest's CPUs can do: all that the host's can, or a level that "
	                "many hosts have, so that the guest can move between unlike ones"),
	PART(sockets, "sockets; worked out from the other numbers where it is left out"),
	PART(dies, "dies in a socket; 1 where it is left out"),
	PART(cores, "cores in a die; worked out from the other numbers where it is left out"),
	PART(threads, "threads in a core; 1 where it is left out"),
	CONFIG_ROW_ENUM("cpu", "sve", struct config, cpu.sve, "\"auto\"", sve_words,
	                "arm64: the longest vectors of the Scalable Vector Extension in bits, or "
	                "none; auto: the longest that the host's KVM offers"),
	CONFIG_ROW_ENUM("cpu", "pauth", struct config, cpu.pauth, "\"auto\"", choice_words,
	                "arm64: pointer authentication; auto: where the host's KVM offers it"),
	CONFIG_ROW_BOOL("cpu", "pmu", struct config, cpu.pmu, NULL,
	                "arm64: the guest has performance counters"),
	{ "cpu", "affinity", CONFIG_TEXTS, CONFIG_OF_HOST, offsetof(struct config, cpu.affinity), 0,
	  CONFIG_CPUS_MAX, NULL, NULL,
	  "host CPUs on which each virtual CPU may run, one entry for each or one for all: \"3\", "
	  "\"0-1,4\"",
	  check_list },
	CONFIG_ROW_NUMBER(NULL, "memory", CONFIG_SIZE, CONFIG_REQUIRED, struct config, memory,
	                  2 * MIB, 4096 * GIB, NULL, "guest memory; a multiple of 2 MiB"),
	CONFIG_ROW_ENUM("backing", "pages", struct config, backing.pages, "\"transparent\"",
	                pages_words,
	                "pages of the host that hold guest memory: the kernel's choice, small "
	                "ones only, or reserved huge pages of one size"),
	CONFIG_ROW_BOOL("backing", "lock", struct config, backing.lock, NULL,
	                "guest memory is locked, never swapped out"),
	CONFIG_ROW_BOOL("backing", "prealloc", struct config, backing.prealloc, NULL,
	                "guest memory is taken from the host before the guest starts"),
	CONFIG_ROW_BOOL("backing", "shared", struct config, backing.shared, NULL,
	                "guest memory can be mapped by other processes, which devices of type "
	                "vfio-user-pci need; set by itself where the configuration has one. A "
	                "snapshot is read into it, not mapped"),
	TEXT("backing", "nodes", CONFIG_OF_HOST, backing.nodes, check_list,
	     "the host's NUMA nodes that guest memory is bound to: \"0\", \"0-1\"; any where it is "
	     "left out"),
	CONFIG_ROW_ENUM(NULL, "clock", struct config, clock, "\"continue\"", clock_words,
	                "the guest's clock after a pause, a restore or a move: goes on from where "
	                "it stood, or catches up with real time"),
	TEXT("boot", "kernel", CONFIG_FILE, boot.kernel, NULL,
	     "x86-64: a bzImage, or an ELF file with a PVH entry; arm64: an Image, as it is "
	     "or packed (gzip, zstd, xz, lzma, lz4; an EFI zboot kernel); this or boot.firmware is "
	     "required"),
	TEXT("boot", "initrd", CONFIG_FILE, boot.initrd, NULL, "the kernel's initial RAM disk"),
	TEXT("boot", "cmdline", 0, boot.cmdline, NULL, "the kernel's command line"),
	TEXT("boot", "firmware", CONFIG_FILE, boot.firmware, NULL,
	     "a firmware image that boots from a disk, in place of a kernel"),
	CONFIG_ROW_NUMBER("pci", "root-ports", CONFIG_UINT, 0, struct config, pci.root_ports, 1,
	                  PCI_PORTS_MAX, NULL,
	                  "PCI Express root ports, behind each of which a device can come and go "
	                  "by the guest's native hotplug; functions of slots 31 and 30. Where it "
	                  "is left out there are none on x86-64 and 4 on arm64"),
	CONFIG_ROW_NUMBER("pci", "node", CONFIG_UINT, 0, struct config, pci.node, 0,
	                  CONFIG_NODES_MAX - 1, NULL,
	                  "NUMA node that PCI is near to, as the guest is told; 0 where it is left "
	                  "out"),
	TEXT("serial", "socket", CONFIG_OF_HOST, serial.socket, NULL,
	     "the console as a UNIX stream socket made here, one client at a time"),
	TEXT("serial", "log", CONFIG_OF_HOST, serial.log, NULL,
	     "file to which all that the console prints is appended"),
	{ "serial", "stdio", CONFIG_BOOL, CONFIG_OF_HOST, offsetof(struct config, serial.stdio), 0,
	  0, NULL, NULL, "the console on the process's stdin and stdout", NULL },
	CONFIG_ROW_END,
};

#define NODE_TEXT(name, flags, member, check, help)                                                \
	{                                                                                          \
		NULL, name, CONFIG_TEXT, flags, offsetof(struct config_node, member), 0,           \
		        sizeof(((struct config_node *)0)->member), NULL, NULL, help, check         \
	}

/* ACPI 6.5, 5.2.17: below 10 is reserved, and 255 cannot be reached at all. */
const struct config_key config_node_keys[] = {
	NODE_TEXT("cpus", 0, cpus, check_list,
	          "virtual CPUs of the node: \"0-3,8\"; none where it is left out"),
	CONFIG_ROW_NUMBER(NULL, "memory", CONFIG_SIZE, 0, struct config_node, memory, 0, 4096 * GIB,
	                  NULL,
	                  "how much of the guest's memory is the node's; a multiple of 2 MiB; the "
	                  "nodes' together are memory"),
	NODE_TEXT(
	        "host-nodes", CONFIG_OF_HOST, host_nodes, check_list,
	        "the host's NUMA nodes that this memory, and what virtio-mem adds to it, is bound "
	        "to: \"0\", \"0-1\"; those of backing.nodes where it is left out"),
	{ NULL, "distances", CONFIG_UINTS, 0, offsetof(struct config_node, distances), 10, 254,
	  NULL, NULL,
	  "how far each node's memory is, in the order of the list: 10 for the node itself, more "
	  "for others, the same both ways; of every node, or of none",
	  NULL },
	CONFIG_ROW_END,
};

const struct config_key config_device_keys[] = {
	{ NULL, "id", CONFIG_TEXT, CONFIG_REQUIRED, offsetof(struct config_device, id), 0,
	  sizeof(((struct config_device *)0)->id), NULL, NULL,
	  "what the device is called; letters, digits, - and _; unique", check_id },
	{ NULL, "type", CONFIG_TEXT, CONFIG_REQUIRED, offsetof(struct config_device, type), 0,
	  sizeof(((struct config_device *)0)->type), NULL, NULL, "which device it is", NULL },
	CONFIG_ROW_NUMBER(NULL, "slot", CONFIG_UINT, 0, struct config_device, slot, 1, 31, NULL,
	                  "PCI slot; any free one where it is left out"),
	CONFIG_ROW_NUMBER(NULL, "function", CONFIG_UINT, 0, struct config_device, function, 0, 7,
	                  NULL, "PCI function of the slot; above 0 next to a function 0"),
	CONFIG_ROW_NUMBER(NULL, "port", CONFIG_UINT, 0, struct config_device, port, 1,
	                  PCI_PORTS_MAX, NULL,
	                  "PCI Express root port that it is plugged in behind, of "
	                  "pci.root-ports; in place of a slot"),
	{ NULL, "failover", CONFIG_TEXT, 0, offsetof(struct config_device, failover), 0,
	  sizeof(((struct config_device *)0)->failover), NULL, NULL,
	  "id of a virtio-net with standby, which takes over from this NIC while the machine is "
	  "moved: it is plugged in once the guest's driver can deal with that, leaves before a "
	  "migration, and comes back after it",
	  check_id },
	CONFIG_ROW_END,
};

/* ---- finding a row ------------------------------------------------------------------------- */

bool config_same_section(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

const struct config_key *config_find_key(const struct config_key *keys, const char *section,
                                         const char *name)
{
	for (const struct config_key *key = keys; key->name; key++)
		if (config_same_section(key->section, section) && !strcmp(key->name, name))
			return key;
	return NULL;
}
