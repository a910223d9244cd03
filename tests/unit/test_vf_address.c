/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual function's address: which function it is, and what the kernel's answer says. */
#include "vfio/vf_address.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- sysfs --------------------------------------------------------------------------------- */

static char root[64];

static void make_dir(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	cr_assert_eq(mkdir(path, 0700), 0, "%s", path);
}

static void make_link(const char *name, const char *target)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	cr_assert_eq(symlink(target, path), 0, "%s", path);
}

static void make_ifindex(const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "w");
	cr_assert(f && fputs(text, f) >= 0 && !fclose(f), "%s", path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool find(const char *name, unsigned *ifindex, unsigned *vf)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return vf_find(path, ifindex, vf);
}

Test(vf_address, its_function_is_found_by_links)
{
	unsigned ifindex, vf;

	strcpy(root, "/tmp/godwit-vf-XXXXXX");
	cr_assert(mkdtemp(root));
	make_dir("0000:01:00.0");
	make_dir("0000:01:10.0");
	make_dir("0000:01:10.2");
	make_link("0000:01:00.0/virtfn0", "../0000:01:10.0");
	make_link("0000:01:00.0/virtfn1", "../0000:01:10.2");
	make_link("0000:01:10.2/physfn", "../0000:01:00.0");
	cr_assert_not(find("0000:01:10.2", &ifindex, &vf), "the host has no interface of it");
	make_dir("0000:01:00.0/net");
	make_dir("0000:01:00.0/net/eth7");
	make_ifindex("0000:01:00.0/net/eth7/ifindex", "17\n");
	cr_assert(find("0000:01:10.2", &ifindex, &vf));
	cr_assert_eq(ifindex, 17);
	cr_assert_eq(vf, 1);
	cr_assert_not(find("0000:01:00.0", &ifindex, &vf), "it is no virtual function");
	cr_assert_not(find("0000:01:10.0", &ifindex, &vf), "it has no physfn");
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- netlink ------------------------------------------------------------------------------- */

/* An answer as it is put together; attributes nest by their starts. */
struct answer {
	uint8_t data[1024];
	size_t len;
};

static size_t begin(struct answer *a, uint16_t type)
{
	const struct nlattr attribute = { .nla_type = type };

	memcpy(a->data + a->len, &attribute, sizeof(attribute));
	a->len += sizeof(attribute);
	return a->len - sizeof(attribute);
}

static void end(struct answer *a, size_t start)
{
	const uint16_t len = (uint16_t)(a->len - start);

	memcpy(a->data + start, &len, sizeof(len));
	a->len = NLA_ALIGN(a->len);
}

static void put(struct answer *a, uint16_t type, const void *data, size_t len)
{
	const size_t start = begin(a, type);

	memcpy(a->data + a->len, data, len);
	a->len += len;
	end(a, start);
}

static void put_vf(struct answer *a, uint32_t vf, const uint8_t *mac)
{
	const size_t start = begin(a, IFLA_VF_INFO);
	struct ifla_vf_mac entry = { .vf = vf };

	memcpy(entry.mac, mac, 6);
	/* Others may come first, of any length. */
	put(a, IFLA_VF_BROADCAST, "\xff\xff\xff\xff\xff\xff", 6);
	put(a, IFLA_VF_MAC, &entry, sizeof(entry));
	end(a, start);
}

static void finish(struct answer *a)
{
	const struct nlmsghdr h = { .nlmsg_len = (uint32_t)a->len, .nlmsg_type = RTM_NEWLINK };

	memcpy(a->data, &h, sizeof(h));
}

static const uint8_t first[6] = { 2, 0, 0, 0, 0, 1 }, second[6] = { 2, 0, 0, 0, 0, 2 }, none[6];

static struct answer whole(void)
{
	struct answer a = { .len = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct ifinfomsg)) };
	size_t list;

	put(&a, IFLA_IFNAME, "eth7", 5);
	list = begin(&a, IFLA_VFINFO_LIST);
	put_vf(&a, 0, first);
	put_vf(&a, 1, second);
	put_vf(&a, 2, none);
	end(&a, list);
	finish(&a);
	return a;
}

Test(vf_address, is_read_from_the_answer)
{
	struct answer a = whole();
	uint8_t mac[6];

	cr_assert(vf_address_in(a.data, a.len, 0, mac));
	cr_assert_eq(memcmp(mac, first, 6), 0);
	cr_assert(vf_address_in(a.data, a.len, 1, mac));
	cr_assert_eq(memcmp(mac, second, 6), 0);
	cr_assert_not(vf_address_in(a.data, a.len, 2, mac), "nobody has set it");
	cr_assert_not(vf_address_in(a.data, a.len, 3, mac), "there is none");
}

/* Cut short anywhere, or with lengths that lie, it is no answer, and nothing is read beyond it. */
Test(vf_address, broken_answers_say_nothing_wrong)
{
	const struct answer good = whole();
	uint8_t mac[6];

	for (size_t len = 0; len < good.len; len++) {
		uint8_t *copy = malloc(len + 1);

		memcpy(copy, good.data, len);
		cr_assert_not(vf_address_in(copy, len, 1, mac), "%zu", len);
		free(copy);
	}
	for (size_t at = 0; at < good.len; at++) {
		uint8_t *copy = malloc(good.len);

		memcpy(copy, good.data, good.len);
		copy[at] = (uint8_t)~copy[at];
		if (vf_address_in(copy, good.len, 1, mac) && memcmp(mac, second, 5))
			cr_assert(at >= good.len / 2, "byte %zu makes another address", at);
		free(copy);
	}
}
