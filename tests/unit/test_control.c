/* SPDX-License-Identifier: Apache-2.0 */
/* The server over an empty VM: what a client sees. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "control/client.h"
#include "control/command.h"
#include "control_client.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct control_server server;

static void start_server(void)
{
	server_start(&server, NULL);
}

static void stop_server(void)
{
	server_stop(&server);
}

TestSuite(control, .init = start_server, .fini = stop_server);

static int dial(void)
{
	return server_dial(&server);
}

static int dial_and_negotiate(void)
{
	return server_talk(&server, false);
}

/* ---- negotiation, requests and replies ----------------------------------------------------- */

Test(control, negotiation_comes_first_and_once)
{
	int fd = dial();

	expect_part(fd, "\"capabilities\":[\"oob\"]}}");
	say(fd, "{\"execute\":\"query-status\",\"id\":1}\n");
	expect_part(fd, "{\"error\":{\"class\":\"CommandNotFound\"");
	say(fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"fly\"]}}\n");
	expect_part(fd, "\"class\":\"GenericError\",\"desc\":\"qmp_capabilities: \\\"fly\\\"");
	say(fd, "{\"execute\":\"query-version\"}\n");
	expect_part(fd, "CommandNotFound");
	say(fd, "{\"execute\":\"qmp_capabilities\",\"id\":[2]}\n");
	expect_line(fd, "{\"return\":{},\"id\":[2]}");
	say(fd, "{\"execute\":\"qmp_capabilities\"}\n");
	expect_part(fd, "CommandNotFound");
	say(fd, "{\"execute\":\"query-kvm\"}\n");
	expect_line(fd, "{\"return\":{\"enabled\":true,\"present\":true}}");
	close(fd);
}

Test(control, states_are_told_as_qmp_names_them)
{
	struct gw_error err;
	int fd = dial_and_negotiate();

	say(fd, "{\"execute\":\"query-status\"}");
	expect_line(fd, "{\"return\":{\"running\":false,\"status\":\"empty\"}}");
	cr_assert_eq(gw_vm_incoming(server.vm, NULL, NULL, 0, &err), 0);
	say(fd, "{\"execute\":\"query-status\"}");
	expect_line(fd, "{\"return\":{\"running\":false,\"status\":\"inmigrate\"}}");
	close(fd);
}

static bool needs_arguments(const struct command *c)
{
	for (const struct arg *arg = c->args; arg && arg->name; arg++)
		if (arg->required)
			return true;
	return false;
}

/* As QEMU's destination does: a client looks around there before anything has arrived. */
Test(control, every_query_of_an_empty_vm_that_waits_is_answered)
{
	struct gw_error err;
	unsigned count = 0;
	int fd = dial_and_negotiate();

	cr_assert_eq(gw_vm_incoming(server.vm, NULL, NULL, 0, &err), 0);
	for (const struct command *c = control_commands; c->name; c++) {
		char text[100];

		if (strncmp(c->name, "query-", 6) != 0 || needs_arguments(c))
			continue;
		snprintf(text, sizeof(text), "{\"execute\":\"%s\"}", c->name);
		say(fd, text);
		if (strcmp(c->name, "query-balloon") != 0)
			expect_part(fd, "{\"return\":");
		else
			expect_part(fd, "{\"error\":{\"class\":\"DeviceNotActive\",");
		count++;
	}
	cr_assert_gt(count, 25);
	say(fd, "{\"execute\":\"query-cpus-fast\"}{\"execute\":\"query-memory-size-summary\"}");
	expect_line(fd, "{\"return\":[]}");
	expect_line(fd, "{\"return\":{\"base-memory\":0,\"plugged-memory\":0}}");
	close(fd);
}

Test(control, a_device_that_an_empty_vm_has_not_is_not_found)
{
	static const char *const requests[] = {
		"{\"execute\":\"device_del\",\"arguments\":{\"id\":\"nix\"}}",
		"{\"execute\":\"device_del\",\"arguments\":{\"id\":\"nix\",\"force\":true}}",
		"{\"execute\":\"device-command\",\"arguments\":{\"id\":\"nix\",\"command\":\"c\"}}",
		"{\"execute\":\"block_resize\",\"arguments\":{\"device\":\"nix\",\"size\":4096}}",
	};
	struct gw_error err;
	int fd = dial_and_negotiate();

	for (int waits = 0; waits < 2; waits++) {
		for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
			say(fd, requests[i]);
			expect_part(fd,
			            "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"device");
		}
		if (!waits)
			cr_assert_eq(gw_vm_incoming(server.vm, NULL, NULL, 0, &err), 0);
	}
	close(fd);
}

Test(control, faults_cost_a_reply_and_not_the_connection)
{
	int fd = dial_and_negotiate();

	say(fd, "{\"execute\":\n");
	expect_part(fd, "\"class\":\"GenericError\",\"desc\":\"request: not JSON");
	say(fd, "[1]");
	expect_part(fd, "GenericError");
	say(fd, "{\"execute\":\"no-such\",\"id\":{\"a\":null}}");
	expect_line(fd, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no-such: there is no "
	                "such command\"},\"id\":{\"a\":null}}");
	say(fd, "{\"execute\":\"cont\",\"arguments\":{\"force\":1}}");
	expect_part(fd, "cont: argument \\\"force\\\" must be true or false");
	say(fd, "{\"execute\":\"stop\",\"arguments\":{\"now\":1}}");
	expect_part(fd, "stop: no argument is named \\\"now\\\"");
	say(fd, "{\"execute\":\"cont\",\"id\":5}");
	expect_line(fd,
	            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"cont: the VM is empty\"},"
	            "\"id\":5}");
	say(fd, "{\"execute\":\"query-name\"}");
	expect_line(fd, "{\"return\":{}}");
	close(fd);
}

Test(control, a_line_without_end_is_told_and_passed_over)
{
	static char junk[1 << 16];
	int fd = dial_and_negotiate();

	memset(junk, 'x', sizeof(junk) - 1);
	junk[0] = '{';
	for (int i = 0; i < 20; i++)
		say(fd, junk);
	expect_part(fd, "longer than 1048576 bytes");
	say(fd, "\n{\"execute\":\"query-name\"}");
	expect_line(fd, "{\"return\":{}}");
	close(fd);
}

Test(control, requests_sent_at_once_are_answered_in_order)
{
	char request[100];
	int fd = dial_and_negotiate();

	for (int i = 0; i < 200; i++) {
		sprintf(request, "{\"execute\":\"%s\",\"id\":%d}",
		        i % 3 ? "query-version" : "query-status", i);
		say(fd, request);
	}
	for (int i = 0; i < 200; i++) {
		sprintf(request, ",\"id\":%d}", i);
		expect_part(fd, request);
	}
	close(fd);
}

Test(control, clients_do_not_disturb_each_other)
{
	int fds[8];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_and_negotiate();
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		say(fds[i], "{\"execute\":\"query-migrate-capabilities\"}");
	close(fds[3]);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (i == 3)
			continue;
		expect_part(fds[i], "{\"capability\":\"return-path\",\"state\":true}");
		close(fds[i]);
	}
}

Test(control, parameters_are_set_and_read_back)
{
	int fd = dial_and_negotiate();

	say(fd, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"downtime-limit\":123,"
	        "\"max-bandwidth\":4096,\"network-timeout\":777}}");
	expect_line(fd, "{\"return\":{}}");
	say(fd, "{\"execute\":\"query-migrate-parameters\"}");
	expect_part(fd, "{\"return\":{\"downtime-limit\":123,\"max-bandwidth\":4096,");
	say(fd, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":0}}");
	expect_line(fd, "{\"return\":{}}");
	say(fd, "{\"execute\":\"query-migrate-parameters\"}");
	expect_part(fd, "\"downtime-limit\":123,\"max-bandwidth\":0,");
	say(fd, "{\"execute\":\"query-migrate-capabilities\"}\r\n");
	expect_part(fd, "{\"capability\":\"switchover-ack\",\"state\":true}");
	say(fd, "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
	        "{\"capability\":\"switchover-ack\",\"state\":false}]}}\r\n");
	expect_part(fd, "{\"return\":{}");
	say(fd, "{\"execute\":\"query-migrate-capabilities\"}\r\n");
	expect_part(fd, "{\"capability\":\"switchover-ack\",\"state\":false}");
	say(fd, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"multifd-channels\":2}}");
	expect_part(fd, "\\\"multifd-channels\\\"");
	close(fd);
}

Test(control, every_command_is_listed_with_its_arguments)
{
	int fd = dial_and_negotiate();

	say(fd, "{\"execute\":\"query-commands\"}");
	expect_part(fd, "{\"name\":\"device_del\",\"help\":");
	close(fd);
}

/* ---- connections that end ----------------------------------------------------------------- */

Test(control, what_was_asked_before_the_end_is_answered)
{
	char line[4096];
	int fd = dial();

	expect_part(fd, "QMP");
	say(fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}");
	shutdown(fd, SHUT_WR);
	expect_line(fd, "{\"return\":{}}");
	expect_part(fd, "\"status\":\"empty\"");
	cr_assert_str_eq(hear(fd, line, sizeof(line)), "");
	close(fd);
}

Test(control, whoever_closes_after_a_request_has_it_carried_out)
{
	struct gw_error err;
	int fd = dial();

	say(fd,
	    "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-pci\"}{\"execute\":\"quit\"}");
	close(fd);
	cr_assert_eq(gw_vm_wait(server.vm, patience_ms(), &err), 0, "%s", err.text);
}

Test(control, the_reply_to_quit_is_sent_before_the_end)
{
	struct gw_error err;
	char line[4096];
	int fd = dial_and_negotiate();

	say(fd, "{\"execute\":\"quit\",\"id\":\"q\"}");
	cr_assert_eq(gw_vm_wait(server.vm, patience_ms(), &err), 0);
	gw_control_free(server.control);
	server.control = NULL;
	hear(fd, line, sizeof(line));
	cr_assert(strstr(line, "\"event\":\"SHUTDOWN\"") && strstr(line, "host-qmp-quit"), "%s",
	          line);
	expect_line(fd, "{\"return\":{},\"id\":\"q\"}");
	cr_assert_str_eq(hear(fd, line, sizeof(line)), "");
	cr_assert_eq(access(server.path, F_OK), -1);
	close(fd);
}

/* 33 have a place each, the reserved one included; those that come then displace the oldest. */
Test(control, more_clients_than_there_is_room_for_displace_the_oldest_idle_ones)
{
	int fds[40];
	char line[4096];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		expect_part(fds[i], "QMP");
	}
	for (size_t i = 0; i < 7; i++)
		cr_assert_str_eq(hear(fds[i], line, sizeof(line)), "", "client %zu", i);
	for (size_t i = 7; i < ARRAY_SIZE(fds); i++) {
		say(fds[i], "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}");
		expect_line(fds[i], "{\"return\":{}}");
		expect_part(fds[i], "\"status\":\"empty\"");
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

Test(control, an_operator_gets_in_however_many_are_idle)
{
	int fds[PLACES];
	char line[4096];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_and_negotiate();
	/* Whoever says something is not the oldest any more. */
	usleep(2000);
	say(fds[0], "{\"execute\":\"query-name\"}");
	expect_line(fds[0], "{\"return\":{}}");
	for (int i = 0; i < 5; i++) {
		int fd = dial_and_negotiate();

		say(fd, "{\"execute\":\"query-name\"}");
		expect_line(fd, "{\"return\":{}}");
		close(fd);
	}
	cr_assert_str_eq(hear(fds[1], line, sizeof(line)), "");
	say(fds[0], "{\"execute\":\"query-name\"}");
	expect_line(fds[0], "{\"return\":{}}");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* ---- a client that does not read ------------------------------------------------------------- */

struct lone {
	struct client_host host;
	struct client *client;
	int ours, theirs;
	bool gone;
};

static void on_gone(void *opaque, struct client *client)
{
	struct lone *lone = opaque;

	client_destroy(client);
	lone->client = NULL;
	lone->gone = true;
}

/* A client on a loop that the test runs itself, so that it can be fed with events. */
static void lone_start(struct lone *lone)
{
	struct channel *channel;
	struct gw_error err;
	int fds[2];

	*lone = (struct lone){ .host = { .vm = server.vm, .wake_fd = -1 } };
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	lone->ours = fds[0];
	cr_assert_eq(loop_create(&lone->host.loop, &err), 0);
	cr_assert_eq(channel_plain_create(fds[1], &channel, &err), 0);
	cr_assert_eq(client_create(&lone->host, channel, on_gone, lone, &lone->client, &err), 0);
}

static void lone_end(struct lone *lone)
{
	client_destroy(lone->client);
	loop_destroy(lone->host.loop);
	close(lone->ours);
}

static const char event_line[] = "{\"event\":\"STOP\"}\r\n";

Test(control, no_events_before_the_negotiation_is_over)
{
	struct lone lone;

	lone_start(&lone);
	client_event(lone.client, event_line);
	say(lone.ours, "{\"execute\":\"qmp_capabilities\"}");
	loop_once(lone.host.loop, patience_ms());
	client_event(lone.client, event_line);
	expect_part(lone.ours, "QMP");
	expect_line(lone.ours, "{\"return\":{}}");
	expect_line(lone.ours, "{\"event\":\"STOP\"}");
	lone_end(&lone);
}

Test(control, a_client_that_takes_no_events_is_dropped)
{
	struct lone lone;
	size_t sent = 0;

	lone_start(&lone);
	say(lone.ours, "{\"execute\":\"qmp_capabilities\"}");
	loop_once(lone.host.loop, patience_ms());
	while (!lone.gone && sent < 16 * CLIENT_OUT_MAX) {
		client_event(lone.client, event_line);
		sent += sizeof(event_line) - 1;
	}
	cr_assert(lone.gone, "%zu bytes wait", sent);
	cr_assert_gt(sent, CLIENT_OUT_MAX);
	lone_end(&lone);
}

/* Its requests wait in the socket; once it reads, it gets every reply. */
Test(control, a_client_that_takes_no_replies_is_not_read_from)
{
	/* Long enough for few of them to fill the sockets. */
	static char request[4096];
	struct lone lone;
	size_t asked = 0, answered = 0;
	char line[65536];

	memset(request, ' ', sizeof(request));
	memcpy(request, "{\"execute\":\"query-commands\"}", 28);
	lone_start(&lone);
	say(lone.ours, "{\"execute\":\"qmp_capabilities\"}");
	loop_once(lone.host.loop, patience_ms());
	while (send(lone.ours, request, sizeof(request), MSG_DONTWAIT) ==
	               (ssize_t)sizeof(request) &&
	       asked < 100000) {
		asked++;
		loop_once(lone.host.loop, 0);
	}
	cr_assert_lt(asked, 100000);
	cr_assert_not(lone.gone);
	expect_part(lone.ours, "QMP");
	expect_line(lone.ours, "{\"return\":{}}");
	shutdown(lone.ours, SHUT_WR);
	while (answered < asked) {
		struct pollfd pfd = { .fd = lone.ours, .events = POLLIN };

		while (!lone.gone && !poll(&pfd, 1, 0))
			loop_once(lone.host.loop, patience_ms());
		cr_assert(strstr(hear(lone.ours, line, sizeof(line)), "{\"return\":["),
		          "reply %zu of %zu: %.80s", answered, asked, line);
		answered++;
	}
	lone_end(&lone);
}
