/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The expansion ROM: the device's, read when the guest first looks, or a file.
 * It costs no memory of the guest's: it is trapped.
 * Source: PCI Local Bus 3.0, 6.2.5.2 and 6.3.
 */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ROM_MIN 2048u
#define ROM_MAX (16 * MIB)
#define ROM_CHUNK 4096u /* one read of the device's */
#define ROM_EMPTY 0xff
#define ROM_SIGNATURE 0xaa55u

static uint64_t rounded(uint64_t size)
{
	uint64_t to = ROM_MIN;

	while (to < size)
		to *= 2;
	return to;
}

static uint8_t *blank(uint64_t size)
{
	uint8_t *image = malloc(size);

	if (image)
		memset(image, ROM_EMPTY, size);
	return image;
}

static int load_file(struct vfio_pci *d, struct gw_error *err)
{
	autoclose int fd = io_open(AT_FDCWD, d->rom, O_RDONLY, IO_FILE, err);
	struct stat st;
	uint64_t size;
	int r;

	if (fd < 0)
		return error_context(err, "rom");
	if (fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "rom: %s", d->rom);
	if (st.st_size < 2 || (uint64_t)st.st_size > ROM_MAX)
		return error_set(err, -EINVAL, "rom: %s: not a file of 2 bytes to 16 MiB", d->rom);
	size = rounded((uint64_t)st.st_size);
	d->rom_image = blank(size);
	if (!d->rom_image)
		return error_set(err, -ENOMEM, "rom: out of memory");
	r = io_pread_full(fd, d->rom_image, (size_t)st.st_size, 0);
	if (r < 0)
		return error_set_sys(err, r, "rom: %s", d->rom);
	if (pci_get(d->rom_image, 0, 2) != ROM_SIGNATURE)
		return error_set(err, -EINVAL, "rom: %s does not begin with 55 aa", d->rom);
	d->function.bars[PCI_ROM].size = size;
	return 0;
}

int vfio_rom_init(struct vfio_pci *d, struct gw_error *err)
{
	const struct vfio_region *r = &d->dev.regions[VFIO_PCI_ROM_REGION_INDEX];

	if (!strcmp(d->rom, "none"))
		return 0;
	if (d->rom[0] == '/')
		return load_file(d, err);
	if (r->size && r->readable && r->size <= ROM_MAX)
		d->function.bars[PCI_ROM].size = rounded(r->size);
	return 0;
}

void vfio_rom_fini(struct vfio_pci *d)
{
	free(d->rom_image);
	d->rom_image = NULL;
}

/* What cannot be read stays empty. */
static void load_device(struct vfio_pci *d)
{
	const uint64_t size = d->dev.regions[VFIO_PCI_ROM_REGION_INDEX].size;

	d->rom_image = blank(d->function.bars[PCI_ROM].size);
	for (uint64_t at = 0; d->rom_image && at < size; at += ROM_CHUNK) {
		size_t len = (size_t)MIN(size - at, (uint64_t)ROM_CHUNK);
		int r = vfio_region_read(&d->dev, VFIO_PCI_ROM_REGION_INDEX, at, d->rom_image + at,
		                         len);

		if (r >= 0)
			continue;
		/* A server that is gone may come back. */
		if (r == -ENOTCONN) {
			vfio_rom_fini(d);
			return;
		}
		log_warn(d->device.machine->log, "device %s: its ROM cannot be read at 0x%llx: %s",
		         d->device.id, (unsigned long long)at, strerror(-r));
		memset(d->rom_image + at, ROM_EMPTY, d->function.bars[PCI_ROM].size - at);
		break;
	}
}

uint64_t vfio_rom_read(struct vfio_pci *d, uint64_t offset, unsigned size)
{
	const uint64_t end = d->function.bars[PCI_ROM].size;
	uint64_t value = UINT64_MAX;

	if (!d->rom_image && vfio_pci_reachable(d) && !d->concealed)
		load_device(d);
	if (d->rom_image && offset < end && size <= end - offset)
		memcpy(&value, d->rom_image + offset, MIN((size_t)size, sizeof(value)));
	return value;
}
