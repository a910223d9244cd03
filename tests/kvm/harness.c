/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/util.h"
#include "vmm/memory.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/vmgenid.h"
#include "vmm/x86/x86.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS 60000
#define MSR_TSC 0x10
#define MSR_HV_VP_RUNTIME 0x40000010 /* counts the thread's time, also in reading it */

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

struct guest *guest_boot(const char *name, unsigned cpus, unsigned memory_mib)
{
	const char *guests = getenv("GODWIT_GUESTS");
	struct guest *g = guest_new();
	struct gw_error err_;
	char json[1024];

	snprintf(json, sizeof(json),
	         "{\"name\":\"%s\",\"cpus\":%u,\"memory\":\"%uM\",\"boot\":{\"kernel\":\"%s/"
	         "%s.elf\"},"
	         "\"serial\":{\"log\":\"%s/out\"}}",
	         name, cpus, memory_mib, guests ? guests : "build/tests/guests", name, g->dir);
	cr_assert(gw_vm_configure(g->vm, json, name, &err_) == 0, "%s", err_.text);
	return g;
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
	int64_t end = now_ms() + LIMIT_MS;

	while (!strstr(guest_output(g), text)) {
		cr_assert(now_ms() < end, "the guest has not printed \"%s\" but \"%s\"", text,
		          guest_output(g));
		pause_us(1000);
	}
}

void guest_await_event(struct guest *g, const char *name)
{
	int64_t end = now_ms() + LIMIT_MS;
	bool seen = false;

	while (!seen) {
		pthread_mutex_lock(&g->lock);
		seen = strstr(g->events, name);
		pthread_mutex_unlock(&g->lock);
		cr_assert(seen || now_ms() < end, "no event %s but %s", name, g->events);
		pause_us(1000);
	}
}

void guest_await_end(struct guest *g)
{
	struct gw_error err_;

	cr_assert(gw_vm_wait(g->vm, 2 * LIMIT_MS, &err_) == 0, "%s; output \"%s\"", err_.text,
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

void guest_fill(struct guest *g)
{
	void *hva = memory_hva(g->vm->machine->memory, 32 << 20, 64 << 20);

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

/* ---- comparing ------------------------------------------------------------------- */

/* What moves by itself while a vCPU stands still: the TSC, and what counts down with it. */
static void mask_time(struct vcpu_state *s)
{
	for (size_t i = 0; i < VCPU_STATE_ROWS; i++) {
		struct kvm_msr_entry *e = s->blob[i];

		if (s->len[i] == sizeof(struct kvm_lapic_state))
			memset((char *)s->blob[i] + 0x390, 0, 4); /* current count */
		if (!s->blob[i] || s->len[i] % sizeof(*e))
			continue;
		for (size_t n = 0; n < s->len[i] / sizeof(*e); n++)
			if (e[n].index == MSR_TSC || e[n].index == MSR_HV_VP_RUNTIME)
				e[n].data = 0;
	}
}

static void compare_vcpus(struct machine *a, struct machine *b)
{
	cr_assert_eq(a->vcpu_count, b->vcpu_count);
	for (unsigned v = 0; v < a->vcpu_count; v++) {
		struct vcpu_state sa, sb;
		struct gw_error err_;

		cr_assert(vcpu_state_get(a->vcpus[v], &sa, &err_) == 0, "%s", err_.text);
		cr_assert(vcpu_state_get(b->vcpus[v], &sb, &err_) == 0, "%s", err_.text);
		mask_time(&sa);
		mask_time(&sb);
		for (size_t i = 0; i < VCPU_STATE_ROWS; i++) {
			cr_assert_eq(sa.len[i], sb.len[i], "vcpu%u, row %zu: %zu and %zu bytes", v,
			             i, sa.len[i], sb.len[i]);
			for (size_t n = 0; n < sa.len[i]; n++)
				cr_assert_eq(((uint8_t *)sa.blob[i])[n], ((uint8_t *)sb.blob[i])[n],
				             "vcpu%u, row %zu differs at byte %zu (in MSRs: 0x%x)",
				             v, i, n,
				             *(uint32_t *)((char *)sa.blob[i] + n / 16 * 16));
		}
		vcpu_state_free(&sa);
		vcpu_state_free(&sb);
	}
}

static void compare_memory(struct machine *a, struct machine *b)
{
	cr_assert_eq(memory_region_count(a->memory), memory_region_count(b->memory));
	for (size_t i = 0; i < memory_region_count(a->memory); i++) {
		const struct ram_region *ra = memory_region(a->memory, i);
		const struct ram_region *rb = memory_region(b->memory, i);

		cr_assert_eq(ra->size, rb->size);
		for (uint64_t at = 0; at < ra->size; at += PAGE_SIZE) {
			size_t skip = ra->gpa + at == LAYOUT_VMGENID ? VMGENID_SIZE : 0;

			cr_assert(
			        !memcmp(ra->hva + at + skip, rb->hva + at + skip, PAGE_SIZE - skip),
			        "page at 0x%llx differs", (unsigned long long)(ra->gpa + at));
		}
	}
}

bool guest_same_generation(struct guest *a, struct guest *b)
{
	uint8_t ia[VMGENID_SIZE], ib[VMGENID_SIZE];

	memory_read(a->vm->machine->memory, LAYOUT_VMGENID, ia, sizeof(ia));
	memory_read(b->vm->machine->memory, LAYOUT_VMGENID, ib, sizeof(ib));
	return !memcmp(ia, ib, sizeof(ia));
}

void guest_compare(struct guest *a, struct guest *b)
{
	compare_vcpus(a->vm->machine, b->vm->machine);
	compare_memory(a->vm->machine, b->vm->machine);
}

unsigned next_random(unsigned *state, unsigned limit)
{
	*state = *state * 1664525u + 1013904223u;
	return (unsigned)((uint64_t)*state * limit >> 32);
}
