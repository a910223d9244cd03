/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/type1_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- containers --------------------------------------------------------------------------- */

static int check_container(struct vfio_container *c, struct gw_error *err)
{
	int r = c->sys->ioctl(c->fd, VFIO_GET_API_VERSION, NULL);

	if (r < 0)
		return error_set_sys(err, r, TYPE1_PATH ": VFIO_GET_API_VERSION");
	if (r != VFIO_API_VERSION)
		return error_set(err, -ENOTSUP, TYPE1_PATH ": API version %d", r);
	if (c->sys->ioctl(c->fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0)
		return error_set(err, -ENOTSUP,
		                 TYPE1_PATH
		                 ": no type1v2 (is the module vfio_iommu_type1 loaded?)");
	return 0;
}

static unsigned count_containers(const struct machine *m)
{
	unsigned n = 0;

	for (const struct vfio_space *s = m->vfio; s; s = s->next)
		n += s->ops == &type1_space_ops;
	return n;
}

/* The machine's nth. An embedder gives the first as "vfio", the others as "vfio:2" and so on. */
static int container_create(struct machine *m, const struct vfio_sys *sys,
                            struct vfio_container **out, struct gw_error *err)
{
	const unsigned n = count_containers(m) + 1;
	struct vfio_container *c = calloc(1, sizeof(*c));
	char name[24];
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	snprintf(name, sizeof(name), n > 1 ? "vfio:%u" : "vfio", n);
	vfio_space_init(&c->space, &type1_space_ops, m);
	c->sys = sys;
	c->fd = vfio_open_or_given(m, sys, name, TYPE1_PATH, &c->given);
	if (c->fd < 0)
		r = error_set_sys(err, c->fd, TYPE1_PATH " (is the module vfio loaded?)");
	else
		r = check_container(c, err);
	if (r < 0) {
		vfio_space_put(&c->space);
		return r;
	}
	*out = c;
	return 0;
}

/* The IOMMU's type can be set once the container has a group. */
static int set_iommu(struct vfio_container *c, struct gw_error *err)
{
	int r = 0;

	if (!c->iommu_set)
		r = c->sys->ioctl(c->fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
	if (r < 0)
		return error_set_sys(err, r, TYPE1_PATH ": VFIO_SET_IOMMU (type1v2)");
	c->iommu_set = true;
	r = type1_read_info(c, err);
	return r ? r : vfio_space_attach(&c->space, err);
}

/* As soon as one group is behind an IOMMU, all of it counts as written every time (Linux,
 * vfio_iommu_type1: pinned_page_dirty_scope). */
static void judge_tracking(struct vfio_container *c)
{
	bool tracks = c->has_bitmap;

	for (const struct vfio_group *group = c->groups; group; group = group->next)
		tracks = tracks && group->pins;
	c->space.tracks_dirty = tracks;
}

/* ---- a group joins one ---------------------------------------------------------------------- */

static void leave_container(struct vfio_group *group)
{
	struct vfio_container *c = group->container;

	for (struct vfio_group **pp = &c->groups; *pp; pp = &(*pp)->next) {
		if (*pp == group) {
			*pp = group->next;
			break;
		}
	}
	judge_tracking(c);
	/* The last group takes the mappings with it: the container goes too. */
	c->sys->ioctl(group->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
	group->container = NULL;
	vfio_space_put(&c->space);
}

/* 1: the kernel does not want the group in this container, another may do. */
static int join_container(struct vfio_group *group, struct vfio_container *c, struct gw_error *err)
{
	int r = c->sys->ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &c->fd);

	if (r < 0) {
		error_set_sys(err, r, "/dev/vfio/%u: VFIO_GROUP_SET_CONTAINER", group->number);
		return 1;
	}
	vfio_space_get(&c->space);
	group->container = c;
	group->next = c->groups;
	c->groups = group;
	r = set_iommu(c, err);
	judge_tracking(c);
	if (r < 0)
		leave_container(group);
	return r;
}

static bool suits(const struct vfio_container *c, const struct vfio_group *group)
{
	return c->given || !c->groups || c->groups->pins == group->pins;
}

static int find_container(struct vfio_group *group, struct machine *m, const struct vfio_sys *sys,
                          struct gw_error *err)
{
	struct vfio_container *c = NULL;
	int r = 1;

	for (struct vfio_space *s = m->vfio; s && r > 0; s = s->next)
		if (s->ops == &type1_space_ops && suits(type1_of(s), group))
			r = join_container(group, type1_of(s), err);
	if (r <= 0)
		return r;
	r = container_create(m, sys, &c, err);
	if (r < 0)
		return r;
	r = join_container(group, c, err);
	vfio_space_put(&c->space);
	return r > 0 ? err->code : r;
}

/* ---- groups --------------------------------------------------------------------------------- */

static int check_viable(const struct vfio_group *group, const struct vfio_sys *sys,
                        struct gw_error *err)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int r = sys->ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status);

	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/%u: VFIO_GROUP_GET_STATUS", group->number);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return error_set(err, -EBUSY,
		                 "/dev/vfio/%u: not all devices of the IOMMU group are bound to "
		                 "vfio-pci",
		                 group->number);
	return 0;
}

static int open_group(struct vfio_group *group, struct machine *m, const struct vfio_sys *sys,
                      struct gw_error *err)
{
	struct gw_error own;
	char path[32], name[32];
	int r;

	snprintf(path, sizeof(path), "/dev/vfio/%u", group->number);
	snprintf(name, sizeof(name), "vfio-group:%u", group->number);
	group->fd = vfio_open_or_given(m, sys, name, path, NULL);
	if (group->fd < 0)
		return error_set_sys(err, group->fd, "%s", path);
	r = check_viable(group, sys, err);
	if (r < 0)
		return r;
	r = find_container(group, m, sys, &own);
	if (!r) {
		r = vfio_kvm_add(m, sys, group->fd, &own);
		if (r < 0) {
			error_context(&own, "%s", path);
			leave_container(group);
		}
	}
	if (r < 0 && err)
		*err = own;
	return r;
}

static struct vfio_group *find_group(const struct machine *m, unsigned number)
{
	for (struct vfio_space *s = m->vfio; s; s = s->next) {
		if (s->ops != &type1_space_ops)
			continue;
		for (struct vfio_group *g = type1_of(s)->groups; g; g = g->next)
			if (g->number == number)
				return g;
	}
	return NULL;
}

int vfio_group_fd(const struct machine *m, unsigned number)
{
	const struct vfio_group *group = find_group(m, number);

	return group ? group->fd : -1;
}

int vfio_group_get(struct machine *m, const struct vfio_sys *sys, const struct sysfs_device *device,
                   struct vfio_group **out, struct gw_error *err)
{
	struct vfio_group *group = find_group(m, device->group);
	int r;

	if (group) {
		group->users++;
		*out = group;
		return 0;
	}
	group = calloc(1, sizeof(*group));
	if (!group)
		return error_set(err, -ENOMEM, "out of memory");
	group->number = device->group;
	group->pins = device->mdev;
	group->users = 1;
	r = open_group(group, m, sys, err);
	if (r < 0) {
		if (group->fd >= 0)
			close(group->fd);
		free(group);
		return r;
	}
	*out = group;
	return 0;
}

void vfio_group_put(struct vfio_group *group)
{
	if (!group || --group->users)
		return;
	vfio_kvm_remove(group->container->space.machine, group->container->sys, group->fd);
	leave_container(group);
	close(group->fd);
	free(group);
}

int vfio_group_open_device(struct vfio_group *group, const char *name, int *fd,
                           struct gw_error *err)
{
	int r = group->container->sys->ioctl(group->fd, VFIO_GROUP_GET_DEVICE_FD,
	                                     (void *)(uintptr_t)name);

	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/%u: VFIO_GROUP_GET_DEVICE_FD (%s)",
		                     group->number, name);
	*fd = r;
	return 0;
}

struct vfio_space *vfio_group_space(struct vfio_group *group)
{
	return &group->container->space;
}
