/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration says of passed-through devices: of all of them, whoever has the device, and
 * of those that the host's kernel hands over. */
#ifndef VFIO_OPTIONS_H
#define VFIO_OPTIONS_H

#include "vfio/compat.h"
#include "vfio/state.h"
#include "vmm/config.h"

#define VFIO_COMPAT_MAX 64
#define VFIO_WITHOUT_MAX 32

enum vfio_dirty_tracking { VFIO_DIRTY_REQUIRED, VFIO_DIRTY_NONE_OK };

/* The options of each type of passed-through device begin with this, */
struct vfio_options {
	uint32_t dirty_tracking;  /* enum vfio_dirty_tracking */
	uint32_t request_timeout; /* seconds */
	char rom[CONFIG_PATH_MAX];
	char compat_ignore[VFIO_COMPAT_MAX];
	char without[VFIO_WITHOUT_MAX];
};

extern const char *const vfio_dirty_words[];
int vfio_check_rom(const char *text, struct gw_error *err);

/* and its keys have these rows. */
#define VFIO_ROW(section, name, flags, member, otherwise, help, check)                             \
	{                                                                                          \
		section, name, CONFIG_TEXT, flags, offsetof(struct vfio_options, member), 0,       \
		        sizeof(((struct vfio_options *)0)->member), otherwise, NULL, help, check   \
	}
#define VFIO_ROWS                                                                                  \
	CONFIG_ROW_ENUM(NULL, "dirty-tracking", struct vfio_options, dirty_tracking,               \
	                "\"required\"", vfio_dirty_words,                                          \
	                "whether somebody has to tell which memory it writes to, for a migration " \
	                "of the running guest: required, or none-ok: where nobody does, all "      \
	                "memory is sent again while the guest stands"),                            \
	        VFIO_ROW(NULL, "rom", CONFIG_OF_HOST, rom, "\"device\"",                           \
	                 "its expansion ROM: \"device\" the device's own, if it has one, "         \
	                 "\"none\", or a file",                                                    \
	                 vfio_check_rom),                                                          \
	        CONFIG_ROW_NUMBER(NULL, "request-timeout", CONFIG_UINT, 0, struct vfio_options,    \
	                          request_timeout, 0, 3600, "10",                                  \
	                          "seconds that the guest has to let go when whoever has the "     \
	                          "device wants it back or has found it in error; then it is "     \
	                          "taken away"),                                                   \
	        VFIO_ROW("compat", "ignore", CONFIG_OF_HOST, compat_ignore, NULL,                  \
	                 "where a device arrives, properties in which it may differ from the one " \
	                 "that it was, with commas between them: device, subsystem, class, "       \
	                 "revision, features",                                                     \
	                 vfio_compat_check),                                                       \
	        VFIO_ROW("migration", "without", CONFIG_OF_HOST, without, NULL,                    \
	                 "what the device offers for its migration and is not to be used, with "   \
	                 "commas between them: pre-copy, p2p",                                     \
	                 vfio_state_check_without)

/* ---- "vfio-pci" ---- */

enum vfio_backend { VFIO_BACKEND_AUTO, VFIO_BACKEND_TYPE1, VFIO_BACKEND_IOMMUFD };

struct vfio_kernel_options {
	struct vfio_options common;
	char host[CONFIG_PATH_MAX];
	uint32_t backend; /* enum vfio_backend */
};

extern const struct config_key vfio_keys[];
/* device_driver.check_host: the device is there, and it and its IOMMU group can be handed over;
 * otherwise the error says what is to be done. */
int vfio_check_host(const void *options, struct gw_error *err);
/* device_driver.address: of virtual functions only. */
bool vfio_address(const void *options, uint8_t mac[6]);

#endif
