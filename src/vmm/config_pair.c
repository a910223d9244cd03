/* SPDX-License-Identifier: Apache-2.0 */
/* Two devices of which one stands in for the other: do they fit each other? */
#include "vmm/config_internal.h"

#include "base/error.h"
#include "vmm/device.h"

#include <string.h>

struct config_device *config_find_device(struct config *config, const char *id)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (!strcmp(config->devices[i].id, id))
			return &config->devices[i];
	return NULL;
}

static const struct config_device *stand_in_of(const struct config *config,
                                               const struct config_device *device)
{
	return config_find_device((struct config *)(uintptr_t)config, device->failover);
}

int config_check_pair(const struct config *config, const struct config_device *device,
                      const struct device_drivers *drivers, struct gw_error *err)
{
	const struct config_device *net = stand_in_of(config, device);
	const struct device_driver *driver = net ? config_find_driver(drivers, net->type) : NULL;

	if (!device->failover[0])
		return 0;
	if (!net)
		return error_set(err, -EINVAL, "failover: there is no device \"%s\"",
		                 device->failover);
	if (net->failover[0] || !driver || !driver->may_stand_in ||
	    !driver->may_stand_in(net->options))
		return error_set(err, -EINVAL, "failover: %s is no virtio-net with standby",
		                 device->failover);
	for (unsigned i = 0; i < config->device_count; i++) {
		const struct config_device *other = &config->devices[i];

		if (other == device)
			continue;
		if (!strcmp(other->failover, device->failover))
			return error_set(err, -EINVAL, "failover: %s stands in for %s already",
			                 device->failover, other->id);
		/* A guest lets go of a slot with all that is in it. */
		if (device->slot && other->slot == device->slot)
			return error_set(err, -EINVAL, "failover: %s is in the same slot",
			                 other->id);
	}
	return 0;
}

void config_check_pairs(const struct config *config, const struct device_drivers *drivers,
                        struct config_faults *faults)
{
	struct gw_error err;

	for (unsigned n = 0; n < config->device_count; n++)
		if (config_check_pair(config, &config->devices[n], drivers, &err) < 0)
			config_fault(faults, "devices[%u].%s", n, err.text);
}

/* ---- on this host -------------------------------------------------------------------------- */

static bool find_address(const struct config_device *device, const struct device_drivers *drivers,
                         uint8_t mac[6])
{
	const struct device_driver *driver = config_find_driver(drivers, device->type);

	return driver && driver->address && driver->address(device->options, mac);
}

int config_check_addresses(const struct config *config, const struct config_device *device,
                           const struct device_drivers *drivers, struct gw_error *err)
{
	const struct config_device *net = stand_in_of(config, device);
	uint8_t a[6], b[6];

	if (!device->failover[0] || !net || !find_address(device, drivers, a) ||
	    !find_address(net, drivers, b) || !memcmp(a, b, sizeof(a)))
		return 0;
	return error_set(err, -EINVAL,
	                 "failover: a guest puts two NICs together by their address, but this one "
	                 "has %02x:%02x:%02x:%02x:%02x:%02x, and %s "
	                 "%02x:%02x:%02x:%02x:%02x:%02x",
	                 a[0], a[1], a[2], a[3], a[4], a[5], net->id, b[0], b[1], b[2], b[3], b[4],
	                 b[5]);
}
