/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_option.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* sd_listen_fds(3): descriptors that the service manager hands over begin here. */
#define LISTEN_FDS_START 3
/* The name (FileDescriptorName= of the socket unit) that tells ours from others. */
#define LISTEN_NAME "control"

static const char tls_prefix[] = "tls:";

static bool is_tls(const char *where)
{
	return !strncmp(where, tls_prefix, sizeof(tls_prefix) - 1);
}

static bool is_systemd(const char *where)
{
	return !strcmp(where, "systemd");
}

int control_option(const char *name, const char *value, struct control_choice *choice,
                   struct gw_error *err)
{
	const struct {
		const char *name;
		const char **value;
	} options[] = {
		{ "control", &choice->where },
		{ "control-group", &choice->group },
		{ "tls-dir", &choice->tls_dir },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(options[i].name, name) != 0)
			continue;
		if (*options[i].value)
			return error_set(err, -EINVAL, "--%s is given twice", name);
		*options[i].value = value;
		return 0;
	}
	return error_set(err, -ENOENT, "--%s: no such option", name);
}

int control_choice_check(const struct control_choice *choice, struct gw_error *err)
{
	const char *where = choice->where;

	if (!where && (choice->group || choice->tls_dir))
		return error_set(err, -EINVAL, "--%s: needs --control",
		                 choice->group ? "control-group" : "tls-dir");
	if (!where)
		return 0;
	if (!*where)
		return error_set(err, -EINVAL, "--control: an empty path");
	if (!strncmp(where, "tcp:", 4))
		return error_set(err, -EINVAL,
		                 "--control %s: TCP is served with TLS only; say tls:HOST:PORT",
		                 where);
	if (is_tls(where) && !choice->tls_dir)
		return error_set(err, -EINVAL, "--control %s: needs --tls-dir", where);
	if (is_tls(where) && choice->group)
		return error_set(err, -EINVAL,
		                 "--control-group: with TLS, certificates say who may come");
	if (!is_tls(where) && !is_systemd(where) && choice->tls_dir)
		return error_set(err, -EINVAL, "--tls-dir: a UNIX socket has no use for it");
	return 0;
}

/* ---- a socket from the service manager ---------------------------------------------------------
 */

static long number_from(const char *variable)
{
	const char *text = getenv(variable);
	char *end;
	long n;

	if (!text)
		return -1;
	n = strtol(text, &end, 10);
	return end == text || *end ? -1 : n;
}

/* The place of our name in "a:b:c"; -1: it is not there. */
static long place_of_name(const char *names)
{
	for (long i = 0; names; i++) {
		const size_t len = strcspn(names, ":");

		if (len == strlen(LISTEN_NAME) && !strncmp(names, LISTEN_NAME, len))
			return i;
		names = names[len] ? names + len + 1 : NULL;
	}
	return -1;
}

/* sd_listen_fds(3) describes the variables. */
static int activated_fd(int *out, struct gw_error *err)
{
	const long count = number_from("LISTEN_FDS");
	long place = 0;

	if (count < 1 || number_from("LISTEN_PID") != getpid())
		return error_set(err, -EINVAL,
		                 "--control systemd: no socket was handed over (LISTEN_FDS, "
		                 "LISTEN_PID)");
	if (count > 1)
		place = place_of_name(getenv("LISTEN_FDNAMES"));
	if (place < 0 || place >= count || place > 1000)
		return error_set(err, -EINVAL,
		                 "--control systemd: of %ld sockets, none has the name \"%s\"",
		                 count, LISTEN_NAME);
	*out = LISTEN_FDS_START + (int)place;
	if (fcntl(*out, F_SETFD, FD_CLOEXEC) < 0)
		return error_set_sys(err, -errno, "--control systemd: descriptor %d", *out);
	return 0;
}

int control_open(struct gw_vm *vm, const struct control_choice *choice, struct gw_control **out,
                 struct gw_error *err)
{
	struct gw_control_options options = {
		.size = sizeof(options),
		.group = choice->group,
		.listen_fd = -1,
		.tls_dir = choice->tls_dir,
	};
	int r = control_choice_check(choice, err);

	*out = NULL;
	if (r < 0 || !choice->where)
		return r;
	if (is_systemd(choice->where))
		r = activated_fd(&options.listen_fd, err);
	else if (is_tls(choice->where))
		options.tcp = choice->where + sizeof(tls_prefix) - 1;
	else
		options.path = choice->where;
	return r < 0 ? r : gw_control_new_with(vm, &options, out, err);
}
