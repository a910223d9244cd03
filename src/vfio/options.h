/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a passed-through device, and their rows for the configuration's checks. */
#ifndef VFIO_OPTIONS_H
#define VFIO_OPTIONS_H

#include "vfio/compat.h"
#include "vfio/state.h"
#include "vmm/config.h"

#define VFIO_COMPAT_MAX 64
#define VFIO_WITHOUT_MAX 32

enum vfio_dirty_tracking { VFIO_DIRTY_REQUIRED, VFIO_DIRTY_NONE_OK };

enum vfio_backend { VFIO_BACKEND_AUTO, VFIO_BACKEND_TYPE1, VFIO_BACKEND_IOMMUFD };

struct vfio_options {
	char host[CONFIG_PATH_MAX];
	uint32_t dirty_tracking; /* enum vfio_dirty_tracking */
	uint32_t backend;        /* enum vfio_backend */
	char rom[CONFIG_PATH_MAX];
	uint32_t request_timeout; /* seconds */
	char compat_ignore[VFIO_COMPAT_MAX];
	char without[VFIO_WITHOUT_MAX];
};

extern const struct config_key vfio_keys[];

/* The row "dirty-tracking" of every kind of passed-through device; `member` is a uint32_t. */
extern const char *const vfio_dirty_words[];
#define VFIO_ROW_DIRTY_TRACKING(type, member)                                                      \
	CONFIG_ROW_ENUM(NULL, "dirty-tracking", type, member, "\"required\"", vfio_dirty_words,    \
	                "whether somebody has to tell which memory it writes to, for a migration " \
	                "of the running guest: required, or none-ok: where nobody does, all "      \
	                "memory is sent again while the guest stands")

/* The row "compat.ignore" likewise; `member` is a char[VFIO_COMPAT_MAX]. */
#define VFIO_ROW_COMPAT(type, member)                                                              \
	{                                                                                          \
		"compat", "ignore", CONFIG_TEXT, CONFIG_OF_HOST, offsetof(type, member), 0,        \
		        VFIO_COMPAT_MAX, NULL, NULL,                                               \
		        "where a device arrives, properties in which it may differ from the one "  \
		        "that it was, with commas between them: device, subsystem, class, "        \
		        "revision, features",                                                      \
		        vfio_compat_check                                                          \
	}

/* The row "migration.without" likewise; `member` is a char[VFIO_WITHOUT_MAX]. */
#define VFIO_ROW_WITHOUT(type, member)                                                             \
	{                                                                                          \
		"migration", "without", CONFIG_TEXT, CONFIG_OF_HOST, offsetof(type, member), 0,    \
		        VFIO_WITHOUT_MAX, NULL, NULL,                                              \
		        "what the device offers for its migration and is not to be used, with "    \
		        "commas between them: pre-copy, p2p",                                      \
		        vfio_state_check_without                                                   \
	}

/* device_driver.check_host: the device is there, and it and its IOMMU group can be handed over;
 * otherwise the error says what is to be done. */
int vfio_check_host(const void *options, struct gw_error *err);
/* device_driver.address: of virtual functions only. */
bool vfio_address(const void *options, uint8_t mac[6]);

#endif
