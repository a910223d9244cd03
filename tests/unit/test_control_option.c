/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

/* The program's files are no part of the library that tests link with. */
#include "cli/control_option.c"

static void expect(const char *where, const char *group, const char *tls_dir, const char *wanted)
{
	const struct control_choice choice = { where, group, tls_dir };
	struct gw_error err = { 0 };
	int r = control_choice_check(&choice, &err);

	cr_assert_eq(r, wanted ? -EINVAL : 0, "%s: %s", where, err.text);
	cr_assert(!wanted || strstr(err.text, wanted), "%s: %s", where, err.text);
}

Test(control_option, each_is_taken_once)
{
	struct control_choice choice = { 0 };
	struct gw_error err;

	cr_assert_eq(control_option("control", "/x", &choice, &err), 0);
	cr_assert_eq(control_option("control-group", "g", &choice, &err), 0);
	cr_assert_eq(control_option("tls-dir", "d", &choice, &err), 0);
	cr_assert_str_eq(choice.where, "/x");
	cr_assert_str_eq(choice.group, "g");
	cr_assert_str_eq(choice.tls_dir, "d");
	cr_assert_eq(control_option("control", "/y", &choice, &err), -EINVAL);
	cr_assert_eq(control_option("controls", "/y", &choice, &err), -ENOENT);
}

Test(control_option, what_does_not_go_together_is_told)
{
	expect(NULL, NULL, NULL, NULL);
	expect("/x", NULL, NULL, NULL);
	expect("/x", "g", NULL, NULL);
	expect("systemd", "g", NULL, NULL);
	expect("systemd", NULL, "d", NULL);
	expect("tls:h:1", NULL, "d", NULL);
	expect("tls:h:1", NULL, NULL, "--tls-dir");
	expect("tls:h:1", "g", "d", "--control-group");
	expect("tcp:h:1", NULL, "d", "with TLS only");
	expect("/x", NULL, "d", "--tls-dir");
	expect("", NULL, NULL, "empty");
	expect(NULL, "g", NULL, "needs --control");
	expect(NULL, NULL, "d", "needs --control");
}

static int activated(const char *fds, pid_t pid, const char *names, int *fd)
{
	char text[20];

	snprintf(text, sizeof(text), "%d", (int)pid);
	setenv("LISTEN_FDS", fds, 1);
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	return activated_fd(fd, NULL);
}

Test(control_option, a_socket_of_the_service_manager_is_found_by_its_name)
{
	int fd = -1, any = dup2(0, 4);

	cr_assert_eq(any, 4);
	cr_assert_eq(activated("2", getpid(), "other:control", &fd), 0);
	cr_assert_eq(fd, 4);
	cr_assert_eq(fcntl(4, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(activated("2", getpid(), "other:controls", &fd), -EINVAL);
	cr_assert_eq(activated("2", getpid(), "a:b:control", &fd), -EINVAL);
	cr_assert_eq(activated("1", getpid() + 1, "control", &fd), -EINVAL);
	cr_assert_eq(activated("0", getpid(), "", &fd), -EINVAL);
	cr_assert_eq(activated("x", getpid(), "", &fd), -EINVAL);
	cr_assert_eq(activated("-1", getpid(), "control", &fd), -EINVAL);
}
