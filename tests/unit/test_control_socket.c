/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "base/unix_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static char dir[] = "/tmp/godwit-sock-XXXXXX";
static char path[64];

static void make_dir(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/ctl", dir);
}

static void drop_dir(void)
{
	unlink(path);
	cr_expect_eq(rmdir(dir), 0, "something is left in %s", dir);
}

TestSuite(unix_socket, .init = make_dir, .fini = drop_dir);

static int connect_to(const char *to)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, to);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	close(fd);
	return -errno;
}

Test(unix_socket, is_for_its_owner_only_whatever_the_umask)
{
	struct unix_socket s;
	struct gw_error err;
	struct stat st;
	mode_t old = umask(0);
	int fd;

	cr_assert_eq(unix_socket_open(path, NULL, &s, &err), 0, "%s", err.text);
	umask(old);
	cr_assert_eq(lstat(path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode));
	cr_assert_eq(st.st_mode & 07777, 0600, "%o", st.st_mode);
	fd = connect_to(path);
	cr_assert_geq(fd, 0);
	close(fd);
	unix_socket_close(&s);
	cr_assert_eq(lstat(path, &st), -1);
	cr_assert_eq(errno, ENOENT);
}

Test(unix_socket, one_on_which_somebody_listens_is_left_alone)
{
	struct unix_socket first, second;
	struct gw_error err;
	int fd;

	cr_assert_eq(unix_socket_open(path, NULL, &first, &err), 0);
	cr_assert_eq(unix_socket_open(path, NULL, &second, &err), -EADDRINUSE);
	cr_assert(strstr(err.text, path), "%s", err.text);
	fd = connect_to(path);
	cr_assert_geq(fd, 0);
	close(fd);
	unix_socket_close(&second);
	unix_socket_close(&first);
}

Test(unix_socket, one_that_nobody_listens_on_is_replaced)
{
	struct unix_socket first, second;
	struct gw_error err;
	int fd;

	cr_assert_eq(unix_socket_open(path, NULL, &first, &err), 0);
	close(first.fd); /* as if its process had been killed */
	cr_assert_eq(connect_to(path), -ECONNREFUSED);
	cr_assert_eq(unix_socket_open(path, NULL, &second, &err), 0, "%s", err.text);
	fd = connect_to(path);
	cr_assert_geq(fd, 0);
	close(fd);
	unix_socket_close(&second);
	free(first.path);
}

Test(unix_socket, what_is_no_socket_is_left_alone)
{
	struct unix_socket s;
	struct gw_error err;
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	close(fd);
	cr_assert_eq(unix_socket_open(path, NULL, &s, &err), -EEXIST);
	cr_assert_eq(access(path, F_OK), 0);
	unlink(path);
	cr_assert_eq(symlink("/nonexistent", path), 0);
	cr_assert_eq(unix_socket_open(path, NULL, &s, &err), -EEXIST);
}

Test(unix_socket, a_path_that_another_has_taken_over_is_not_removed)
{
	struct unix_socket s;
	struct gw_error err;
	int fd;

	cr_assert_eq(unix_socket_open(path, NULL, &s, &err), 0);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	unix_socket_close(&s);
	cr_assert_eq(access(path, F_OK), 0);
}

Test(unix_socket, places_that_cannot_be_are_errors)
{
	struct unix_socket s;
	struct gw_error err;
	char far[200];

	memset(far, 'a', sizeof(far) - 1);
	far[sizeof(far) - 1] = 0;
	cr_assert_eq(unix_socket_open(far, NULL, &s, &err), -ENAMETOOLONG);
	cr_assert_eq(unix_socket_open("/nonexistent/ctl", NULL, &s, &err), -ENOENT);
	cr_assert(strstr(err.text, "/nonexistent/ctl"), "%s", err.text);
}
