/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Ethernet address of a virtual function of SR-IOV. Its own driver asks
 * the physical function for it, and that one's driver tells the host, by
 * netlink (IFLA_VFINFO_LIST of RTM_GETLINK).
 */
#ifndef VFIO_VF_ADDRESS_H
#define VFIO_VF_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which function of which interface it is; false: it is no virtual function of a NIC, or the
 * physical one has no driver that has an interface. `path` is its folder in sysfs. */
bool vf_find(const char *path, unsigned *ifindex, unsigned *vf);
/* The address in the kernel's answer; false: there is none, or nobody has set it. */
bool vf_address_in(const void *answer, size_t len, unsigned vf, uint8_t mac[6]);
/* Both, with asking the kernel between them. */
bool vf_address(const char *path, uint8_t mac[6]);

#endif
