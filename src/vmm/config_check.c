/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks beyond the single value: whether the values fit each other, and
 * whether this host has what they name. A value that was faulty itself is
 * zero here, and says nothing more.
 */
#include "vmm/config_internal.h"

#include "base/cpulist.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/device.h"
#include "vmm/pci.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- within the configuration -----------------------------------------------------------------
 */

static void check_memory(const struct config *config, struct config_faults *faults)
{
	if (config->memory % (2 * MIB))
		config_fault(faults, "memory: %llu is not a multiple of 2M",
		             (unsigned long long)config->memory);
	else if (config->backing.pages == CONFIG_PAGES_1G && config->memory % GIB)
		config_fault(faults, "memory: %llu is not a multiple of 1G, which backing.pages is",
		             (unsigned long long)config->memory);
}

static void check_topology(const struct config *config, struct config_faults *faults)
{
	const uint32_t parts[] = { config->cpu.sockets, config->cpu.dies, config->cpu.cores,
		                   config->cpu.threads };
	uint64_t product = 1;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		product *= parts[i] ? parts[i] : 1;
	/* Sockets or cores make up for the rest, unless both are given. */
	if (parts[0] && parts[2] ? product != config->cpus : config->cpus % product != 0)
		config_fault(faults,
		             "cpu: sockets, dies, cores and threads make %llu, which does not fit "
		             "%u cpus",
		             (unsigned long long)product, config->cpus);
	if (config->cpu.affinity.count > 1 && config->cpu.affinity.count != config->cpus)
		config_fault(faults, "cpu.affinity: %u entries for %u cpus",
		             config->cpu.affinity.count, config->cpus);
}

static void check_boot(const struct config *config, struct config_faults *faults)
{
	const bool kernel = config->boot.kernel[0], firmware = config->boot.firmware[0];

	if (kernel && firmware)
		config_fault(faults, "boot.firmware: boot.kernel is given too; it is one of them");
	if (!kernel && !firmware)
		config_fault(faults, "boot.kernel: missing, and there is no boot.firmware either");
	if (firmware && config->boot.initrd[0])
		config_fault(faults, "boot.initrd: needs boot.kernel");
	if (firmware && config->boot.cmdline[0])
		config_fault(faults, "boot.cmdline: needs boot.kernel");
}

static void check_pair(const struct config *config, unsigned n, unsigned i,
                       struct config_faults *faults)
{
	const struct config_device *d = &config->devices[n], *before = &config->devices[i];

	if (d->id[0] && !strcmp(before->id, d->id))
		config_fault(faults, "devices[%u].id: \"%s\" is devices[%u]'s already", n, d->id,
		             i);
	if (d->port && before->port == d->port && before->function == d->function)
		config_fault(faults, "devices[%u].port: %u is devices[%u]'s already", n, d->port,
		             i);
	if (d->slot && before->slot == d->slot && before->function == d->function)
		config_fault(faults, "devices[%u].slot: %u is devices[%u]'s already", n, d->slot,
		             i);
}

/* A guest looks for other functions only where there is a function 0 (PCI 3.0, 3.2.2.3.4). */
static void check_function(const struct config *config, unsigned n, struct config_faults *faults)
{
	const struct config_device *d = &config->devices[n];
	bool found = false;

	if (!d->function)
		return;
	for (unsigned i = 0; i < config->device_count; i++)
		found |= config->devices[i].slot == d->slot && config->devices[i].port == d->port &&
		         !config->devices[i].function;
	if (!d->slot && !d->port)
		config_fault(faults, "devices[%u].function: needs a slot", n);
	else if (!found)
		config_fault(faults, "devices[%u].function: %s %u has no function 0", n,
		             d->port ? "port" : "slot", d->port ? d->port : d->slot);
}

static void check_port(const struct config *config, unsigned n, struct config_faults *faults)
{
	const struct config_device *d = &config->devices[n];
	const uint32_t ports = config_root_ports(config);

	if (d->port && d->slot)
		config_fault(faults, "devices[%u].port: slot is given too; it is one of them", n);
	if (d->port > ports)
		config_fault(faults, "devices[%u].port: there are %u (pci.root-ports)", n, ports);
	if (ports && d->slot >= PCI_PORT_SLOT(ports))
		config_fault(faults, "devices[%u].slot: %u is the root ports' (pci.root-ports)", n,
		             d->slot);
}

static void check_devices(const struct config *config, struct config_faults *faults)
{
	for (unsigned n = 0; n < config->device_count; n++) {
		for (unsigned i = 0; i < n; i++)
			check_pair(config, n, i, faults);
		check_function(config, n, faults);
		check_port(config, n, faults);
	}
}

uint32_t config_root_ports(const struct config *config)
{
	return config->pci.root_ports ? config->pci.root_ports : arch_pci.root_ports;
}

void config_check_whole(const struct config *config, const struct device_drivers *drivers,
                        struct config_faults *faults)
{
	check_memory(config, faults);
	check_topology(config, faults);
	config_check_numa(config, faults);
	check_boot(config, faults);
	check_devices(config, faults);
	config_check_pairs(config, drivers, faults);
}

/* ---- against the host -------------------------------------------------------------------------
 */

static int check_file(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static void check_files(const struct config_key *keys, const void *base, const char *prefix,
                        struct config_faults *faults)
{
	for (const struct config_key *key = keys; key->name; key++) {
		const char *path = (const char *)base + key->offset;
		int r;

		if (key->kind != CONFIG_TEXT || !(key->flags & CONFIG_FILE) || !path[0])
			continue;
		r = check_file(path);
		if (r < 0)
			config_fault_code(faults, r, "%s%s%s%s: %s: %s", prefix,
			                  key->section ? key->section : "", key->section ? "." : "",
			                  key->name, path, strerror(-r));
	}
}

/* Every number of `text` is one of those that the host's file lists. */
static void check_online(const char *text, const char *file, const char *path, const char *what,
                         struct config_faults *faults)
{
	struct cpulist wanted, there;
	char line[512];
	int outside;

	/* A kernel without NUMA has no such file, and the one node 0. */
	if (io_read_line(file, line, sizeof(line), NULL) < 0)
		strcpy(line, "0");
	if (!cpulist_parse(text, &wanted) || !cpulist_parse(line, &there))
		return;
	outside = cpulist_first_outside(&wanted, &there);
	if (outside >= 0)
		config_fault_code(faults, -ENODEV, "%s: the host has no %s %d (it has %s)", path,
		                  what, outside, line);
}

#define NODES_ONLINE "/sys/devices/system/node/online"

static void check_placement(const struct config *config, struct config_faults *faults)
{
	for (unsigned i = 0; i < config->cpu.affinity.count; i++) {
		char path[32];

		snprintf(path, sizeof(path), "cpu.affinity[%u]", i);
		check_online(config->cpu.affinity.item[i], "/sys/devices/system/cpu/online", path,
		             "CPU", faults);
	}
	if (config->backing.nodes[0])
		check_online(config->backing.nodes, NODES_ONLINE, "backing.nodes", "NUMA node",
		             faults);
	for (unsigned i = 0; i < config->node_count; i++) {
		char path[32];

		snprintf(path, sizeof(path), "numa[%u].host-nodes", i);
		if (config->numa[i].host_nodes[0])
			check_online(config->numa[i].host_nodes, NODES_ONLINE, path, "NUMA node",
			             faults);
	}
}

static void check_device(const struct config_device *device, const char *prefix,
                         const struct device_drivers *drivers, struct config_faults *faults)
{
	const struct device_driver *driver = config_find_driver(drivers, device->type);
	struct gw_error err;
	unsigned before = faults->count;

	if (!driver)
		return;
	check_files(driver->keys, device->options, prefix, faults);
	if (faults->count == before && driver->check_host &&
	    driver->check_host(device->options, &err) < 0)
		config_fault_code(faults, err.code, "%s%s", prefix, err.text);
}

void config_check_here(const struct config *config, const struct device_drivers *drivers,
                       bool incoming, struct config_faults *faults)
{
	struct gw_error err;

	if (!incoming)
		check_files(config_machine_keys, config, "", faults);
	check_placement(config, faults);
	for (unsigned i = 0; i < config->device_count; i++) {
		char prefix[48];

		if (faults->faulty_devices >> i & 1)
			continue;
		/* Where a guest arrives, by the path that a map would name. */
		if (incoming)
			snprintf(prefix, sizeof(prefix), "devices.%s.", config->devices[i].id);
		else
			snprintf(prefix, sizeof(prefix), "devices[%u].", i);
		check_device(&config->devices[i], prefix, drivers, faults);
		if (config_check_addresses(config, &config->devices[i], drivers, &err) < 0)
			config_fault_code(faults, err.code, "%s%s", prefix, err.text);
	}
}

int config_check_host(const struct config *config, const char *name,
                      const struct device_drivers *drivers, bool incoming, struct gw_error *err)
{
	struct config_faults faults;

	config_faults_begin(&faults, name, err);
	config_check_here(config, drivers, incoming, &faults);
	return config_faults_end(&faults);
}

int config_check_host_device(const struct config_device *device,
                             const struct device_drivers *drivers, struct gw_error *err)
{
	struct config_faults faults;
	char name[48];

	snprintf(name, sizeof(name), "device %s", device->id);
	config_faults_begin(&faults, name, err);
	check_device(device, "", drivers, &faults);
	return config_faults_end(&faults);
}
