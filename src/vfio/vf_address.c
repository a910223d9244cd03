/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/vf_address.h"

#include "base/io.h"
#include "base/util.h"
#include "vfio/sysfs.h"

#include <dirent.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A physical function has 65535 at most (SR-IOV 1.1, 3.3.6); few have more than some hundreds. */
#define VFS_MAX 65535
#define ANSWER_MAX (1u << 20)
#define MAC_SIZE 6

/* ---- whose it is --------------------------------------------------------------------------- */

static bool find_number(const char *path, unsigned *vf)
{
	const char *name = strrchr(path, '/') + 1;
	char physfn[PATH_MAX + 8], link[24], target[64];

	snprintf(physfn, sizeof(physfn), "%s/physfn", path);
	for (unsigned i = 0; i < VFS_MAX; i++) {
		snprintf(link, sizeof(link), "virtfn%u", i);
		sysfs_link(physfn, link, target, sizeof(target));
		if (!target[0])
			return false;
		if (!strcmp(target, name)) {
			*vf = i;
			return true;
		}
	}
	return false;
}

bool vf_find(const char *path, unsigned *ifindex, unsigned *vf)
{
	char dir[PATH_MAX + 16], file[PATH_MAX + 300], line[24];
	struct dirent *entry;
	bool found = false;
	DIR *list;

	if (!strrchr(path, '/') || !find_number(path, vf))
		return false;
	snprintf(dir, sizeof(dir), "%s/physfn/net", path);
	list = opendir(dir);
	while (list && !found && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s/ifindex", dir, entry->d_name);
		found = io_read_line(file, line, sizeof(line), NULL) >= 0;
		*ifindex = found ? (unsigned)strtoul(line, NULL, 10) : 0;
	}
	if (list)
		closedir(list);
	return found && *ifindex;
}

/* ---- what the kernel says ------------------------------------------------------------------ */

/* The attribute of this type among `len` bytes; *size is that of what it holds. */
static const uint8_t *find_attribute(const uint8_t *at, size_t len, uint16_t type, size_t *size)
{
	struct nlattr a;

	while (len >= sizeof(a)) {
		memcpy(&a, at, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > len)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type) {
			*size = a.nla_len - sizeof(a);
			return at + sizeof(a);
		}
		at += MIN((size_t)NLA_ALIGN(a.nla_len), len);
		len -= MIN((size_t)NLA_ALIGN(a.nla_len), len);
	}
	return NULL;
}

/* Is this IFLA_VF_INFO the function's? Then its address. */
static bool take_info(const uint8_t *info, size_t len, unsigned vf, uint8_t mac[MAC_SIZE])
{
	static const uint8_t unset[MAC_SIZE];
	struct ifla_vf_mac answer;
	size_t size;
	const uint8_t *at = find_attribute(info, len, IFLA_VF_MAC, &size);

	if (!at || size < sizeof(answer))
		return false;
	memcpy(&answer, at, sizeof(answer));
	if (answer.vf != vf || !memcmp(answer.mac, unset, MAC_SIZE))
		return false;
	memcpy(mac, answer.mac, MAC_SIZE);
	return true;
}

bool vf_address_in(const void *answer, size_t len, unsigned vf, uint8_t mac[MAC_SIZE])
{
	const size_t skip = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct ifinfomsg));
	const uint8_t *list, *info;
	struct nlmsghdr h;
	size_t left, size;

	if (len < skip)
		return false;
	memcpy(&h, answer, sizeof(h));
	if (h.nlmsg_type != RTM_NEWLINK || h.nlmsg_len < skip || h.nlmsg_len > len)
		return false;
	list = find_attribute((const uint8_t *)answer + skip, h.nlmsg_len - skip, IFLA_VFINFO_LIST,
	                      &left);
	while (list && (info = find_attribute(list, left, IFLA_VF_INFO, &size))) {
		const size_t used = (size_t)(info - list) +
		                    MIN((size_t)NLA_ALIGN(size), left - (size_t)(info - list));

		if (take_info(info, size, vf, mac))
			return true;
		list += used;
		left -= used;
	}
	return false;
}

/* rtnetlink(7). RTEXT_FILTER_VF: with its virtual functions. */
static ssize_t ask(unsigned ifindex, uint8_t *answer, size_t size)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg link;
		struct nlattr mask;
		uint32_t filter;
	} question = {
		.h = { .nlmsg_len = sizeof(question),
		       .nlmsg_type = RTM_GETLINK,
		       .nlmsg_flags = NLM_F_REQUEST },
		.link.ifi_index = (int)ifindex,
		.mask = { .nla_len = sizeof(struct nlattr) + 4, .nla_type = IFLA_EXT_MASK },
		.filter = RTEXT_FILTER_VF,
	};
	autoclose int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || send(fd, &question, sizeof(question), 0) < 0)
		return -errno;
	/* The kernel has answered by the time send() returns. */
	return recv(fd, answer, size, MSG_DONTWAIT);
}

bool vf_address(const char *path, uint8_t mac[MAC_SIZE])
{
	unsigned ifindex, vf;
	autofree uint8_t *answer = NULL;
	ssize_t n;

	if (!vf_find(path, &ifindex, &vf))
		return false;
	answer = malloc(ANSWER_MAX);
	n = answer ? ask(ifindex, answer, ANSWER_MAX) : -1;
	return n > 0 && vf_address_in(answer, (size_t)n, vf, mac);
}
