/* SPDX-License-Identifier: Apache-2.0 */
/* A server over an empty VM in a directory of its own, and a client of it. */
#ifndef TESTS_CONTROL_CLIENT_H
#define TESTS_CONTROL_CLIENT_H

#include "godwit.h"
#include "patience.h"

struct control_server {
	char dir[32];
	char path[64];
	struct gw_vm *vm;
	struct gw_control *control;
};

/* `group`: as in gw_control_options. */
void server_start(struct control_server *s, const char *group);
void server_stop(struct control_server *s);

int server_dial(const struct control_server *s);
/* Past the greeting and the negotiation; `oob`: with out-of-band execution. */
int server_talk(const struct control_server *s, bool oob);

void say(int fd, const char *text);
/* With a descriptor (SCM_RIGHTS). */
void say_with_fd(int fd, const char *text, int sent);
/* One line without its CR LF, or "" when the connection has ended. */
const char *hear(int fd, char *line, size_t size);
void expect_line(int fd, const char *wanted);
void expect_part(int fd, const char *wanted);
/* Nothing comes for `ms`. */
void expect_silence(int fd, int ms);

#endif
