/* SPDX-License-Identifier: Apache-2.0 */
#include "control/peer.h"

#include "base/error.h"
#include "base/util.h"

#include <grp.h>
#include <sys/socket.h>

/* What getgrnam_r() needs for a group with very many members. */
#define GROUP_BUFFER (256 * 1024)
/* The most groups that a process can be in (NGROUPS_MAX). */
#define GROUPS_MAX 65536

static int find_group(const char *name, gid_t *out, struct gw_error *err)
{
	autofree char *buf = malloc(GROUP_BUFFER);
	struct group group, *found = NULL;
	char *end;
	unsigned long number = strtoul(name, &end, 10);
	int r;

	if (!buf)
		return error_set(err, -ENOMEM, "group %s: out of memory", name);
	r = getgrnam_r(name, &group, buf, GROUP_BUFFER, &found);
	if (found) {
		*out = group.gr_gid;
		return 0;
	}
	if (*name >= '0' && *name <= '9' && !*end && number < (gid_t)-1) {
		*out = (gid_t)number;
		return 0;
	}
	return r ? error_set_sys(err, -r, "group %s", name)
	         : error_set(err, -ENOENT, "there is no group \"%s\"", name);
}

int peer_rule_init(struct peer_rule *rule, const char *group, struct gw_error *err)
{
	*rule = (struct peer_rule){ .uid = geteuid(), .has_group = group };
	return group ? find_group(group, &rule->group, err) : 0;
}

/* unix(7), SO_PEERGROUPS: the supplementary groups that the peer had when it connected. */
static int has_group(int fd, gid_t group)
{
	autofree gid_t *groups = malloc(GROUPS_MAX * sizeof(*groups));
	socklen_t size = GROUPS_MAX * sizeof(*groups);

	if (!groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return -errno;
	for (size_t i = 0; i < size / sizeof(*groups); i++)
		if (groups[i] == group)
			return 0;
	return -EACCES;
}

int peer_check(const struct peer_rule *rule, int fd, enum peer_kind *kind)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	*kind = peer.uid == 0 || peer.uid == rule->uid ? PEER_OWNER : PEER_GROUP;
	if (*kind == PEER_OWNER)
		return 0;
	if (!rule->has_group)
		return -EACCES;
	return peer.gid == rule->group ? 0 : has_group(fd, rule->group);
}
