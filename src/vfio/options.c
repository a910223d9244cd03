/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/options.h"

#include "vfio/sysfs.h"
#include "vfio/vf_address.h"

#include "base/error.h"

#include <string.h>

int vfio_check_rom(const char *text, struct gw_error *err)
{
	if (!strcmp(text, "device") || !strcmp(text, "none") || text[0] == '/')
		return 0;
	return error_set(err, -EINVAL,
	                 "\"%s\" is neither \"device\" nor \"none\" nor a path from /", text);
}

const char *const vfio_dirty_words[] = {
	[VFIO_DIRTY_REQUIRED] = "required",
	[VFIO_DIRTY_NONE_OK] = "none-ok",
	NULL,
};

static const char *const backend_words[] = {
	[VFIO_BACKEND_AUTO] = "auto",
	[VFIO_BACKEND_TYPE1] = "type1",
	[VFIO_BACKEND_IOMMUFD] = "iommufd",
	NULL,
};

const struct config_key vfio_keys[] = {
	CONFIG_ROW_TEXT(NULL, "host", CONFIG_REQUIRED | CONFIG_OF_HOST, struct vfio_kernel_options,
	                host,
	                "the host's device: a PCI address (0000:03:00.0) or a folder in sysfs "
	                "(/sys/bus/mdev/devices/UUID); godwit devices lists them"),
	VFIO_ROWS,
	{ NULL, "backend", CONFIG_ENUM, CONFIG_OF_HOST,
	  offsetof(struct vfio_kernel_options, backend), 0, 0, "\"auto\"", backend_words,
	  "how the host's kernel hands it over: type1 (group and container), iommufd (character "
	  "device), or auto: iommufd where there is one",
	  NULL },
	CONFIG_ROW_END,
};

int vfio_check_host(const void *options, struct gw_error *err)
{
	const struct vfio_kernel_options *o = options;
	struct sysfs_device device;

	return sysfs_find(SYSFS_ROOT, o->host, &device, err) < 0 ? error_context(err, "host") : 0;
}

bool vfio_address(const void *options, uint8_t mac[6])
{
	const struct vfio_kernel_options *o = options;
	struct sysfs_device device;

	return !sysfs_find(SYSFS_ROOT, o->host, &device, NULL) && vf_address(device.path, mac);
}
