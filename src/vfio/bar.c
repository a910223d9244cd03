/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BARs: what the device allows is mapped into the guest; the MSI-X table, its
 * pending bits and holes are trapped.
 */
#include "vfio/quirks.h"
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>

/* The BAR's kind is in the low bits of its register, which only the device knows. */
static int read_kind(struct vfio_pci *d, unsigned bar, struct gw_error *err)
{
	struct pci_bar *b = &d->function.bars[bar];
	uint8_t bytes[4];
	uint32_t value;
	int r = vfio_region_read(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX,
	                         PCI_BASE_ADDRESS_0 + bar * 4, bytes, 4);

	if (r < 0)
		return error_set_sys(err, r, "%s: reading BAR %u", d->dev.name, bar);
	value = pci_get(bytes, 0, 4);
	b->is_io = value & PCI_BASE_ADDRESS_SPACE_IO;
	if (b->is_io)
		return 0;
	b->is_64 = (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	b->prefetch = value & PCI_BASE_ADDRESS_MEM_PREFETCH;
	return 0;
}

/* A BAR that cannot be mapped is trapped: slower, but right. */
static void map_areas(struct vfio_pci *d, unsigned bar)
{
	const struct vfio_region *r = &d->dev.regions[bar];

	for (unsigned i = 0; i < r->area_count; i++) {
		struct vfio_window *w = &d->windows[d->window_count];
		void *hva = vfio_area_map(&d->dev, bar, &r->areas[i]);

		if (hva == MAP_FAILED) {
			log_warn(d->device.machine->log, "device %s: BAR %u is trapped: mmap: %s",
			         d->device.id, bar, strerror(errno));
			continue;
		}
		*w = (struct vfio_window){ .bar = bar, .area = r->areas[i], .hva = hva };
		d->window_count++;
	}
}

static bool inside(uint64_t offset, uint64_t size, uint64_t from, uint64_t len)
{
	return offset >= from && offset - from < len && size <= len - (offset - from);
}

/* The table and the pending bits are kept here. Pending bits outside of their BAR are out of the
 * guest's reach, which it can live with; not so the table. */
static int cut_msix(struct vfio_pci *d, struct gw_error *err)
{
	const struct msix_layout *x = &d->msix_layout;
	uint64_t size = d->dev.regions[x->table_bar].size;

	if (!inside(x->table_offset, x->table_size, 0, size))
		return error_set(err, -EINVAL,
		                 "%s: its MSI-X table (0x%llx bytes at 0x%llx) is not in BAR %u, "
		                 "which has 0x%llx bytes",
		                 d->dev.name, (unsigned long long)x->table_size,
		                 (unsigned long long)x->table_offset, x->table_bar,
		                 (unsigned long long)size);
	vfio_region_cut(&d->dev.regions[x->table_bar], x->table_offset, x->table_size);
	vfio_region_cut(&d->dev.regions[x->pba_bar], x->pba_offset, x->pba_size);
	return 0;
}

int vfio_bars_init(struct vfio_pci *d, struct gw_error *err)
{
	int ret = d->msix_cap ? cut_msix(d, err) : 0;

	if (ret < 0)
		return ret;
	vfio_quirk_cut_mirrors(d);
	for (unsigned bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &d->function.bars[bar];
		int r;

		b->size = d->dev.regions[bar].size;
		r = b->size ? read_kind(d, bar, err) : 0;
		if (r < 0)
			return r;
		if (b->size && !b->is_io)
			map_areas(d, bar);
	}
	return 0;
}

void vfio_bars_fini(struct vfio_pci *d)
{
	for (unsigned i = 0; i < d->window_count; i++)
		munmap(d->windows[i].hva, d->windows[i].area.size);
	d->window_count = 0;
}

/* ---- where the guest puts them -------------------------------------------------------------- */

static void show(struct vfio_pci *d, struct vfio_window *w, uint64_t gpa)
{
	struct machine *m = d->device.machine;
	const struct vfio_region *r = &d->dev.regions[w->bar];
	struct gw_error err;

	/* One smaller than a page is mapped only where the guest has put it at a page's beginning,
	 * and nothing else into that page; else it is trapped. */
	if (gpa % PAGE_SIZE || !d->function.bars[w->bar].alone)
		return;
	if (memory_map_device(m->memory, gpa, w->hva, w->area.size, !r->writable, &w->slot, &err) <
	    0) {
		log_warn(m->log, "device %s: BAR %u is trapped: %s", d->device.id, w->bar,
		         err.text);
		return;
	}
	w->shown = true;
	/* For DMA from another device; not every kernel and IOMMU can do that. */
	if (vfio_space_map_device(d->space, gpa, w->area.size, w->hva, &err) < 0)
		log_debug(m->log, "device %s: BAR %u: no peer-to-peer DMA: %s", d->device.id,
		          w->bar, err.text);
	else
		w->dma = gpa;
}

static void hide(struct vfio_pci *d, struct vfio_window *w)
{
	if (!w->shown)
		return;
	if (w->dma)
		vfio_space_unmap_device(d->space, w->dma, w->area.size);
	memory_unmap_device(d->device.machine->memory, w->slot);
	w->shown = false;
	w->dma = 0;
}

void vfio_bar_changed(struct pci_function *f, unsigned bar)
{
	struct vfio_pci *d = vfio_pci_of(f);

	for (unsigned i = 0; i < d->window_count; i++) {
		struct vfio_window *w = &d->windows[i];

		if (w->bar != bar)
			continue;
		hide(d, w);
		if (f->bars[bar].mapped && !d->concealed)
			show(d, w, f->bars[bar].address + w->area.offset);
	}
	if (d->kind && d->kind->bar_changed && bar < PCI_BARS)
		d->kind->bar_changed(d, bar);
}

/* ---- trapped accesses -------------------------------------------------------------------------
 */

static bool in_table(const struct vfio_pci *d, unsigned bar, uint64_t offset, unsigned size)
{
	const struct msix_layout *x = &d->msix_layout;

	return d->msix && bar == x->table_bar &&
	       inside(offset, size, x->table_offset, x->table_size);
}

static bool in_pba(const struct vfio_pci *d, unsigned bar, uint64_t offset, unsigned size)
{
	const struct msix_layout *x = &d->msix_layout;

	return d->msix && bar == x->pba_bar && inside(offset, size, x->pba_offset, x->pba_size);
}

/* Configuration space is read in doublewords at most. */
static uint64_t mirror_read(struct pci_function *f, unsigned config, unsigned size)
{
	if (size <= 4)
		return pci_config_read(f, config, size);
	return pci_config_read(f, config, 4) | (uint64_t)pci_config_read(f, config + 4, 4) << 32;
}

static void mirror_write(struct pci_function *f, unsigned config, unsigned size, uint64_t value)
{
	pci_config_write(f, config, MIN(size, 4u), (uint32_t)value);
	if (size > 4)
		pci_config_write(f, config + 4, 4, (uint32_t)(value >> 32));
}

uint64_t vfio_bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	struct vfio_pci *d = vfio_pci_of(f);
	uint64_t value = UINT64_MAX;
	unsigned config;

	if (bar == PCI_ROM)
		return vfio_rom_read(d, offset, size);
	if (in_table(d, bar, offset, size))
		return msix_table_read(d->msix, offset - d->msix_layout.table_offset, size);
	if (in_pba(d, bar, offset, size))
		return msix_pba_read(d->msix, offset - d->msix_layout.pba_offset, size);
	if (vfio_quirk_in_mirror(d, bar, offset, size, &config))
		return mirror_read(f, config, size);
	if (!vfio_pci_reachable(d))
		return UINT64_MAX;
	vfio_intx_before_access(d);
	if (vfio_region_read(&d->dev, bar, offset, &value, size) < 0)
		value = UINT64_MAX;
	vfio_intx_after_access(d);
	return value;
}

void vfio_bar_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value)
{
	struct vfio_pci *d = vfio_pci_of(f);
	unsigned config;
	int r;

	if (in_table(d, bar, offset, size)) {
		msix_table_write(d->msix, offset - d->msix_layout.table_offset, size, value);
		return;
	}
	if (bar == PCI_ROM || in_pba(d, bar, offset, size))
		return;
	if (vfio_quirk_in_mirror(d, bar, offset, size, &config)) {
		mirror_write(f, config, size, value);
		return;
	}
	if (!vfio_pci_reachable(d))
		return;
	vfio_intx_before_access(d);
	r = vfio_region_write(&d->dev, bar, offset, &value, size);
	vfio_intx_after_access(d);
	if (r < 0)
		log_debug(d->device.machine->log, "device %s: BAR %u: write at 0x%llx: %s",
		          d->device.id, bar, (unsigned long long)offset, strerror(-r));
}
