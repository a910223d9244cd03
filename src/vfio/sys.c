/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/sys.h"

#include "base/io.h"
#include "vmm/machine.h"

#include <fcntl.h>
#include <linux/kvm.h>

/* Linux 6.6 calls them KVM_DEV_VFIO_FILE, and takes a device's descriptor as well as a group's; the
 * numbers are the same. */
#define GROUP KVM_DEV_VFIO_GROUP
#define ADD KVM_DEV_VFIO_GROUP_ADD
#define DEL KVM_DEV_VFIO_GROUP_DEL

static int open_path(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const struct vfio_sys vfio_sys = { .open = open_path, .ioctl = io_ioctl };

int vfio_open_or_given(struct machine *m, const struct vfio_sys *sys, const char *name,
                       const char *path, bool *given)
{
	int fd = machine_fd(m, name);

	if (given)
		*given = fd != -ENOENT;
	return fd != -ENOENT ? fd : sys->open(path);
}

static int set_attr(struct machine *m, const struct vfio_sys *sys, uint64_t what, int fd)
{
	int32_t arg = fd;
	struct kvm_device_attr attr = { .group = GROUP, .attr = what, .addr = (uintptr_t)&arg };

	return sys->ioctl(m->vfio_kvm_fd, KVM_SET_DEVICE_ATTR, &attr);
}

int vfio_kvm_add(struct machine *m, const struct vfio_sys *sys, int fd, struct gw_error *err)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	int r;

	if (m->vfio_kvm_fd < 0) {
		r = sys->ioctl(m->vm_fd, KVM_CREATE_DEVICE, &device);
		if (r < 0)
			return error_set_sys(err, r, "KVM_CREATE_DEVICE (VFIO)");
		m->vfio_kvm_fd = (int)device.fd;
	}
	r = set_attr(m, sys, ADD, fd);
	return r < 0 ? error_set_sys(err, r, "KVM_SET_DEVICE_ATTR (KVM_DEV_VFIO_FILE_ADD)") : 0;
}

void vfio_kvm_remove(struct machine *m, const struct vfio_sys *sys, int fd)
{
	if (m->vfio_kvm_fd >= 0)
		set_attr(m, sys, DEL, fd);
}
