/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/util.h"
#include "guest.h"
#include "vmm/arch.h"
#include "vmm/memory.h"
#include "vmm/vmgenid.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void pause_us(unsigned us)
{
	struct timespec ts = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&ts, NULL);
}

static void on_event(void *opaque, const struct gw_event *event)
{
	struct guest *g = opaque;

	pthread_mutex_lock(&g->lock);
	if (strlen(g->events) + strlen(event->name) + 2 < sizeof(g->events)) {
		strcat(g->events, event->name);
		strcat(g->events, " ");
	}
	pthread_mutex_unlock(&g->lock);
}

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	(void)opaque;
	if (level <= GW_LOG_WARN)
		fprintf(stderr, "  log: %s\n", text);
}

struct guest *guest_new(void)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct gw_callbacks callbacks = { .opaque = g, .event = on_event, .log = on_log };
	struct gw_error err_;

	cr_assert(g);
	pthread_mutex_init(&g->lock, NULL);
	strcpy(g->dir, "/tmp/godwit-test-XXXXXX");
	cr_assert(mkdtemp(g->dir), "mkdtemp %s", g->dir);
	cr_assert(gw_vm_new(&callbacks, &g->vm, &err_) == 0, "%s", err_.text);
	return g;
}

void guest_image(const char *name, char *out, size_t size)
{
	const char *guests = getenv("GODWIT_GUESTS");

	snprintf(out, size, "%s/%s." GUEST_SUFFIX, guests ? guests : "build/tests/guests", name);
}

int guest_configure(struct guest *g, const char *name, unsigned cpus, unsigned memory_mib,
                    const char *more, struct gw_error *err)
{
	char json[1024], image[256];

	guest_image(name, image, sizeof(image));
	snprintf(json, sizeof(json),
	         "{\"name\":\"%s\",\"cpus\":%u,\"memory\":\"%uM\",\"boot\":{\"kernel\":\"%s\"},"
	         "\"serial\":{\"log\":\"%s/out\"}%s%s}",
	         name, cpus, memory_mib, image, g->dir, *more ? "," : "", more);
	return gw_vm_configure(g->vm, json, name, err);
}

struct guest *guest_made(const char *name, unsigned cpus, unsigned memory_mib, const char *more)
{
	struct guest *g = guest_new();
	struct gw_error err_;

	cr_assert(guest_configure(g, name, cpus, memory_mib, more, &err_) == 0, "%s", err_.text);
	return g;
}

struct guest *guest_boot(const char *name, unsigned cpus, unsigned memory_mib)
{
	return guest_made(name, cpus, memory_mib, "");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void guest_free(struct guest *g)
{
	gw_vm_free(g->vm);
	nftw(g->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* No more than its first 64 KiB. */
const char *guest_output(struct guest *g)
{
	static __thread char text[65536];
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/out", g->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[MAX(n, 0)] = 0;
	return text;
}

void guest_await(struct guest *g, const char *text)
{
	wait_turning(strstr(guest_output(g), text), pause_us(1000),
	             "the guest has not printed \"%s\" but \"%s\"", text, guest_output(g));
}

static bool has_event(struct guest *g, const char *name)
{
	bool has;

	pthread_mutex_lock(&g->lock);
	has = strstr(g->events, name);
	pthread_mutex_unlock(&g->lock);
	return has;
}

static bool has_behind(struct guest *g, const char *first, const char *then)
{
	const char *at;

	pthread_mutex_lock(&g->lock);
	at = strstr(g->events, first);
	at = at ? strstr(at, then) : NULL;
	pthread_mutex_unlock(&g->lock);
	return at;
}

void guest_await_behind(struct guest *g, const char *first, const char *then)
{
	wait_turning(has_behind(g, first, then), pause_us(1000), "no event %s behind %s but %s",
	             then, first, g->events);
}

void guest_await_event(struct guest *g, const char *name)
{
	wait_turning(has_event(g, name), pause_us(1000), "no event %s but %s", name, g->events);
}

void guest_await_end(struct guest *g)
{
	struct gw_error err_;

	cr_assert(gw_vm_wait(g->vm, patience_ms(), &err_) == 0, "%s; output \"%s\"", err_.text,
	          guest_output(g));
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_SHUTDOWN, "state %s",
	             gw_state_name(gw_vm_state(g->vm)));
}

bool guest_migration_is(struct guest *g, const char *status)
{
	char *json, want[64];
	bool yes;

	snprintf(want, sizeof(want), "\"status\":\"%s\"", status);
	cr_assert(gw_vm_query_migrate(g->vm, &json, NULL) == 0);
	yes = strstr(json, want);
	gw_free(json);
	return yes;
}

static bool has_migrated(struct guest *g, char *text, size_t size)
{
	char *json;

	cr_assert(gw_vm_query_migrate(g->vm, &json, NULL) == 0);
	snprintf(text, size, "%s", json);
	gw_free(json);
	return strstr(text, "\"status\":\"completed\"") || strstr(text, "\"status\":\"failed\"") ||
	       strstr(text, "\"status\":\"cancelled\"");
}

void guest_await_migrated(struct guest *g, char *text, size_t size)
{
	wait_turning(has_migrated(g, text, size), pause_us(1000), "no end: %s", text);
}

void guest_fill(struct guest *g)
{
	void *hva = memory_hva(g->vm->machine->memory, GUEST_RAM + (32 << 20), 64 << 20);

	cr_assert(hva);
	memset(hva, 0x55, 64 << 20);
}

void guest_run_us(struct guest *g, unsigned us)
{
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	pause_us(us);
	if (gw_vm_state(g->vm) == GW_STATE_RUNNING)
		gw_vm_stop(g->vm, &err_);
}

/* ---- saving ---------------------------------------------------------------------- */

void guest_save(struct guest *g)
{
	struct gw_error err_;
	char dir[128];

	snprintf(dir, sizeof(dir), "%s/snap", g->dir);
	cr_assert(gw_vm_save(g->vm, dir, &err_) == 0, "%s", err_.text);
}

struct guest *guest_restored(struct guest *from, bool run)
{
	struct guest *g = guest_new();
	struct gw_map map[] = { { "serial.log", NULL } };
	struct gw_error err_;
	char dir[128], log[128];

	snprintf(dir, sizeof(dir), "%s/snap", from->dir);
	snprintf(log, sizeof(log), "%s/out", g->dir);
	map[0].value = log;
	cr_assert(gw_vm_restore(g->vm, dir, map, 1, run, &err_) == 0, "%s", err_.text);
	return g;
}

/* ---- comparing ------------------------------------------------------------------- */

static void compare_memory(struct machine *a, struct machine *b)
{
	cr_assert_eq(memory_region_count(a->memory), memory_region_count(b->memory));
	for (size_t i = 0; i < memory_region_count(a->memory); i++) {
		const struct ram_region *ra = memory_region(a->memory, i);
		const struct ram_region *rb = memory_region(b->memory, i);

		cr_assert_eq(ra->size, rb->size);
		for (uint64_t at = 0; at < ra->size; at += PAGE_SIZE) {
			size_t skip =
			        ra->gpa + at == arch_platform.generation_id ? VMGENID_SIZE : 0;

			cr_assert(
			        !memcmp(ra->hva + at + skip, rb->hva + at + skip, PAGE_SIZE - skip),
			        "page at 0x%llx differs", (unsigned long long)(ra->gpa + at));
		}
	}
}

bool guest_same_generation(struct guest *a, struct guest *b)
{
	uint8_t ia[VMGENID_SIZE], ib[VMGENID_SIZE];

	memory_read(a->vm->machine->memory, arch_platform.generation_id, ia, sizeof(ia));
	memory_read(b->vm->machine->memory, arch_platform.generation_id, ib, sizeof(ib));
	return !memcmp(ia, ib, sizeof(ia));
}

void guest_compare(struct guest *a, struct guest *b)
{
	guest_compare_chips(a->vm->machine, b->vm->machine);
	compare_memory(a->vm->machine, b->vm->machine);
}

unsigned next_random(unsigned *state, unsigned limit)
{
	*state = *state * 1664525u + 1013904223u;
	return (unsigned)((uint64_t)*state * limit >> 32);
}
