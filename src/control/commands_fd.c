/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about descriptors that clients hand over, and the dump, which goes to one. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <string.h>

static int need_fd(const struct call *call, const char *what, struct gw_error *err)
{
	if (call->fd >= 0)
		return 0;
	return error_set(err, -EBADF, "%s: no descriptor was sent with it (SCM_RIGHTS)", what);
}

int command_getfd(struct call *call, struct gw_error *err)
{
	int r = need_fd(call, "getfd", err);

	if (!r &&
	    (r = fds_name(&call->hub->fds, args_string(call->args, "fdname"), call->fd, err)) < 0)
		r = error_context(err, "getfd");
	if (!r)
		call->fd = -1;
	return r;
}

int command_closefd(struct call *call, struct gw_error *err)
{
	int r = fds_drop(&call->hub->fds, args_string(call->args, "fdname"), err);

	return r < 0 ? error_context(err, "closefd") : 0;
}

int command_add_fd(struct call *call, struct gw_error *err)
{
	const cJSON *given = args_get(call->args, "fdset-id");
	int64_t set = given ? (int64_t)args_uint(call->args, "fdset-id", 0) : -1;
	const int fd = call->fd;
	int r = need_fd(call, "add-fd", err);

	if (!r &&
	    (r = fds_add(&call->hub->fds, &set, fd, args_string(call->args, "opaque"), err)) < 0)
		r = error_context(err, "add-fd");
	if (r < 0)
		return r;
	call->fd = -1;
	call->ret = cJSON_CreateObject();
	if (!cJSON_AddNumberToObject(call->ret, "fdset-id", (double)set) ||
	    !cJSON_AddNumberToObject(call->ret, "fd", fd))
		return error_set(err, -ENOMEM, "add-fd: out of memory");
	return 0;
}

int command_remove_fd(struct call *call, struct gw_error *err)
{
	const int64_t fd =
	        args_get(call->args, "fd") ? (int64_t)args_uint(call->args, "fd", 0) : -1;
	int r = fds_remove(&call->hub->fds, (int64_t)args_uint(call->args, "fdset-id", 0), fd, err);

	return r < 0 ? error_context(err, "remove-fd") : 0;
}

int command_query_fdsets(struct call *call, struct gw_error *err)
{
	call->ret = fds_describe(&call->hub->fds);
	return call->ret ? 0 : error_set(err, -ENOMEM, "query-fdsets: out of memory");
}

/* ---- the dump ------------------------------------------------------------------------------- */

/* What "file:PATH" or "fd:NAME" means. *path is set if a file was made. */
static int open_protocol(struct call *call, const char *protocol, const char **path,
                         struct gw_error *err)
{
	int fd;

	*path = NULL;
	if (!strncmp(protocol, "fd:", 3))
		return fds_take(&call->hub->fds, protocol + 3, err);
	if (strncmp(protocol, "file:", 5) != 0)
		return error_set(err, -EINVAL, "protocol must be file:PATH or fd:NAME");
	/* Guest memory is nobody else's to read. */
	fd = open(protocol + 5, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set_sys(err, -errno, "%s", protocol + 5);
	*path = protocol + 5;
	return fd;
}

int command_dump(struct call *call, struct gw_error *err)
{
	const char *format = args_string(call->args, "format");
	const char *path;
	int r;

	if (args_bool(call->args, "paging", false))
		r = error_set(err, -EINVAL,
		              "paging can be false only: the core has physical addresses");
	else if (format && strcmp(format, "elf") != 0)
		r = error_set(err, -EINVAL, "format can be \"elf\" only");
	else
		r = open_protocol(call, args_string(call->args, "protocol"), &path, err);
	if (r >= 0)
		r = dumper_start(&call->hub->dumper, r, path,
		                 args_bool(call->args, "detach", false), err);
	return r < 0 ? error_context(err, "dump-guest-memory") : 0;
}

int command_query_dump(struct call *call, struct gw_error *err)
{
	call->ret = dumper_describe(&call->hub->dumper);
	return call->ret ? 0 : error_set(err, -ENOMEM, "query-dump: out of memory");
}
