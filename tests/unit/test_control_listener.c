/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server listens, and whom it takes. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/io.h"
#include "base/tls.h"
#include "base/util.h"
#include "certificates.h"
#include "control/peer.h"
#include "control_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define NOBODY 65534
#define SOME_GROUP 4242

static struct control_server server;

/* ---- peers --------------------------------------------------------------------------------- */

/* As another user and in these groups: connects, and returns whether it is greeted. */
static bool is_greeted_as(uid_t uid, gid_t gid, gid_t supplementary)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (!pid) {
		struct sockaddr_un sun = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char byte;

		if (setgroups(1, &supplementary) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
			_exit(2);
		strcpy(sun.sun_path, server.path);
		if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
			_exit(3);
		_exit(recv(fd, &byte, 1, 0) == 1 ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_leq(WEXITSTATUS(status), 1, "status %d", WEXITSTATUS(status));
	return WEXITSTATUS(status) == 0;
}

/* Opens the way to the socket for everybody, so that only the peer's credentials are left. */
static void open_to_all(void)
{
	cr_assert_eq(chmod(server.dir, 0755), 0);
	cr_assert_eq(chmod(server.path, 0666), 0);
}

Test(control_peer, others_are_turned_away_whatever_the_sockets_mode)
{
	if (geteuid() != 0)
		cr_skip_test("not root: there is nobody else to be");
	server_start(&server, NULL);
	open_to_all();
	cr_assert(is_greeted_as(0, 0, 0));
	cr_assert_not(is_greeted_as(NOBODY, NOBODY, NOBODY));
	cr_assert_not(is_greeted_as(NOBODY, SOME_GROUP, SOME_GROUP));
	cr_assert_not(is_greeted_as(NOBODY, NOBODY, 0));
	close(server_talk(&server, false)); /* and whoever may come still may */
	server_stop(&server);
}

Test(control_peer, members_of_the_group_may_come_and_others_not)
{
	struct stat st;

	if (geteuid() != 0)
		cr_skip_test("not root: there is no group to give the socket to");
	server_start(&server, "4242");
	cr_assert_eq(stat(server.path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0660);
	cr_assert_eq(st.st_gid, SOME_GROUP);
	open_to_all();
	cr_assert(is_greeted_as(NOBODY, SOME_GROUP, NOBODY));
	cr_assert(is_greeted_as(NOBODY, NOBODY, SOME_GROUP));
	cr_assert_not(is_greeted_as(NOBODY, NOBODY, NOBODY));
	server_stop(&server);
}

Test(control_peer, groups_have_names_and_numbers)
{
	struct peer_rule rule;
	struct gw_error err;

	cr_assert_eq(peer_rule_init(&rule, NULL, &err), 0);
	cr_assert_not(rule.has_group);
	cr_assert_eq(peer_rule_init(&rule, "root", &err), 0);
	cr_assert(rule.has_group);
	cr_assert_eq(rule.group, 0);
	cr_assert_eq(peer_rule_init(&rule, "77", &err), 0);
	cr_assert_eq(rule.group, 77);
	cr_assert_eq(peer_rule_init(&rule, "no-such-group", &err), -ENOENT);
	cr_assert(strstr(err.text, "\"no-such-group\""), "%s", err.text);
	cr_assert_eq(peer_rule_init(&rule, "77x", &err), -ENOENT);
	cr_assert_eq(peer_rule_init(&rule, "-1", &err), -ENOENT);
	cr_assert_eq(peer_rule_init(&rule, "99999999999", &err), -ENOENT);
}

/* ---- options --------------------------------------------------------------------------------- */

static struct gw_vm *vm;

static void make_vm(void)
{
	cr_assert_eq(gw_vm_new(NULL, &vm, NULL), 0);
}

static void free_vm(void)
{
	gw_vm_free(vm);
}

TestSuite(control_listener, .init = make_vm, .fini = free_vm);

static void expect_refused(struct gw_control_options options, int code, const char *wanted)
{
	struct gw_control *control = NULL;
	struct gw_error err = { 0 };

	if (!options.size)
		options.size = sizeof(options);
	cr_assert_eq(gw_control_new_with(vm, &options, &control, &err), code, "%d %s", err.code,
	             err.text);
	cr_assert(strstr(err.text, wanted), "%s", err.text);
	cr_assert_null(control);
}

Test(control_listener, what_does_not_go_together_is_refused)
{
	int pair[2], udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	expect_refused((struct gw_control_options){ .size = 8, .path = "/x", .listen_fd = -1 },
	               -EINVAL, "size");
	expect_refused((struct gw_control_options){ .listen_fd = -1 }, -EINVAL, "one of path");
	expect_refused((struct gw_control_options){ .path = "/tmp/x", .listen_fd = 0 }, -EINVAL,
	               "one of path");
	expect_refused((struct gw_control_options){ .tcp = "127.0.0.1:0", .listen_fd = -1 },
	               -EINVAL, "TLS only");
	expect_refused(
	        (struct gw_control_options){
	                .tcp = "127.0.0.1:0", .group = "root", .tls_dir = "/tmp", .listen_fd = -1 },
	        -EINVAL, "group");
	expect_refused((struct gw_control_options){ .tcp = "127.0.0.1:0",
	                                            .tls_dir = "/nonexistent",
	                                            .listen_fd = -1 },
	               -ENOENT, "/nonexistent/ca-cert.pem");
	expect_refused((struct gw_control_options){ .path = "/tmp/x",
	                                            .group = "no-such-group",
	                                            .listen_fd = -1 },
	               -ENOENT, "no-such-group");
	expect_refused((struct gw_control_options){ .path = "/x", .tls_dir = "/", .listen_fd = -1 },
	               -EINVAL, "tls_dir");
	expect_refused((struct gw_control_options){ .listen_fd = pair[0] }, -EINVAL,
	               "not a stream socket that listens");
	expect_refused((struct gw_control_options){ .listen_fd = udp }, -EINVAL, "listen_fd");
	expect_refused((struct gw_control_options){ .listen_fd = 99999 }, -EINVAL, "listen_fd");
	cr_assert_neq(fcntl(pair[0], F_GETFD), -1, "it was closed");
	close(pair[0]);
	close(pair[1]);
	close(udp);
}

static int listen_anywhere(int family, struct sockaddr_storage *address, socklen_t *size)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(address, 0, sizeof(*address));
	address->ss_family = (sa_family_t)family;
	*size = family == AF_UNIX ? sizeof(sa_family_t) : sizeof(struct sockaddr_in);
	if (family == AF_INET)
		((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(bind(fd, (struct sockaddr *)address, *size), 0);
	cr_assert_eq(listen(fd, 4), 0);
	*size = sizeof(*address);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)address, size), 0);
	return fd;
}

Test(control_listener, a_socket_that_listens_already_is_served)
{
	struct gw_control_options options = { .size = sizeof(options) };
	struct sockaddr_storage address;
	struct gw_control *control;
	struct gw_error err;
	socklen_t size;
	int fd;

	options.listen_fd = listen_anywhere(AF_UNIX, &address, &size);
	cr_assert_eq(gw_control_new_with(vm, &options, &control, &err), 0, "%s", err.text);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, size), 0);
	expect_part(fd, "QMP");
	close(fd);
	gw_control_free(control);
	cr_assert_eq(fcntl(options.listen_fd, F_GETFD), -1, "it is open still");
}

Test(control_listener, a_tcp_socket_from_elsewhere_needs_tls_as_well)
{
	struct sockaddr_storage address;
	socklen_t size;
	int fd = listen_anywhere(AF_INET, &address, &size);

	expect_refused((struct gw_control_options){ .listen_fd = fd }, -EINVAL, "TLS only");
	cr_assert_neq(fcntl(fd, F_GETFD), -1, "it was closed");
	close(fd);
}

Test(control_listener, addresses_that_are_none_are_told)
{
	char dir[] = "/tmp/godwit-tls-XXXXXX";
	static const char *const bad[] = { "nonsense", ":", "host:", "[::1:5", "1:2:3", "[]:1" };

	cr_assert(mkdtemp(dir));
	certificates_make(dir, FOR_CLIENT);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_refused((struct gw_control_options){ .tcp = bad[i],
		                                            .tls_dir = dir,
		                                            .listen_fd = -1 },
		               -EINVAL, "not HOST:PORT");
	certificates_remove(dir);
	rmdir(dir);
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static char ours[32], theirs[32]; /* directories of certificates */
static struct gw_control *control;
static struct sockaddr_storage address;
static socklen_t address_size;

static void start_tls(void)
{
	struct gw_control_options options = { .size = sizeof(options), .tls_dir = ours };
	struct gw_error err;

	make_vm();
	strcpy(ours, "/tmp/godwit-tls-XXXXXX");
	strcpy(theirs, "/tmp/godwit-tls-XXXXXX");
	cr_assert(mkdtemp(ours) && mkdtemp(theirs));
	certificates_make(ours, FOR_CLIENT);
	options.listen_fd = listen_anywhere(AF_INET, &address, &address_size);
	cr_assert_eq(gw_control_new_with(vm, &options, &control, &err), 0, "%s", err.text);
}

static void stop_tls(void)
{
	gw_control_free(control);
	certificates_remove(ours);
	certificates_remove(theirs);
	rmdir(ours);
	rmdir(theirs);
	free_vm();
}

TestSuite(control_tls, .init = start_tls, .fini = stop_tls);

static int dial_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&address, address_size), 0);
	return fd;
}

static void wait_tls(struct tls_session *session, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = tls_wants_write(session) ? POLLOUT : POLLIN };

	cr_assert_eq(poll(&pfd, 1, patience_ms()), 1, "nothing comes");
}

/* The line that the server greets with, or "" if it does not. `why`: what it says instead. */
static void greet(const char *dir, const char *host, char *line, size_t size, char *why)
{
	struct tls_identity *identity;
	struct tls_session *session;
	struct gw_error err = { 0 };
	int fd = dial_tcp(), r;
	ssize_t n = 0;

	*line = *why = 0;
	cr_assert_eq(tls_identity_load(dir, TLS_CLIENT, &identity, &err), 0, "%s", err.text);
	io_set_nonblock(fd, 1);
	cr_assert_eq(tls_session_create(identity, fd, host, &session, &err), 0, "%s", err.text);
	while ((r = tls_handshake(session)) == -EAGAIN)
		wait_tls(session, fd);
	while (!r && (n = tls_read(session, line, size - 1)) == -EAGAIN)
		wait_tls(session, fd);
	if (r < 0 || n < 0)
		strcpy(why, tls_reason(session));
	else
		line[n] = 0;
	tls_session_free(session);
	tls_identity_free(identity);
	close(fd);
}

static void expect_turned_away(const char *dir, const char *host, const char *wanted)
{
	char line[4096], why[256];

	greet(dir, host, line, sizeof(line), why);
	cr_assert_str_eq(line, "");
	cr_assert(strstr(why, wanted), "%s", why);
}

Test(control_tls, a_client_with_a_certificate_is_served)
{
	char line[4096], why[256];

	greet(ours, "localhost", line, sizeof(line), why);
	cr_assert(strstr(line, "{\"QMP\":"), "%s%s", line, why);
	greet(ours, "127.0.0.1", line, sizeof(line), why);
	cr_assert(strstr(line, "{\"QMP\":"), "%s%s", line, why);
}

Test(control_tls, a_server_of_another_name_or_ca_is_no_good)
{
	expect_turned_away(ours, "elsewhere.example", "name");
	certificates_make(theirs, FOR_CLIENT);
	expect_turned_away(theirs, "localhost", "");
}

/* The client's file AS is the server's NAME. */
static void link_ours(const char *name, const char *as)
{
	char from[64], to[64];

	snprintf(from, sizeof(from), "%s/%s.pem", ours, name);
	snprintf(to, sizeof(to), "%s/%s.pem", theirs, as);
	unlink(to);
	cr_assert_eq(symlink(from, to), 0);
}

/* The client trusts the server, but its own certificate is by another CA, or for servers. */
Test(control_tls, a_client_with_the_wrong_certificate_is_turned_away)
{
	certificates_make(theirs, FOR_CLIENT);
	link_ours("ca-cert", "ca-cert");
	expect_turned_away(theirs, "localhost", "the peer says");
}

Test(control_tls, a_certificate_for_servers_makes_no_client)
{
	certificates_make(theirs, FOR_CLIENT);
	link_ours("server-cert", "client-cert");
	link_ours("server-key", "client-key");
	link_ours("ca-cert", "ca-cert");
	expect_turned_away(theirs, "localhost", "the peer says");
}

/* Without TLS nothing is said, and others are served. */
Test(control_tls, plain_words_end_the_connection)
{
	char line[4096], why[256], byte;
	int silent = dial_tcp(), fd = dial_tcp();
	ssize_t n;

	say(fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}\n");
	do
		n = recv(fd, &byte, 1, 0);
	while (n == 1 && byte != '{'); /* an alert may come */
	cr_assert_leq(n, 0);
	close(fd);
	greet(ours, "localhost", line, sizeof(line), why);
	cr_assert(strstr(line, "{\"QMP\":"), "%s%s", line, why);
	close(silent);
}
