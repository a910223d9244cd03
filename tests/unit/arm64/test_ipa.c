/* SPDX-License-Identifier: Apache-2.0 */
/* How many bits a guest's addresses take, and hosts that have too few. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "vmm/arm64/arm64.h"

#include <errno.h>
#include <string.h>

/* RAM ends at 512 GiB and what is beyond 255 GiB: 1 TiB at 1281 GiB, 41 bits, say. */
static const struct {
	int host; /* KVM_CAP_ARM_VM_IPA_SIZE; 0 and less: a KVM that does not know of it */
	uint64_t ram;
	int64_t type;
} machines[] = {
	{ 40, 2 * MIB, 40 },
	{ 40, 255 * GIB, 40 },
	{ 40, 767 * GIB, 40 },
	{ 40, 767 * GIB + 2 * MIB, -ENOTSUP },
	{ 41, 767 * GIB + 2 * MIB, 41 },
	{ 44, 4096 * GIB, 43 },
	{ 42, 4096 * GIB, -ENOTSUP },
	{ 52, 2 * MIB, 40 },
	/* A host with less than the architecture's usual 40: enough for the PCI windows, or not. */
	{ 39, 255 * GIB, 39 },
	{ 39, 256 * GIB, -ENOTSUP },
	{ 36, 2 * MIB, -ENOTSUP },
	{ 32, 2 * MIB, -ENOTSUP },
	/* KVM API, 4.2: type 0 has 40 bits, which every KVM before this capability had. */
	{ 0, 2 * MIB, 0 },
	{ -EINVAL, 767 * GIB, 0 },
	{ 0, 768 * GIB, -ENOTSUP },
};

Test(ipa, as_many_bits_as_the_machine_takes)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		struct gw_error err = { 0 };

		cr_assert_eq(arm64_vm_type(machines[i].host, machines[i].ram, &err),
		             machines[i].type, "host %d, %llu MiB: %s", machines[i].host,
		             (unsigned long long)(machines[i].ram / MIB), err.text);
	}
}

/* A destination's host says this before anything has moved. */
Test(ipa, a_host_with_too_few_is_told_what_takes_them)
{
	struct gw_error err = { 0 };

	cr_assert_lt(arm64_vm_type(40, 1024 * GIB, &err), 0);
	cr_assert_str_eq(err.text, "memory: 1048576 MiB of RAM and its PCI windows take 41 bits of "
	                           "guest-physical address, and this host's KVM has 40 "
	                           "(KVM_CAP_ARM_VM_IPA_SIZE)");
	cr_assert_lt(arm64_vm_type(36, 64 * MIB, &err), 0);
	cr_assert(strstr(err.text, "take 39 bits") && strstr(err.text, "KVM has 36"), "%s",
	          err.text);
}
