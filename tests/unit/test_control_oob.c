/* SPDX-License-Identifier: Apache-2.0 */
/* Out-of-band execution, descriptors, and what floods a server. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "control_client.h"
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static struct control_server server;

static void start_server(void)
{
	server_start(&server, NULL);
}

static void stop_server(void)
{
	server_stop(&server);
}

TestSuite(control_oob, .init = start_server, .fini = stop_server);
TestSuite(control_fd, .init = start_server, .fini = stop_server);
TestSuite(control_flood, .init = start_server, .fini = stop_server);

/* ---- out of band ------------------------------------------------------------------------- */

/* With the VM's lock held, whatever asks the VM something waits. */
Test(control_oob, what_is_out_of_band_overtakes)
{
	int fd = server_talk(&server, true);

	pthread_mutex_lock(&server.vm->lock);
	say(fd, "{\"execute\":\"query-devices\",\"id\":1}{\"execute\":\"query-version\",\"id\":2}"
	        "{\"exec-oob\":\"migrate_cancel\",\"id\":3}");
	expect_line(fd, "{\"return\":{},\"id\":3}");
	expect_silence(fd, 50);
	pthread_mutex_unlock(&server.vm->lock);
	expect_line(fd, "{\"return\":[],\"id\":1}");
	expect_part(fd, "\"id\":2}");
	close(fd);
}

Test(control_oob, without_it_nothing_overtakes)
{
	int fd = server_talk(&server, false);

	pthread_mutex_lock(&server.vm->lock);
	say(fd, "{\"execute\":\"query-devices\",\"id\":1}"
	        "{\"exec-oob\":\"migrate_cancel\",\"id\":2}");
	expect_silence(fd, 50);
	pthread_mutex_unlock(&server.vm->lock);
	expect_part(fd, "\"id\":1}");
	expect_part(fd, "has not enabled out-of-band execution");
	close(fd);
}

Test(control_oob, only_some_commands_and_only_with_an_id)
{
	int fd = server_talk(&server, true);

	say(fd, "{\"exec-oob\":\"query-version\",\"id\":1}");
	expect_line(fd, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"query-version: cannot "
	                "be executed out of band\"},\"id\":1}");
	say(fd, "{\"exec-oob\":\"migrate_cancel\"}");
	expect_part(fd, "an \\\"id\\\" is needed");
	say(fd, "{\"exec-oob\":\"no-such\",\"id\":1}");
	expect_part(fd, "CommandNotFound");
	say(fd, "{\"exec-oob\":\"migrate_cancel\",\"arguments\":{\"x\":1},\"id\":4}");
	expect_part(fd, "no argument is named \\\"x\\\"");
	say(fd, "{\"exec-oob\":\"query-status\",\"id\":[5]}");
	expect_line(fd, "{\"return\":{\"running\":false,\"status\":\"empty\"},\"id\":[5]}");
	close(fd);
}

Test(control_oob, requests_are_read_ahead_but_not_without_end)
{
	char request[64];
	int fd = server_talk(&server, true);

	pthread_mutex_lock(&server.vm->lock);
	for (int i = 0; i < 12; i++) {
		snprintf(request, sizeof(request), "{\"execute\":\"query-devices\",\"id\":%d}", i);
		say(fd, request);
	}
	/* Behind more than QMP lets a client have under way, even this waits. */
	say(fd, "{\"exec-oob\":\"migrate_cancel\",\"id\":\"late\"}");
	expect_silence(fd, 50);
	pthread_mutex_unlock(&server.vm->lock);
	/* Its own thread answers it, in any order with the others. */
	for (int i = 0, late = 0; i < 12 || !late;) {
		char line[4096], wanted[20];

		snprintf(wanted, sizeof(wanted), "\"id\":%d}", i);
		hear(fd, line, sizeof(line));
		late += !!strstr(line, "late");
		cr_assert(strstr(line, wanted) || strstr(line, "late"), "%s", line);
		i += !!strstr(line, wanted);
	}
	close(fd);
}

/* Several at once, and the connection ends meanwhile. */
Test(control_oob, a_client_that_goes_leaves_nothing_behind)
{
	struct gw_error err;
	int fd = server_talk(&server, true);

	pthread_mutex_lock(&server.vm->lock);
	say(fd, "{\"execute\":\"query-devices\",\"id\":1}{\"exec-oob\":\"query-status\",\"id\":2}"
	        "{\"exec-oob\":\"query-status\",\"id\":3}{\"execute\":\"quit\",\"id\":4}");
	close(fd);
	usleep(50000);
	pthread_mutex_unlock(&server.vm->lock);
	cr_assert_eq(gw_vm_wait(server.vm, patience_ms(), &err), 0, "%s", err.text);
}

/* ---- descriptors ------------------------------------------------------------------------- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino &&
	       x.st_dev == y.st_dev;
}

Test(control_fd, one_that_is_sent_gets_a_name)
{
	int pipes[2], given, fd = server_talk(&server, false);

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	say(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"tap\"}}");
	expect_part(fd, "SCM_RIGHTS");
	say_with_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"tap\"}}", pipes[1]);
	expect_line(fd, "{\"return\":{}}");
	given = vm_take_fd(server.vm, "tap");
	cr_assert_geq(given, 0);
	cr_assert(same_file(given, pipes[1]));
	close(given);
	say(fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"tap\"}}");
	expect_line(fd, "{\"return\":{}}");
	cr_assert_eq(vm_take_fd(server.vm, "tap"), -ENOENT);
	say(fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"tap\"}}");
	expect_part(fd, "no descriptor has the name \\\"tap\\\"");
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

/* Nobody else has the pipe's end for writing open, once all is closed: it ends. */
Test(control_fd, none_is_left_open)
{
	struct pollfd pfd;
	int pipes[2], fd = server_talk(&server, false);

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	say_with_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"1\"}}", pipes[1]);
	expect_part(fd, "begins with no digit");
	say_with_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}", pipes[1]);
	expect_line(fd, "{\"return\":{}}");
	say_with_fd(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}", pipes[1]);
	expect_line(fd, "{\"return\":{}}");
	say_with_fd(fd, "{\"execute\":\"add-fd\"}", pipes[1]);
	expect_part(fd, "\"fdset-id\":0");
	for (int i = 0; i < 40; i++) /* more than is kept for a client */
		say_with_fd(fd, " ", pipes[1]);
	say(fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}");
	expect_line(fd, "{\"return\":{}}");
	say(fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0}}");
	expect_line(fd, "{\"return\":{}}");
	close(fd);
	close(pipes[1]);
	pfd = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	cr_assert_eq(poll(&pfd, 1, patience_ms()), 1, "somebody has it open");
	cr_assert(pfd.revents & POLLHUP);
	close(pipes[0]);
}

Test(control_fd, sets_have_members_and_the_vm_gets_the_best)
{
	char file[64], line[4096];
	int reader, writer, given, fd = server_talk(&server, false);

	snprintf(file, sizeof(file), "%s/file", server.dir);
	writer = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	reader = open(file, O_RDONLY | O_CLOEXEC);
	cr_assert(reader >= 0 && writer >= 0);
	unlink(file);
	say_with_fd(fd, "{\"execute\":\"add-fd\",\"arguments\":{\"opaque\":\"ro:x\"}}", reader);
	expect_part(fd, "{\"return\":{\"fdset-id\":0,\"fd\":");
	say_with_fd(fd, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":0}}", writer);
	expect_part(fd, "{\"return\":{\"fdset-id\":0,\"fd\":");
	say_with_fd(fd, "{\"execute\":\"add-fd\"}", reader);
	expect_part(fd, "{\"return\":{\"fdset-id\":1,\"fd\":");
	given = vm_take_fd(server.vm, "/dev/fdset/0");
	cr_assert_eq(fcntl(given, F_GETFL) & O_ACCMODE, O_RDWR);
	close(given);
	say(fd, "{\"execute\":\"query-fdsets\"}");
	hear(fd, line, sizeof(line));
	cr_assert(strstr(line, "\"opaque\":\"ro:x\""), "%s", line);
	cr_assert(strstr(line, "\"fdset-id\":1"), "%s", line);
	say(fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0,\"fd\":9999}}");
	expect_part(fd, "set 0 has no descriptor 9999");
	say(fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0}}");
	expect_line(fd, "{\"return\":{}}");
	cr_assert_eq(vm_take_fd(server.vm, "/dev/fdset/0"), -ENOENT);
	say(fd, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0}}");
	expect_part(fd, "there is no set 0");
	close(fd);
	close(reader);
	close(writer);
}

Test(control_fd, a_dump_goes_to_a_file_of_its_own_or_to_nothing)
{
	char request[200], core[64];
	int replies = 0, events = 0;
	int fd = server_talk(&server, false);

	snprintf(core, sizeof(core), "%s/core", server.dir);
	snprintf(request, sizeof(request),
	         "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
	         "\"protocol\":\"file:%s\"}}",
	         core);
	say(fd, request);
	expect_part(fd, "the VM is empty");
	cr_assert_eq(access(core, F_OK), -1, "a dump that failed is left");
	say(fd, "{\"execute\":\"query-dump\"}");
	expect_part(fd, "{\"status\":\"failed\",");
	snprintf(request, sizeof(request),
	         "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
	         "\"protocol\":\"file:%s\",\"detach\":true},\"id\":1}",
	         core);
	say(fd, request);
	/* It fails at once, so either may be the first. */
	for (int i = 0; i < 2; i++) {
		char line[4096];

		hear(fd, line, sizeof(line));
		replies += !strcmp(line, "{\"return\":{},\"id\":1}");
		events += !!strstr(line, "\"event\":\"DUMP_COMPLETED\",\"data\":{\"result\":"
		                         "{\"status\":\"failed\"");
	}
	cr_assert(replies == 1 && events == 1);
	say(fd, "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
	        "\"protocol\":\"fd:nothing\"}}");
	expect_part(fd, "no descriptor has the name \\\"nothing\\\"");
	close(fd);
}

/* ---- floods ------------------------------------------------------------------------------- */

Test(control_flood, a_client_that_only_asks_does_not_hold_up_another)
{
	static const char request[] = "{\"execute\":\"query-qmp-schema\"}";
	int greedy = server_talk(&server, true), other;

	while (send(greedy, request, sizeof(request) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	other = server_talk(&server, false);
	for (int i = 0; i < 20; i++) {
		say(other, "{\"execute\":\"query-status\"}");
		expect_part(other, "\"status\":\"empty\"");
	}
	close(greedy);
	close(other);
}

Test(control_flood, what_is_no_utf8_or_nested_too_deeply_is_an_error)
{
	static char deep[5000];
	char line[4096];
	int fd = server_talk(&server, false);

	say(fd, "{\"execute\":\"\xff\xfe\",\"id\":1}\n");
	expect_part(fd, "not UTF-8");
	memset(deep, '[', sizeof(deep) - 2);
	deep[sizeof(deep) - 2] = '\n';
	say(fd, deep);
	expect_part(fd, "nested too deeply");
	say(fd, "{\"execute\":\"query-name\"");
	shutdown(fd, SHUT_WR); /* half a message: the connection just ends */
	cr_assert_str_eq(hear(fd, line, sizeof(line)), "");
	close(fd);
}

static bool is_greeted(void)
{
	char line[4096];
	int fd = server_dial(&server);
	const bool greeted = *hear(fd, line, sizeof(line));

	close(fd);
	return greeted;
}

Test(control_flood, clients_may_come_and_go)
{
	static const char text[] =
	        "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-devices\"}";

	for (int i = 0; i < 300; i++) {
		int fd = server_dial(&server);

		/* While those before it are still there it may find every place taken. */
		if (i % 3 && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
			cr_assert_eq(errno, EPIPE);
		if (i % 2)
			shutdown(fd, SHUT_WR);
		close(fd);
	}
	/* Each leaves its place. */
	wait_until(is_greeted());
}
