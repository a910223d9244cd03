/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of QEMU's drivers and their parameters. */
#include "control/qemu_device.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* Rows: another name of a key; ignored, whatever it is; ignored with these values alone; refused;
 * taken in its own way. */
#define AS(name, value, key)                                                                       \
	{                                                                                          \
		name, value, key, NULL, NULL, NULL                                                 \
	}
#define IGNORED(name)                                                                              \
	{                                                                                          \
		name, QEMU_ANY, NULL, NULL, NULL, NULL                                             \
	}
#define ONLY(name, values, instead)                                                                \
	{                                                                                          \
		name, QEMU_ANY, NULL, NULL, values, instead                                        \
	}
#define REFUSED(name, instead) ONLY(name, "", instead)
#define TAKEN(name, take)                                                                          \
	{                                                                                          \
		name, QEMU_ANY, NULL, take, NULL, NULL                                             \
	}
#define END IGNORED(NULL)

/* ---- what is taken in its own way ----------------------------------------------------------- */

static int put_number(cJSON *entry, const char *key, unsigned value, struct gw_error *err)
{
	return cJSON_AddNumberToObject(entry, key, value)
	               ? 0
	               : error_set(err, -ENOMEM, "out of memory");
}

static int put_text(cJSON *entry, const char *key, const char *value, struct gw_error *err)
{
	return cJSON_AddStringToObject(entry, key, value)
	               ? 0
	               : error_set(err, -ENOMEM, "out of memory");
}

/* Ports have here the names that query-pci tells. */
static int take_bus(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	const char *text = cJSON_GetStringValue(value);
	unsigned port;
	int end = 0;

	if (text && (!strcmp(text, "pcie.0") || !strcmp(text, "pci.0")))
		return 0;
	if (text && sscanf(text, "root-port%u%n", &port, &end) == 1 && !text[end])
		return put_number(entry, "port", port, err);
	return error_set(
	        err, -EINVAL,
	        "parameter \"bus\": there are \"pcie.0\" and the root ports \"root-port1\", "
	        "\"root-port2\", ...");
}

/* "SLOT" or "SLOT.FUNCTION", both hexadecimal. */
static int take_addr(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	unsigned slot, function = 0;
	char text[64];
	int end = 0, r;

	qemu_value_text(value, text, sizeof(text));
	if (sscanf(text, "%x%n.%x%n", &slot, &end, &function, &end) < 1 || text[end] || slot > 31 ||
	    function > 7)
		return error_set(err, -EINVAL, "parameter \"addr\": \"%s\" is not SLOT.FUNCTION",
		                 text);
	if (!cJSON_HasObjectItem(entry, "port")) {
		r = put_number(entry, "slot", slot, err);
		return r || !function ? r : put_number(entry, "function", function, err);
	}
	return slot || function
	               ? error_set(err, -EINVAL,
	                           "parameter \"addr\": behind a root port there is 0 only")
	               : 0;
}

/* QEMU takes an address without its domain. */
static int take_host(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	const char *text = cJSON_GetStringValue(value);
	const char *colon = text ? strchr(text, ':') : NULL;
	char full[32];

	if (colon && *text != '/' && !strchr(colon + 1, ':')) {
		snprintf(full, sizeof(full), "0000:%s", text);
		text = full;
	}
	return put_text(entry, "host", text ? text : "", err);
}

static int take_rom_file(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	const char *text = cJSON_GetStringValue(value);

	return put_text(entry, "rom", text && *text ? text : "none", err);
}

/* 0: none; otherwise it is where it is. */
static int take_rom_bar(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	char text[64];

	qemu_value_text(value, text, sizeof(text));
	if (strcmp(text, "0") != 0 && strcmp(text, "off") != 0)
		return 0;
	cJSON_DeleteItemFromObjectCaseSensitive(entry, "rom");
	return put_text(entry, "rom", "none", err);
}

/* A SocketAddress: {"type":"unix","path":PATH} or {"type":"fd","str":NAME}; or just the path. */
static int take_socket(cJSON *entry, const cJSON *value, struct gw_error *err)
{
	const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(value, "type"));
	const bool is_fd = type && !strcmp(type, "fd");
	const char *text = cJSON_IsObject(value)
	                           ? cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
	                                     value, is_fd ? "str" : "path"))
	                           : cJSON_GetStringValue(value);

	if (!text || (type && !is_fd && strcmp(type, "unix") != 0))
		return error_set(err, -EINVAL,
		                 "parameter \"socket\": type must be \"unix\", with \"path\", or "
		                 "\"fd\", with \"str\"");
	return put_text(entry, is_fd ? "fd" : "socket", text, err);
}

/* ---- what all have -------------------------------------------------------------------------- */

static const struct qemu_param pci_params[] = {
	TAKEN("bus", take_bus),
	TAKEN("addr", take_addr),
	AS("failover_pair_id", QEMU_ANY, "failover"),
	IGNORED("multifunction"), /* function 0 of a slot that has more is told so anyway */
	ONLY("acpi-index", "0,", NULL),
	END,
};

/* Nothing boots from a device that comes later. */
static const struct qemu_param virtio_params[] = {
	ONLY("disable-legacy", "on,auto,", "devices here are of virtio 1 alone"),
	ONLY("disable-modern", "off,", "devices here are of virtio 1 alone"),
	ONLY("iommu_platform", "off,", NULL),
	ONLY("ats", "off,", NULL),
	ONLY("aer", "off,", NULL),
	ONLY("in_order", "off,", NULL),
	ONLY("romfile", ",", NULL), /* empty: none */
	IGNORED("rombar"),
	IGNORED("romsize"),
	IGNORED("bootindex"),
	IGNORED("vectors"),
	IGNORED("ioeventfd"),
	IGNORED("packed"),
	IGNORED("event_idx"),
	IGNORED("indirect_desc"),
	IGNORED("any_layout"),
	IGNORED("notify_on_empty"),
	IGNORED("queue_reset"),
	IGNORED("page-per-vq"),
	IGNORED("modern-pio-notify"),
	IGNORED("use-started"),
	IGNORED("use-disabled-flag"),
	IGNORED("virtio-pci-bus-master-bug-migration"),
	END,
};

/* ---- one by one ----------------------------------------------------------------------------- */

static const struct qemu_param blk_params[] = {
	REFUSED("drive", "a disk and its file come in one: file=PATH"),
	AS("num-queues", QEMU_NUMBER, "queues"),
	AS("queue-size", QEMU_NUMBER, "queue-size"),
	ONLY("write-cache", "on,auto,", "the guest switches it off by itself where it wants to"),
	ONLY("rerror", "report,auto,", "an error is reported to the guest"),
	ONLY("werror", "report,auto,", "an error is reported to the guest"),
	ONLY("share-rw", "off,", "a disk that can be written is one guest's alone"),
	AS("logical_block_size", QEMU_NUMBER, "logical-block-size"),
	AS("physical_block_size", QEMU_NUMBER, "physical-block-size"),
	ONLY("scsi", "off,", NULL),
	IGNORED("min_io_size"),
	IGNORED("opt_io_size"),
	IGNORED("discard_granularity"),
	IGNORED("report-discard-granularity"),
	IGNORED("discard"),
	IGNORED("write-zeroes"),
	IGNORED("max-discard-sectors"),
	IGNORED("max-write-zeroes-sectors"),
	IGNORED("config-wce"),
	IGNORED("request-merging"),
	IGNORED("seg-max-adjust"),
	IGNORED("iothread"), /* each queue has a thread */
	IGNORED("account-invalid"),
	IGNORED("account-failed"),
	IGNORED("backend_defaults"),
	END,
};

#define OFFLOAD(name) ONLY(name, "on,", "offload=false switches all of them off")

static const struct qemu_param net_params[] = {
	REFUSED("netdev", "a NIC and its tap come in one: tap=NAME or fd=NAME"),
	AS("host_mtu", QEMU_NUMBER, "mtu"),
	AS("failover", QEMU_BOOL, "standby"),
	OFFLOAD("csum"),
	OFFLOAD("gso"),
	OFFLOAD("guest_csum"),
	OFFLOAD("guest_tso4"),
	OFFLOAD("guest_tso6"),
	OFFLOAD("guest_ecn"),
	OFFLOAD("guest_ufo"),
	OFFLOAD("host_tso4"),
	OFFLOAD("host_tso6"),
	OFFLOAD("host_ecn"),
	OFFLOAD("host_ufo"),
	ONLY("rss", "off,", NULL),
	ONLY("hash", "off,", NULL),
	ONLY("guest_rsc_ext", "off,", NULL),
	IGNORED("mq"), /* queues says how many there are */
	IGNORED("rx_queue_size"),
	IGNORED("tx_queue_size"),
	IGNORED("mrg_rxbuf"),
	IGNORED("status"),
	IGNORED("guest_announce"),
	IGNORED("ctrl_vq"),
	IGNORED("ctrl_rx"),
	IGNORED("ctrl_rx_extra"),
	IGNORED("ctrl_vlan"),
	IGNORED("ctrl_mac_addr"),
	IGNORED("ctrl_guest_offloads"),
	IGNORED("speed"),
	IGNORED("duplex"),
	IGNORED("tx"),
	END,
};

static const struct qemu_param vsock_params[] = {
	AS("guest-cid", QEMU_NUMBER, "cid"),
	REFUSED("vhostfd", "/dev/vhost-vsock is opened here"),
	ONLY("seqpacket", "off,auto,", "there are streams only"),
	END,
};

static const struct qemu_param rng_params[] = {
	REFUSED("rng", "file=PATH names a source; without it the host's kernel is asked"),
	AS("max-bytes", QEMU_NUMBER, "max-bytes"),
	AS("period", QEMU_NUMBER, "period"),
	END,
};

static const struct qemu_param balloon_params[] = {
	AS("deflate-on-oom", QEMU_BOOL, "deflate-on-oom"),
	AS("free-page-reporting", QEMU_BOOL, "free-page-reporting"),
	ONLY("guest-stats-polling-interval", "0,",
	     "device-command has set-polling-interval for it"),
	IGNORED("free-page-hint"),
	IGNORED("page-poison"),
	IGNORED("iothread"),
	END,
};

static const struct qemu_param mem_params[] = {
	REFUSED("memdev", "it brings its own memory: size=BYTES"),
	AS("requested-size", QEMU_ANY, "requested"),
	AS("block-size", QEMU_ANY, "block"),
	AS("memaddr", QEMU_ANY, "address"),
	AS("node", QEMU_NUMBER, "node"),
	ONLY("prealloc", "off,", NULL),
	IGNORED("unplugged-inaccessible"),
	IGNORED("dynamic-memslots"),
	END,
};

static const struct qemu_param pvpanic_params[] = {
	ONLY("events", "3,", "those that it has are 1 and 2"),
	END,
};

static const struct qemu_param vfio_params[] = {
	TAKEN("host", take_host),
	AS("sysfsdev", QEMU_ANY, "host"),
	TAKEN("romfile", take_rom_file),
	TAKEN("rombar", take_rom_bar),
	REFUSED("fd", "getfd with the name vfio-device:NAME hands a descriptor over"),
	REFUSED("iommufd", "backend=iommufd"),
	ONLY("enable-migration", "on,auto,", "migration.without says what is not to be used"),
	ONLY("display", "off,auto,", NULL),
	ONLY("x-vga", "off,", NULL),
	IGNORED("romsize"),
	IGNORED("bootindex"),
	IGNORED("ats"),
	IGNORED("migration-events"),
	IGNORED("skip-vsc-check"),
	END,
};

static const struct qemu_param user_params[] = {
	TAKEN("socket", take_socket),
	AS("x-msg-timeout", QEMU_NUMBER, "timeout"),
	TAKEN("romfile", take_rom_file),
	TAKEN("rombar", take_rom_bar),
	IGNORED("romsize"),
	IGNORED("bootindex"),
	END,
};

/* ---- drivers -------------------------------------------------------------------------------- */

/* QEMU's name, and the short one that it has for it, which is the type's here. */
#define VIRTIO(name, own)                                                                          \
	{ name "-pci", name, NULL, { pci_params, virtio_params, own }, NULL, NULL },               \
	        { name "-pci-non-transitional",       name, NULL,                                  \
		  { pci_params, virtio_params, own }, NULL, NULL },                                \
	{                                                                                          \
		name, name, NULL, { pci_params, virtio_params, own }, NULL, NULL                   \
	}
#define CONSOLES "a console and its ports come in one: driver=virtio-console"

const struct qemu_driver qemu_drivers[] = {
	VIRTIO("virtio-blk", blk_params),
	VIRTIO("virtio-net", net_params),
	VIRTIO("virtio-rng", rng_params),
	VIRTIO("virtio-balloon", balloon_params),
	VIRTIO("virtio-mem", mem_params),
	{ "vhost-vsock-pci",
	  "virtio-vsock",
	  NULL,
	  { pci_params, virtio_params, vsock_params },
	  "vhost",
	  "on" },
	{ "vhost-vsock-pci-non-transitional",
	  "virtio-vsock",
	  NULL,
	  { pci_params, virtio_params, vsock_params },
	  "vhost",
	  "on" },
	{ "pvpanic-pci", "pvpanic", NULL, { pci_params, pvpanic_params }, NULL, NULL },
	{ "i6300esb", "i6300esb", NULL, { pci_params }, NULL, NULL },
	{ "vfio-pci", "vfio-pci", NULL, { pci_params, vfio_params }, NULL, NULL },
	{ "vfio-user-pci", "vfio-user-pci", NULL, { pci_params, user_params }, NULL, NULL },

	{ "virtio-serial-pci", NULL, CONSOLES, { NULL }, NULL, NULL },
	{ "virtio-serial", NULL, CONSOLES, { NULL }, NULL, NULL },
	{ "virtserialport", NULL, CONSOLES, { NULL }, NULL, NULL },
	{ "virtconsole", NULL, CONSOLES, { NULL }, NULL, NULL },
	{ "pcie-root-port",
	  NULL,
	  "root ports are there from the start: pci.root-ports in the configuration",
	  { NULL },
	  NULL,
	  NULL },
	{ NULL, NULL, NULL, { NULL }, NULL, NULL },
};
