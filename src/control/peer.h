/* SPDX-License-Identifier: Apache-2.0 */
/* Who may speak on a UNIX socket, whatever its mode: the user we run as, root, and the members of
 * one group if one is named. */
#ifndef CONTROL_PEER_H
#define CONTROL_PEER_H

#include "control/places.h"
#include "godwit.h"

#include <sys/types.h>

struct peer_rule {
	uid_t uid;
	bool has_group;
	gid_t group;
};

/* `group` is a name or a number, NULL: none. -ENOENT: there is no such group. */
int peer_rule_init(struct peer_rule *rule, const char *group, struct gw_error *err);

/* 0: the process that has connected may, and *kind is what it is. -EACCES, or what the kernel
 * refuses. */
int peer_check(const struct peer_rule *rule, int fd, enum peer_kind *kind);

#endif
