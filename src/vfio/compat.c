/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/compat.h"

#include "base/util.h"
#include "vfio/vfio_pci.h"

#include <linux/pci_regs.h>
#include <string.h>

enum how { EQUAL, COVERED };

static uint64_t protocol(const struct vfio_pci *d, unsigned n)
{
	(void)n;
	return d->state ? (uint64_t)(d->state->ops->protocol[1] - '0') : 0;
}

/* At the source: what the data have in them that not every device can take. At the destination:
 * what this one can. P2P is no matter of the data. */
static uint64_t features(const struct vfio_pci *d, unsigned n)
{
	(void)n;
	if (!d->state || (!d->loading.under_way && !d->saving.live))
		return 0;
	return d->state->features & VFIO_STATE_PRE_COPY;
}

static uint64_t bar(const struct vfio_pci *d, unsigned n)
{
	const struct pci_bar *b = &d->function.bars[n];

	return b->size | (uint64_t)(b->is_io | b->is_64 << 1 | b->prefetch << 2);
}

static uint64_t vectors(const struct vfio_pci *d, unsigned msix)
{
	if (msix)
		return d->msix ? d->msix_layout.vectors : 0;
	return d->msi ? d->msi_layout.vectors : 0;
}

/* By number, which is what the stream has. Those with a name may be ignored; what our own state
 * is built on (BARs, interrupts, capabilities) may not. */
static const struct property {
	uint16_t id;
	const char *what, *name;
	enum how how;
	uint8_t offset, size; /* in configuration space, size 0: */
	uint64_t (*get)(const struct vfio_pci *d, unsigned n);
	unsigned n;
} properties[] = {
	{ 1, "vendor", NULL, EQUAL, PCI_VENDOR_ID, 2, NULL, 0 },
	{ 2, "device", "device", EQUAL, PCI_DEVICE_ID, 2, NULL, 0 },
	{ 3, "subsystem", "subsystem", EQUAL, PCI_SUBSYSTEM_VENDOR_ID, 4, NULL, 0 },
	{ 4, "class", "class", EQUAL, PCI_CLASS_DEVICE, 2, NULL, 0 },
	{ 5, "programming interface", "class", EQUAL, PCI_CLASS_PROG, 1, NULL, 0 },
	{ 6, "revision", "revision", EQUAL, PCI_REVISION_ID, 1, NULL, 0 },
	{ 7, "interrupt pin", NULL, EQUAL, PCI_INTERRUPT_PIN, 1, NULL, 0 },
	{ 8, "state protocol", NULL, EQUAL, 0, 0, protocol, 0 },
	{ 9, "copying while it runs", "features", COVERED, 0, 0, features, 0 },
	{ 10, "MSI vectors", NULL, EQUAL, 0, 0, vectors, 0 },
	{ 11, "MSI-X vectors", NULL, EQUAL, 0, 0, vectors, 1 },
	{ 16, "BAR 0", NULL, EQUAL, 0, 0, bar, 0 },
	{ 17, "BAR 1", NULL, EQUAL, 0, 0, bar, 1 },
	{ 18, "BAR 2", NULL, EQUAL, 0, 0, bar, 2 },
	{ 19, "BAR 3", NULL, EQUAL, 0, 0, bar, 3 },
	{ 20, "BAR 4", NULL, EQUAL, 0, 0, bar, 4 },
	{ 21, "BAR 5", NULL, EQUAL, 0, 0, bar, 5 },
};
#define CAPABILITY 32 /* each that the guest sees: offset << 16 | id */

static uint64_t value_of(const struct vfio_pci *d, const struct property *p)
{
	return p->size ? pci_get(d->function.initial, p->offset, p->size) : p->get(d, p->n);
}

/* ---- names ---- */

static uint32_t set_of(const char *name, size_t len)
{
	uint32_t set = 0;

	for (size_t i = 0; i < ARRAY_SIZE(properties); i++)
		if (properties[i].name && strlen(properties[i].name) == len &&
		    !memcmp(properties[i].name, name, len))
			set |= 1u << i;
	return set;
}

int vfio_compat_parse(const char *names, uint32_t *out, struct gw_error *err)
{
	*out = 0;
	while (*names) {
		size_t len = strcspn(names, ",");
		uint32_t set = set_of(names, len);

		if (!set)
			return error_set(err, -EINVAL,
			                 "\"%.*s\" cannot be ignored; device, subsystem, class, "
			                 "revision and features can",
			                 (int)MIN(len, 64ul), names);
		*out |= set;
		names += len;
		if (*names == ',' && !*++names)
			return error_set(err, -EINVAL, "a name is missing at the end");
	}
	return 0;
}

int vfio_compat_check(const char *names, struct gw_error *err)
{
	uint32_t set;

	return vfio_compat_parse(names, &set, err);
}

/* ---- capabilities ---- */

/* The next that the guest sees after `at` (0: the first); false at the end. Bounded by the room
 * that there is, since the lists are a device's. */
struct capabilities {
	unsigned at, left;
	bool extended;
};

static bool next_capability(const uint8_t *c, struct capabilities *it, uint64_t *value)
{
	if (!it->extended) {
		it->at = it->at ? c[it->at + 1] & ~3u
		         : pci_get(c, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST
		                 ? c[PCI_CAPABILITY_LIST] & ~3u
		                 : 0;
		if (it->at >= PCI_STD_HEADER_SIZEOF && it->left) {
			it->left--;
			*value = it->at << 16 | c[it->at];
			return true;
		}
		it->extended = true;
		it->at = PCI_CFG_SPACE_SIZE;
	} else {
		it->at = pci_get(c, it->at, 4) >> 20 & 0xffc;
	}
	if (it->at < PCI_CFG_SPACE_SIZE || !it->left || !pci_get(c, it->at, 4))
		return false;
	it->left--;
	*value = it->at << 16 | pci_get(c, it->at, 2);
	return true;
}

#define ALL_CAPABILITIES                                                                           \
	{                                                                                          \
		.left = PCI_CONFIG_SIZE / 4                                                        \
	}

/* ---- writing and checking
 * ------------------------------------------------------------------------ */

static void put(struct bytes *out, uint16_t id, uint64_t value)
{
	bytes_put16(out, id);
	bytes_put64(out, value);
}

void vfio_identity_write(const struct vfio_pci *d, struct bytes *out)
{
	struct capabilities it = ALL_CAPABILITIES;
	uint64_t value;

	for (size_t i = 0; i < ARRAY_SIZE(properties); i++)
		put(out, properties[i].id, value_of(d, &properties[i]));
	while (next_capability(d->function.initial, &it, &value))
		put(out, CAPABILITY, value);
}

static int compare(const struct vfio_pci *d, size_t i, uint64_t there, struct gw_error *err)
{
	const struct property *p = &properties[i];
	const uint64_t here = value_of(d, p);
	int r;

	if ((p->how == EQUAL ? there == here : !(there & ~here)) || d->compat_ignored & 1u << i)
		return 0;
	if (p->how == COVERED)
		r = error_set(err, -EXDEV, "not compatible: its data need %s, which %s cannot",
		              p->what, d->dev.name);
	else
		r = error_set(err, -EXDEV,
		              "not compatible: %s is 0x%llx there and 0x%llx here (%s)", p->what,
		              (unsigned long long)there, (unsigned long long)here, d->dev.name);
	if (p->name)
		error_append(err, "compat.ignore=%s lets it pass", p->name);
	return r;
}

static int compare_capability(const struct vfio_pci *d, struct capabilities *it, uint64_t there,
                              struct gw_error *err)
{
	uint64_t here = 0;

	if (next_capability(d->function.initial, it, &here) && here == there)
		return 0;
	return error_set(err, -EXDEV,
	                 "not compatible: capability 0x%x at 0x%x there, 0x%x at 0x%x here (%s)",
	                 (unsigned)(there & 0xffff), (unsigned)(there >> 16 & 0xffff),
	                 (unsigned)(here & 0xffff), (unsigned)(here >> 16), d->dev.name);
}

static int compare_any(const struct vfio_pci *d, uint16_t id, uint64_t value,
                       struct capabilities *it, uint32_t *seen, struct gw_error *err)
{
	if (id == CAPABILITY)
		return compare_capability(d, it, value, err);
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
		if (properties[i].id != id)
			continue;
		if (*seen & 1u << i)
			break;
		*seen |= 1u << i;
		return compare(d, i, value, err);
	}
	return error_set(err, -EINVAL, "identity: property %u, which is not known or there twice",
	                 id);
}

int vfio_identity_check(const struct vfio_pci *d, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct capabilities it = ALL_CAPABILITIES;
	uint64_t more;
	uint32_t seen = 0;

	while (in.len && !in.failed) {
		uint16_t id = bytes_take16(&in);
		uint64_t value = bytes_take64(&in);
		int r = in.failed ? 0 : compare_any(d, id, value, &it, &seen, err);

		if (r < 0)
			return r;
	}
	if (in.failed || seen != (1ull << ARRAY_SIZE(properties)) - 1)
		return error_set(err, -EINVAL, "identity of %zu bytes is incomplete", len);
	if (next_capability(d->function.initial, &it, &more))
		return error_set(err, -EXDEV,
		                 "not compatible: capability 0x%x at 0x%x here, none there (%s)",
		                 (unsigned)(more & 0xffff), (unsigned)(more >> 16), d->dev.name);
	return 0;
}

void vfio_compat_adopt(struct vfio_pci *d, const uint8_t *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
		const struct property *p = &properties[i];

		if (!(d->compat_ignored & 1u << i) || !p->size)
			continue;
		memcpy(d->function.initial + p->offset, config + p->offset, p->size);
		memcpy(d->function.config + p->offset, config + p->offset, p->size);
	}
}
