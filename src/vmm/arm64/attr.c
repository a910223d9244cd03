/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of KVM's devices: of the interrupt controller, of a vCPU, of a VM.
 * Source: KVM API, 4.80 (KVM_SET_DEVICE_ATTR).
 */
#include "vmm/arm64/arm64.h"

#include "base/io.h"

static int attr_call(int fd, unsigned long request, uint32_t group, uint64_t attr,
                     const void *value)
{
	struct kvm_device_attr a = { .group = group, .attr = attr, .addr = (uintptr_t)value };

	return io_ioctl(fd, request, &a);
}

int attr_set(int fd, uint32_t group, uint64_t attr, const void *value)
{
	return attr_call(fd, KVM_SET_DEVICE_ATTR, group, attr, value);
}

int attr_get(int fd, uint32_t group, uint64_t attr, void *value)
{
	return attr_call(fd, KVM_GET_DEVICE_ATTR, group, attr, value);
}
