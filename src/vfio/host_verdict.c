/* SPDX-License-Identifier: Apache-2.0 */
/* Can a device be passed through, can it move, and what would have to be done for it. */
#include "vfio/host_internal.h"

#include "base/util.h"
#include "vfio/dirty.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BASE_CLASS(class) ((class) >> 16 & 0xff)
#define BRIDGE 0x06

static void say(char *to, size_t size, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Puts it behind what is there, "; " between; where there is no room for all of it, nothing: half a
 * command is worse than none. */
static void say(char *to, size_t size, const char *format, ...)
{
	const size_t used = strlen(to);
	size_t at = used;
	va_list ap;
	int n;

	if (used)
		at += (size_t)snprintf(to + used, size - used, "; ");
	if (at >= size) {
		to[used] = 0;
		return;
	}
	va_start(ap, format);
	n = vsnprintf(to + at, size - at, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= size - at)
		to[used] = 0;
}

/* ---- passing it through ---------------------------------------------------------------------- */

/* Linux, Documentation/ABI/testing/sysfs-bus-pci: driver_override, drivers_probe. */
static void say_how_to_bind(const struct host_list *list, const struct host_device *d, char *mend,
                            size_t size)
{
	if (!list->has_vfio_pci && !mend[0])
		say(mend, size, "modprobe vfio-pci");
	say(mend, size, "echo vfio-pci >/sys/bus/pci/devices/%s/driver_override", d->name);
	if (d->driver[0])
		say(mend, size, "echo %s >/sys/bus/pci/devices/%s/driver/unbind", d->name, d->name);
	say(mend, size, "echo %s >/sys/bus/pci/drivers_probe", d->name);
}

static bool is_bridge(const struct host_device *d)
{
	return !d->mdev && BASE_CLASS(d->class) == BRIDGE;
}

static void judge_group(const struct host_list *list, const struct host_device *device,
                        struct host_verdict *out)
{
	for (unsigned i = 0; i < list->count; i++) {
		const struct host_device *d = &list->devices[i];

		if (d == device || d->group != device->group || d->may_stay)
			continue;
		say(out->not_passable, sizeof(out->not_passable),
		    "%s, in the same IOMMU group, is driven by %s", d->name, d->driver);
		say_how_to_bind(list, d, out->mend, sizeof(out->mend));
	}
}

static void judge_passing(const struct host_list *list, const struct host_device *d,
                          struct host_verdict *out)
{
	char *why = out->not_passable;
	const size_t size = sizeof(out->not_passable);

	if (is_bridge(d)) {
		say(why, size, "a bridge stays with the host");
		return;
	}
	if (d->group < 0 && list->has_iommu) {
		say(why, size, "no IOMMU stands before it");
		return;
	}
	if (d->group < 0) {
		say(why, size, "the host's IOMMU is off");
		say(out->mend, sizeof(out->mend),
		    "# boot the host with intel_iommu=on (Intel), or turn the IOMMU on in the "
		    "firmware's setup (AMD)");
		return;
	}
	if (!d->mdev && !d->driver[0])
		say(why, size, "it has no driver");
	else if (!d->vfio)
		say(why, size, "it is driven by %s", d->driver);
	if (why[0])
		say_how_to_bind(list, d, out->mend, sizeof(out->mend));
	judge_group(list, d, out);
	if (!why[0] && d->asked == -EBUSY)
		say(why, size, "in use: somebody has its IOMMU group open");
}

/* ---- moving it ----------------------------------------------------------------------------------
 */

static void judge_moving(const struct host_device *d, struct host_verdict *out)
{
	char *why = out->not_movable;
	const size_t size = sizeof(out->not_movable);

	if (is_bridge(d) || d->group < 0)
		say(why, size, "it cannot be passed through");
	else if (d->asked == -EOPNOTSUPP)
		say(why, size, "what it offers can be asked once it is bound to a vfio driver");
	else if (d->asked == -EBUSY)
		say(why, size, "what it offers cannot be asked while it is in use");
	else if (d->asked < 0)
		say(why, size, "what it offers cannot be asked: %s", strerror(-d->asked));
	else if (!(d->features.flags & VFIO_MIGRATION_STOP_COPY))
		say(why, size, "its driver (%s) offers no migration", d->driver);
	else if (vfio_dirty_by(d->features.dma_logging, d->mdev || d->features.iommu_tracks) ==
	         VFIO_DIRTY_BY_NOBODY)
		say(why, size,
		    "nobody tells which memory it writes to: it can be saved, and be moved with "
		    "\"dirty-tracking\": \"none-ok\"");
}

void host_judge(const struct host_list *list, const struct host_device *device,
                struct host_verdict *out)
{
	*out = (struct host_verdict){ 0 };
	judge_passing(list, device, out);
	judge_moving(device, out);
	out->passable = !out->not_passable[0];
	out->movable = !out->not_movable[0];
}
