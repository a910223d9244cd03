/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include "vmm/virtio/console.h"
#include "vmm/virtio/devices.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct tty {
	struct vmachine *vm;
	struct vdriver d;
	struct console_options options;
	char dir[64];
};

static void prepare(struct tty *t)
{
	memset(t, 0, sizeof(*t));
	t->vm = vmachine_new(16 * MIB);
	snprintf(t->dir, sizeof(t->dir), "/tmp/godwit-console-XXXXXX");
	cr_assert_not_null(mkdtemp(t->dir));
	snprintf(t->options.socket, sizeof(t->options.socket), "%s/socket", t->dir);
}

static struct device *add(struct tty *t)
{
	return vmachine_add(t->vm, &virtio_console_driver, &t->options, sizeof(t->options));
}

static void begin(struct tty *t, uint64_t features)
{
	vdriver_begin(&t->d, t->vm, add(t), features);
}

static void end(struct tty *t)
{
	char path[128];

	vmachine_free(t->vm);
	cr_assert_neq(access(t->options.socket, F_OK), 0, "the socket is gone");
	snprintf(path, sizeof(path), "%s/log", t->dir);
	unlink(path);
	rmdir(t->dir);
}

static int dial_path(struct tty *t, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%s", path);
	vmachine_turn(t->vm);
	return fd;
}

static void say(struct tty *t, unsigned queue, const char *text)
{
	vdriver_add_out(&t->d, queue, text, (uint32_t)strlen(text));
	vdriver_kick(&t->d, queue);
}

static void expect(int fd, const char *text)
{
	char buf[256] = "";
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	cr_assert_eq(n, (ssize_t)strlen(text), "read gave %zd: %s", n, buf);
	cr_assert_str_eq(buf, text);
}

Test(virtio_console, output_and_input)
{
	struct vused used;
	struct tty t;
	uint64_t at;
	int fd;

	prepare(&t);
	t.options.columns = 80;
	t.options.rows = 25;
	begin(&t, ~0ull & ~(VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED));
	cr_assert_eq(t.d.queues, 2);
	cr_assert_eq(vdriver_offered(&t.d) & 7, 1 | 4, "SIZE, EMERG_WRITE, not MULTIPORT");
	cr_assert_eq(vdriver_config(&t.d, 0, 2), 80);
	cr_assert_eq(vdriver_config(&t.d, 2, 2), 25);
	say(&t, 1, "to nobody");
	cr_assert(vdriver_used(&t.d, 1, &used), "nobody there: it is dropped");
	fd = dial_path(&t, t.options.socket);
	say(&t, 1, "hello");
	cr_assert(vdriver_used(&t.d, 1, &used));
	cr_assert_eq(used.len, 0);
	expect(fd, "hello");
	cr_assert_eq(write(fd, "abcdef", 6), 6);
	vmachine_turn(t.vm);
	cr_assert(!vdriver_used(&t.d, 0, &used), "there is no buffer yet");
	at = vdriver_add_in(&t.d, 0, 4);
	vdriver_kick(&t.d, 0);
	cr_assert(vdriver_used(&t.d, 0, &used));
	cr_assert_eq(used.len, 4);
	cr_assert_eq(memcmp(vmachine_at(t.vm, at), "abcd", 4), 0);
	at = vdriver_add_in(&t.d, 0, 4);
	vdriver_kick(&t.d, 0);
	cr_assert(vdriver_used(&t.d, 0, &used));
	cr_assert_eq(used.len, 2);
	cr_assert_eq(memcmp(vmachine_at(t.vm, at), "ef\0\0", 4), 0);
	close(fd);
	end(&t);
}

Test(virtio_console, output_waits_for_a_client_that_is_slow)
{
	enum { CHUNK = 30000, CHUNKS = 40 };
	static uint8_t sent[CHUNK], got[CHUNK];
	struct vused used;
	struct tty t;
	unsigned done = 0, have = 0;
	int fd;

	prepare(&t);
	begin(&t, 0);
	fd = dial_path(&t, t.options.socket);
	for (unsigned i = 0; i < CHUNKS; i++) {
		for (unsigned j = 0; j < CHUNK; j++)
			sent[j] = (uint8_t)(j * 7 + i);
		vdriver_add_out(&t.d, 1, sent, CHUNK);
	}
	vdriver_kick(&t.d, 1);
	vmachine_turn(t.vm);
	while (vdriver_used(&t.d, 1, &used))
		done++;
	cr_assert_lt(done, CHUNKS, "it waits");
	for (unsigned i = 0; i < CHUNKS; i++) {
		for (have = 0; have < CHUNK;) {
			ssize_t n = read(fd, got + have, CHUNK - have);

			cr_assert(n != 0);
			have += n > 0 ? (unsigned)n : 0;
			vmachine_turn(t.vm);
		}
		for (unsigned j = 0; j < CHUNK; j++)
			cr_assert_eq(got[j], (uint8_t)(j * 7 + i), "chunk %u byte %u", i, j);
	}
	while (vdriver_used(&t.d, 1, &used))
		done++;
	cr_assert_eq(done, CHUNKS);
	close(fd);
	end(&t);
}

Test(virtio_console, a_client_that_leaves_lets_the_guest_go_on)
{
	static uint8_t big[1000000];
	struct vused used;
	struct tty t;
	int fd;

	prepare(&t);
	begin(&t, 0);
	fd = dial_path(&t, t.options.socket);
	vdriver_add_out(&t.d, 1, big, sizeof(big));
	vdriver_kick(&t.d, 1);
	cr_assert(!vdriver_used(&t.d, 1, &used));
	close(fd);
	vmachine_turn(t.vm);
	vmachine_turn(t.vm);
	cr_assert(vdriver_used(&t.d, 1, &used));
	end(&t);
}

static const char two_ports[] = "[{\"socket\":\"%s\"},{\"name\":\"agent\",\"log\":\"%s/log\"}]";

static void prepare_two(struct tty *t)
{
	prepare(t);
	t->options.columns = 100;
	t->options.rows = 30;
	snprintf(t->options.ports, sizeof(t->options.ports), two_ports, t->options.socket, t->dir);
	t->options.socket[0] = '\0';
}

static void finish_two(struct tty *t)
{
	snprintf(t->options.socket, sizeof(t->options.socket), "%s/socket", t->dir);
	end(t);
}

static void send_control(struct tty *t, uint32_t id, uint16_t event, uint16_t value)
{
	const uint16_t message[4] = { (uint16_t)id, 0, event, value };

	vdriver_add_out(&t->d, 3, message, 8);
	vdriver_kick(&t->d, 3);
}

/* The next message that has come, and the text behind it. */
static bool got_control(struct tty *t, uint16_t message[4], char *text)
{
	static const uint32_t size = 64;
	struct vring *r = &t->d.rings[2];
	struct vused used;
	uint64_t at;

	if (!vdriver_used(&t->d, 2, &used))
		return false;
	memcpy(&at, (char *)vmachine_at(t->vm, r->desc) + 16ul * used.id, 8);
	cr_assert_geq(used.len, 8);
	cr_assert_leq(used.len, size);
	memcpy(message, vmachine_at(t->vm, at), 8);
	memset(text, 0, size);
	memcpy(text, vmachine_at(t->vm, at + 8), used.len - 8);
	vdriver_add_in(&t->d, 2, size);
	return true;
}

static void expect_control(struct tty *t, uint32_t id, uint16_t event, uint16_t value,
                           const char *text)
{
	uint16_t m[4];
	char rest[64];

	vmachine_turn(t->vm);
	cr_assert(got_control(t, m, rest), "message %u of port %u", event, id);
	cr_assert(m[0] == id && m[1] == 0 && m[2] == event && m[3] == value, "%u %u %u", m[0], m[2],
	          m[3]);
	if (text)
		cr_assert_str_eq(rest, text);
}

static void expect_no_control(struct tty *t)
{
	uint16_t m[4];
	char rest[64];

	vmachine_turn(t->vm);
	cr_assert(!got_control(t, m, rest), "%u %u %u", m[0], m[2], m[3]);
}

static void greet(struct tty *t)
{
	for (unsigned i = 0; i < 4; i++)
		vdriver_add_in(&t->d, 2, 64);
	vdriver_kick(&t->d, 2);
	expect_no_control(t);
	send_control(t, 0, 0, 1);
	expect_control(t, 0, 1, 0, "");
	expect_control(t, 1, 1, 0, "");
	expect_no_control(t);
	send_control(t, 0, 3, 1);
	expect_control(t, 0, 4, 1, "");
	expect_control(t, 0, 5, 0, "d\0\x1e");
	expect_no_control(t);
	send_control(t, 1, 3, 1);
	expect_control(t, 1, 7, 1, "agent");
	expect_no_control(t);
}

Test(virtio_console, several_ports)
{
	struct vused used;
	struct stat st;
	struct tty t;
	char path[128];
	cJSON *args = cJSON_Parse("{\"columns\":50,\"rows\":20}"), *ret = NULL;
	uint64_t at;
	char *log;
	size_t len;
	int fd;

	prepare_two(&t);
	begin(&t, 3);
	cr_assert_eq(t.d.queues, 6);
	cr_assert_eq(vdriver_config(&t.d, 4, 4), 2);
	greet(&t);
	snprintf(path, sizeof(path), "%s/socket", t.dir);
	fd = dial_path(&t, path);
	expect_control(&t, 0, 6, 1, "");
	say(&t, 1, "console");
	expect(fd, "console");
	say(&t, 5, "agent says");
	vmachine_turn(t.vm);
	snprintf(path, sizeof(path), "%s/log", t.dir);
	wait_until(stat(path, &st) == 0 && st.st_size); /* by a thread of its own */
	cr_assert_eq(io_read_file(path, 100, &log, &len, NULL), 0);
	cr_assert_str_eq(log, "agent says");
	free(log);
	/* Input waits until the guest has it open. */
	cr_assert_eq(write(fd, "in", 2), 2);
	at = vdriver_add_in(&t.d, 0, 64);
	vdriver_kick(&t.d, 0);
	cr_assert(!vdriver_used(&t.d, 0, &used));
	send_control(&t, 0, 6, 1);
	vmachine_turn(t.vm);
	cr_assert_str_eq(vmachine_event(t.vm, "VSERPORT_CHANGE"),
	                 "{\"id\":\"virtio-console0.0\",\"open\":true}");
	cr_assert(vdriver_used(&t.d, 0, &used));
	cr_assert_eq(used.len, 2);
	cr_assert_eq(memcmp(vmachine_at(t.vm, at), "in", 2), 0);
	cr_assert_eq(virtio_console_driver.command(&t.d.v->device, "resize", args, &ret, NULL), 0);
	expect_control(&t, 0, 5, 0, "2\0\x14");
	cr_assert_eq(vdriver_config(&t.d, 0, 2), 50);
	close(fd);
	expect_control(&t, 0, 6, 0, "");
	/* Nonsense is passed over. */
	send_control(&t, 77, 3, 1);
	send_control(&t, 0, 99, 1);
	expect_no_control(&t);
	cr_assert_eq(vdriver_status(&t.d), 15);
	cJSON_Delete(args);
	finish_two(&t);
}

Test(virtio_console, without_multiport_only_the_first_port_works)
{
	struct vused used;
	struct tty t;
	char path[128];
	int fd;

	prepare_two(&t);
	begin(&t, 0);
	snprintf(path, sizeof(path), "%s/socket", t.dir);
	fd = dial_path(&t, path);
	say(&t, 1, "console");
	expect(fd, "console");
	say(&t, 5, "agent says");
	cr_assert(!vdriver_used(&t.d, 5, &used));
	send_control(&t, 0, 0, 1);
	cr_assert(!vdriver_used(&t.d, 3, &used));
	close(fd);
	finish_two(&t);
}

Test(virtio_console, a_control_buffer_that_is_too_small)
{
	struct vused used;
	struct tty t;

	prepare_two(&t);
	begin(&t, 3);
	vdriver_add_in(&t.d, 2, 7);
	send_control(&t, 0, 0, 1);
	vmachine_turn(t.vm);
	cr_assert(!vdriver_used(&t.d, 2, &used));
	cr_assert(vdriver_status(&t.d) & VIRTIO_NEEDS_RESET);
	finish_two(&t);
}

Test(virtio_console, emergency_write_needs_no_driver)
{
	struct tty t;
	int fd;

	prepare(&t);
	begin(&t, 0);
	vdriver_reset(&t.d);
	fd = dial_path(&t, t.options.socket);
	vdriver_config_write(&t.d, 8, 4, '!');
	vdriver_config_write(&t.d, 0, 2, 7);
	vmachine_turn(t.vm);
	expect(fd, "!");
	cr_assert_eq(vdriver_config(&t.d, 0, 2), 0, "read-only");
	close(fd);
	end(&t);
}

Test(virtio_console, by_descriptor)
{
	struct vused used;
	struct tty t;
	uint64_t at;
	int pair[2];

	prepare(&t);
	t.options.socket[0] = '\0';
	snprintf(t.options.fd, sizeof(t.options.fd), "mine");
	cr_assert_null(add(&t));
	cr_assert(strstr(t.vm->error, "\"mine\""), "%s", t.vm->error);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	t.vm->fd = pair[1];
	begin(&t, 0);
	close(pair[1]);
	say(&t, 1, "hello");
	vmachine_turn(t.vm);
	expect(pair[0], "hello");
	cr_assert_eq(write(pair[0], "xy", 2), 2);
	at = vdriver_add_in(&t.d, 0, 64);
	vdriver_kick(&t.d, 0);
	cr_assert(vdriver_used(&t.d, 0, &used));
	cr_assert_eq(memcmp(vmachine_at(t.vm, at), "xy", 3), 0);
	close(pair[0]);
	vmachine_turn(t.vm);
	say(&t, 1, "gone");
	cr_assert(vdriver_used(&t.d, 1, &used));
	finish_two(&t);
}

Test(virtio_console, what_it_says_of_itself)
{
	cJSON *info = cJSON_CreateObject();
	struct tty t;
	char *text, expected[512];

	prepare_two(&t);
	begin(&t, 3);
	greet(&t);
	send_control(&t, 1, 6, 1);
	cr_assert(virtio_console_driver.describe(&t.d.v->device, info));
	text = cJSON_PrintUnformatted(info);
	snprintf(expected, sizeof(expected),
	         "{\"chardevs\":[{\"label\":\"virtio-console0.0\",\"filename\":\"unix:%s/"
	         "socket,server=on\",\"frontend-open\":false},{\"label\":\"virtio-console0.agent\","
	         "\"filename\":\"file:%s/log\",\"frontend-open\":true}]}",
	         t.dir, t.dir);
	cr_assert_str_eq(text, expected);
	free(text);
	cJSON_Delete(info);
	finish_two(&t);
}

Test(virtio_console, options_that_do_not_fit)
{
	static const struct {
		const char *json, *says;
	} bad[] = {
		{ "{}", "not a list" },
		{ "[", "not a list" },
		{ "[]", "no port" },
		{ "[1]", "[0]: not an object" },
		{ "[{},{\"sock\":\"x\"}]", "[1]: no key \"sock\"" },
		{ "[{\"log\":1}]", "[0].log: not a string" },
		{ "[{\"name\":\"a\"},{},{\"name\":\"a\"}]", "[2].name: \"a\" is [0]'s too" },
		{ "[{},{},{},{},{},{},{},{},{}]", "more than 8" },
		{ "[{\"fd\":\"0123456789012345678901234567890123456789\"}]", "longer than 31" },
	};
	struct console_options o = { .ports = "[{}]", .name = "x" };
	struct gw_error err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(console_check_ports(bad[i].json, &err), -EINVAL, "%s", bad[i].json);
		cr_assert(strstr(err.text, bad[i].says), "%s: %s", bad[i].json, err.text);
	}
	cr_assert_eq(console_check_ports("[{},{},{},{},{},{},{},{\"name\":\"z\"}]", &err), 0);
	cr_assert_eq(console_check_host(&o, &err), -EINVAL, "both forms");
	o.name[0] = '\0';
	cr_assert_eq(console_check_host(&o, &err), 0, "%s", err.text);
}

Test(virtio_console, moves_with_what_is_under_way)
{
	static uint8_t big[400000];
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };
	struct vused used;
	struct vdriver there;
	struct tty a, b;
	size_t first = 0, second = 0;
	uint64_t at;
	uint8_t *buf = malloc(sizeof(big));
	ssize_t n;
	int fd, far;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 31 + i / 999);
	prepare(&a);
	prepare(&b);
	begin(&a, 0);
	fd = dial_path(&a, a.options.socket);
	cr_assert_eq(write(fd, "typed", 5), 5);
	vdriver_add_out(&a.d, 1, big, sizeof(big));
	vdriver_kick(&a.d, 1);
	cr_assert(!vdriver_used(&a.d, 1, &used));
	vdriver_save(&a.d, kept);
	cr_assert_eq(write(fd, "later", 5), 5);
	/* What has left the guest is the source's to deliver. */
	for (unsigned i = 0; i < 200; i++) {
		vmachine_turn(a.vm);
		n = read(fd, buf + first, sizeof(big) - first);
		first += n > 0 ? (size_t)n : 0;
	}
	cr_assert_lt(first, sizeof(big), "no more is taken while it stands still");
	cr_assert_eq(memcmp(buf, big, first), 0);
	cr_assert_eq(vdriver_load(&there, b.vm, add(&b), &a.d, kept, &err), 0, "%s", err.text);
	b.d = there;
	far = dial_path(&b, b.options.socket);
	vmachine_run(b.vm);
	for (unsigned i = 0; i < 200; i++) {
		vmachine_turn(b.vm);
		n = read(far, buf + first + second, sizeof(big) - first - second);
		second += n > 0 ? (size_t)n : 0;
	}
	cr_assert_eq(first + second, sizeof(big));
	cr_assert_eq(memcmp(buf, big, sizeof(big)), 0, "no byte lost or doubled");
	cr_assert(vdriver_used(&b.d, 1, &used));
	at = vdriver_add_in(&b.d, 0, 64);
	vdriver_kick(&b.d, 0);
	cr_assert(vdriver_used(&b.d, 0, &used));
	cr_assert_eq(used.len, 5);
	cr_assert_eq(memcmp(vmachine_at(b.vm, at), "typed", 5), 0);
	close(fd);
	close(far);
	free(buf);
	free(kept);
	end(&a);
	end(&b);
}

Test(virtio_console, hostile_state)
{
	static const struct {
		uint8_t bytes[16];
		size_t len;
		const char *says;
	} bad[] = {
		{ { 2 }, 1, "2 ports there" },
		{ { 1, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0 }, 11, "flags" },
		{ { 1, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0 }, 11, "flags" },
		{ { 1, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0 }, 11, "4097 bytes" },
		{ { 1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0 }, 11, "cut short" },
		{ { 1, 0, 0 }, 3, "cut short" },
	};
	struct gw_error err = { 0 };
	struct tty t;

	prepare(&t);
	begin(&t, 0);
	vmachine_pause(t.vm);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct bytes_reader in = { .data = bad[i].bytes, .len = bad[i].len };

		cr_assert_eq(t.d.v->ops->load(t.d.v, &in, &err), -EINVAL, "state %zu", i);
		cr_assert(strstr(err.text, bad[i].says), "%s", err.text);
	}
	end(&t);
}

/* A FIFO: it is not waited for until it has a reader, and when that goes nobody is killed. */
Test(virtio_console, a_log_without_a_reader_holds_up_and_ends_nothing)
{
	struct pollfd p = { .events = POLLIN };
	struct tty t;
	char path[128];
	int reader;

	signal(SIGPIPE, SIG_DFL);
	prepare_two(&t);
	snprintf(path, sizeof(path), "%s/log", t.dir);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_null(add(&t));
	cr_assert_not_null(strstr(t.vm->error, path), "%s", t.vm->error);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	cr_assert_geq(reader, 0);
	begin(&t, 3);
	greet(&t);
	say(&t, 5, "one");
	vmachine_turn(t.vm);
	p.fd = reader;
	cr_assert_eq(poll(&p, 1, patience_ms()), 1);
	expect(reader, "one");
	close(reader);
	say(&t, 5, "two");
	vmachine_turn(t.vm);
	end(&t);
}
