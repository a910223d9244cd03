/* SPDX-License-Identifier: Apache-2.0 */
/* The port with its far ends, on a loop that the test turns itself. */
#include "pins.h"

#include "vmm/serial.h"
#include "vmm/x86/layout.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { DATA, IER, FCR, LCR, MCR, LSR };

struct port {
	struct platform *p;
	struct config_serial config;
	char dir[64];
};

static void begin(struct port *s)
{
	struct gw_error err = { 0 };

	memset(s, 0, sizeof(*s));
	s->p = platform_new_kvm();
	snprintf(s->dir, sizeof(s->dir), "/tmp/godwit-serial-XXXXXX");
	cr_assert_not_null(mkdtemp(s->dir));
	snprintf(s->config.socket, sizeof(s->config.socket), "%s/socket", s->dir);
	snprintf(s->config.log, sizeof(s->config.log), "%s/log", s->dir);
	cr_assert_eq(loop_create(&s->p->m.loop, &err), 0, "%s", err.text);
	cr_assert_eq(serial_create(&s->p->m, &s->config, &s->p->m.serial, &err), 0, "%s", err.text);
}

static void end(struct port *s)
{
	serial_destroy(s->p->m.serial);
	cr_assert_neq(access(s->config.socket, F_OK), 0, "the socket file is gone");
	unlink(s->config.log);
	rmdir(s->dir);
	loop_destroy(s->p->m.loop);
	platform_free(s->p);
}

static void turn(struct port *s)
{
	for (unsigned i = 0; i < 6; i++)
		loop_once(s->p->m.loop, 10);
}

static uint8_t in(struct port *s, unsigned reg)
{
	uint8_t value;

	machine_lock(&s->p->m);
	value = (uint8_t)bus_read(&s->p->m.pio, SERIAL_PORT + reg, 1);
	machine_unlock(&s->p->m);
	return value;
}

static void out(struct port *s, unsigned reg, uint8_t value)
{
	machine_lock(&s->p->m);
	bus_write(&s->p->m.pio, SERIAL_PORT + reg, 1, value);
	machine_unlock(&s->p->m);
}

static void say(struct port *s, const char *text)
{
	for (; *text; text++)
		out(s, DATA, (uint8_t)*text);
}

static int dial(struct port *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, s->config.socket, strlen(s->config.socket) + 1);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	turn(s);
	return fd;
}

static void expect(int fd, const char *text)
{
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	cr_assert_eq(n, (ssize_t)strlen(text), "read gave %zd", n);
	buf[n] = '\0';
	cr_assert_str_eq(buf, text);
}

Test(serial, output_goes_to_client_and_log)
{
	struct port s;
	char *log;
	size_t len;
	int fd;

	begin(&s);
	say(&s, "early ");
	turn(&s);
	fd = dial(&s);
	say(&s, "hello");
	turn(&s);
	expect(fd, "hello");
	cr_assert_eq(io_read_file(s.config.log, 100, &log, &len, NULL), 0);
	cr_assert_str_eq(log, "early hello");
	free(log);
	close(fd);
	end(&s);
}

Test(serial, no_input_is_lost)
{
	struct port s;
	uint8_t sent[20000], got = 0;
	size_t written = 0, taken = 0;
	int fd;

	begin(&s);
	out(&s, FCR, 0x01);
	out(&s, IER, 0x01);
	fd = dial(&s);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7 + i / 256);
	for (unsigned rounds = 0; taken < sizeof(sent) && rounds < 20000; rounds++) {
		ssize_t n = written < sizeof(sent)
		                    ? write(fd, sent + written, sizeof(sent) - written)
		                    : 0;

		written += n > 0 ? (size_t)n : 0;
		if (written == sizeof(sent) && fd >= 0 && rounds > 3)
			shutdown(fd, SHUT_WR);
		loop_once(s.p->m.loop, 5);
		for (unsigned i = 0; i < 100 && (in(&s, LSR) & 1); i++, taken++) {
			cr_assert_eq(platform_pin(s.p, SERIAL_GSI), 1);
			got = in(&s, DATA);
			cr_assert_eq(got, sent[taken], "byte %zu", taken);
		}
	}
	cr_assert_eq(taken, sizeof(sent));
	cr_assert_eq(in(&s, LSR), 0x60, "no overrun");
	cr_assert_eq(platform_pin(s.p, SERIAL_GSI), 0);
	/* It has ended its side only. */
	say(&s, "bye");
	turn(&s);
	expect(fd, "bye");
	close(fd);
	end(&s);
}

Test(serial, one_client_at_a_time)
{
	struct port s;
	int a, b, c;
	char byte;

	begin(&s);
	out(&s, FCR, 0x01);
	a = dial(&s);
	b = dial(&s);
	cr_assert_eq(read(b, &byte, 1), 0, "the second is turned away");
	say(&s, "1");
	turn(&s);
	expect(a, "1");
	close(a);
	c = dial(&s);
	say(&s, "2");
	turn(&s);
	expect(c, "2");
	/* One that has gone with input unread and no reader in the guest is in nobody's way. */
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(write(c, "0123456789012345678901234567890123456789012345678", 49), 49);
	turn(&s);
	close(c);
	c = dial(&s);
	say(&s, "3");
	turn(&s);
	expect(c, "3");
	close(c);
	close(b);
	end(&s);
}

Test(serial, a_client_that_does_not_read_holds_up_nobody)
{
	struct port s;
	struct stat st;
	int fd;
	enum { N = 1000 };

	begin(&s);
	fd = dial(&s);
	for (unsigned i = 0; i < N; i++) {
		for (unsigned j = 0; j < 1024; j++)
			out(&s, DATA, 'x');
		loop_once(s.p->m.loop, 0);
	}
	turn(&s);
	cr_assert_eq(stat(s.config.log, &st), 0);
	cr_assert_eq(st.st_size, N * 1024, "the log has it all");
	close(fd);
	end(&s);
}

Test(serial, state)
{
	struct port a, b;
	struct participant *from, *to;
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };
	char text[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	int fd;

	begin(&a);
	begin(&b);
	from = participant_find(&a.p->m.participants, "serial0");
	to = participant_find(&b.p->m.participants, "serial0");
	out(&a, FCR, 0x01);
	out(&a, IER, 0x01);
	fd = dial(&a);
	cr_assert_eq(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
	turn(&a);
	cr_assert_eq(from->ops->stop(from, &err), 0);
	turn(&a);
	cr_assert_eq(write(fd, "later", 5), 5);
	turn(&a);
	kept_save(kept, from);
	cr_assert_eq(to->ops->begin_load(to, &err), 0);
	cr_assert_eq(kept_load(kept, to, &err), 0, "%s", err.text);
	cr_assert_eq(to->ops->settle(to, &err), 0);
	cr_assert_eq(platform_pin(b.p, SERIAL_GSI), 1);
	cr_assert_eq(to->ops->resume(to, 0, &err), 0);
	cr_assert_eq(to->ops->resume(to, 1, &err), 0);
	turn(&b);
	for (unsigned i = 0; i < sizeof(text) - 1; i++) {
		cr_assert(in(&b, LSR) & 1, "byte %u", i);
		cr_assert_eq(in(&b, DATA), text[i]);
		turn(&b);
	}
	cr_assert_eq(in(&b, LSR), 0x60, "what came after the stop has stayed behind");
	/* It goes on at the source instead. */
	cr_assert_eq(from->ops->rollback(from, &err), 0);
	for (unsigned i = 0; i < sizeof(text) - 1; i++)
		cr_assert_eq(in(&a, DATA), text[i]);
	turn(&a);
	cr_assert_eq(in(&a, DATA), 'l');
	kept->records[0].bytes[10] = 99;
	cr_assert_eq(kept_load(kept, to, &err), -EINVAL);
	kept->records[0].bytes[10] = 0;
	kept->records[1].len = 5000;
	cr_assert_eq(kept_load(kept, to, &err), -EINVAL);
	close(fd);
	free(kept);
	end(&a);
	end(&b);
}

Test(serial, a_socket_in_use_is_refused_and_a_stale_one_replaced)
{
	struct port s;
	struct serial *second;
	struct gw_error err = { 0 };
	struct config_serial config;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	begin(&s);
	config = s.config;
	/* Another port at the same I/O address is refused, so give it a bus of its own. */
	bus_remove(&s.p->m.pio, s.p->m.pio.ranges[0]);
	participant_remove(&s.p->m.participants, s.p->m.participants.first);
	cr_assert_eq(serial_create(&s.p->m, &config, &second, &err), -EADDRINUSE);
	cr_assert(strstr(err.text, config.socket), "%s", err.text);
	cr_assert_eq(access(config.socket, F_OK), 0, "and stays as it is");
	snprintf(config.socket, sizeof(config.socket), "%s/stale", s.dir);
	memcpy(addr.sun_path, config.socket, strlen(config.socket) + 1);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	cr_assert_eq(serial_create(&s.p->m, &config, &second, &err), 0, "%s", err.text);
	serial_destroy(second);
	end(&s);
}
