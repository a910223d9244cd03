/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM inside a program that has an event loop of its own: made from a
 * configuration as text, run for a moment, stopped, saved to a directory,
 * and restored into a second VM, which runs to the guest's end.
 *
 * All of the VM's own work is done by the poll() loop below; vCPUs have
 * threads of their own. Events come on any thread, so the callback only
 * writes to a pipe that the loop watches.
 *
 * usage: embed GUEST      (tests/guests/x86/mixer.S, tests/guests/arm64/mixer.S)
 */
#include <fcntl.h>
#include <godwit.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS 50
#define LIMIT_MS 120000

static struct gw_error error;

static void check(int r)
{
	if (r < 0) {
		fprintf(stderr, "embed: %s\n", error.text);
		exit(1);
	}
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000l + ts.tv_nsec / 1000000;
}

/* ---- callbacks: any thread, and quickly ---------------------------------------------------- */

struct program {
	int events[2]; /* a pipe: a line an event */
};

static void on_event(void *opaque, const struct gw_event *event)
{
	const struct program *p = opaque;
	char line[256];
	int n = snprintf(line, sizeof(line), "%s %s\n", event->name, event->data);

	/* Lines of less than PIPE_BUF bytes do not mix. A full pipe loses the event. */
	if (n > 0 && (size_t)n < sizeof(line) && write(p->events[1], line, (size_t)n) < 0)
		return;
}

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	(void)opaque;
	if (level <= GW_LOG_WARN)
		fprintf(stderr, "embed: %s\n", text);
}

/* ---- the event loop ----------------------------------------------------------------------------
 */

static void print_events(const struct program *p)
{
	char buf[512];
	ssize_t n = read(p->events[0], buf, sizeof(buf));

	if (n > 0)
		fwrite(buf, 1, (size_t)n, stdout);
}

/* Until the guest has ended, or `ms` are over. True: it has ended. */
static bool run_loop(const struct program *p, struct gw_vm *vm, long ms)
{
	const long end = now_ms() + ms;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = gw_vm_fd(vm), .events = POLLIN },
			{ .fd = p->events[0], .events = POLLIN },
		};
		const enum gw_state state = gw_vm_state(vm);
		const long left = end - now_ms();

		if (state == GW_STATE_SHUTDOWN || state == GW_STATE_INTERNAL_ERROR)
			return true;
		if (left <= 0)
			return false;
		if (poll(fds, 2, (int)left) <= 0)
			continue;
		if (fds[0].revents)
			check(gw_vm_dispatch(vm, 0, &error));
		if (fds[1].revents)
			print_events(p);
	}
}

static struct gw_vm *new_vm(struct program *p)
{
	const struct gw_callbacks callbacks = { .opaque = p, .event = on_event, .log = on_log };
	const struct gw_options options = {
		.size = sizeof(options),
		.callbacks = &callbacks,
		.external_loop = true,
	};
	struct gw_vm *vm;

	check(gw_vm_new_with(&options, &vm, &error));
	return vm;
}

/* ---- what it does with it
 * ------------------------------------------------------------------------ */

/* The first VM: up to a snapshot of the running guest. */
static void run_and_save(struct program *p, const char *json, const char *snapshot)
{
	struct gw_vm *vm = new_vm(p);

	check(gw_vm_configure(vm, json, "embed", &error));
	check(gw_vm_cont(vm, false, &error));
	if (run_loop(p, vm, RUN_MS)) {
		fprintf(stderr, "embed: the guest has ended early\n");
		exit(1);
	}
	check(gw_vm_stop(vm, &error));
	check(gw_vm_save(vm, snapshot, &error));
	gw_vm_free(vm);
}

/* The second one: from there to its end. */
static void restore_and_finish(struct program *p, const char *snapshot)
{
	struct gw_vm *vm = new_vm(p);

	check(gw_vm_restore(vm, snapshot, NULL, 0, false, &error));
	check(gw_vm_cont(vm, false, &error));
	if (!run_loop(p, vm, LIMIT_MS) || gw_vm_state(vm) != GW_STATE_SHUTDOWN) {
		fprintf(stderr, "embed: state %s\n", gw_state_name(gw_vm_state(vm)));
		exit(1);
	}
	gw_vm_free(vm);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/embed-XXXXXX", snapshot[64], out[64], text[1024];
	struct program p;
	size_t n = 0;
	FILE *file;

	if (argc != 2 || !mkdtemp(dir) || pipe2(p.events, O_CLOEXEC | O_NONBLOCK)) {
		fprintf(stderr, "usage: embed GUEST\n");
		return 2;
	}
	snprintf(snapshot, sizeof(snapshot), "%s/snapshot", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	snprintf(text, sizeof(text),
	         "{\"memory\":\"32M\",\"boot\":{\"kernel\":\"%s\"},\"serial\":{\"log\":\"%s\"}}",
	         argv[1], out);

	run_and_save(&p, text, snapshot);
	restore_and_finish(&p, snapshot);
	print_events(&p);

	/* What the guest has printed: "S", and a checksum of all that it did. */
	file = fopen(out, "r");
	if (file) {
		n = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[n] = 0;
	printf("guest: %s", text);
	snprintf(text, sizeof(text), "rm -r %s", dir);
	return system(text) || n != 19;
}
