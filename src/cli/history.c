/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/history.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Makes the directories above `path`'s last part. */
static bool make_directories(const char *path)
{
	autofree char *copy = strdup(path);

	if (!copy)
		return false;
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return true;
}

char *history_path(void)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	autofree char *path = NULL;
	int fd, r = -1;

	if (state && *state == '/')
		r = asprintf(&path, "%s/godwit/ctl_history", state);
	else if (home && *home == '/')
		r = asprintf(&path, "%s/.local/state/godwit/ctl_history", home);
	if (r < 0) {
		path = NULL;
		return NULL;
	}
	if (!make_directories(path))
		return NULL;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return NULL;
	close(fd);
	return take_ptr(&path);
}
