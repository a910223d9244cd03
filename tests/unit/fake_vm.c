/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_vm.h"
#include "patience.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEVICE_PRECOPY 4
#define DEVICE_FINAL 3

static const char *const op_names[FAKE_OPS] = {
	"none",       "prepare",  "pending",      "iterate",    "quiesce",    "stop",
	"save",       "finish",   "answer-again", "rollback",   "begin-load", "load",
	"load-pages", "map-file", "settle",       "answer-dma", "run",        "discard",
	"stop-guest", "build",    "handed-over",  "claim",
};

const char *fake_op_name(enum fake_op op)
{
	return op_names[op];
}

static void append(struct fake_vm *vm, char *to, size_t size, const char *a, const char *b)
{
	size_t len;

	pthread_mutex_lock(&vm->lock);
	len = strlen(to);
	snprintf(to + len, size - len, "%s%s%s ", a, *b ? "." : "", b);
	pthread_mutex_unlock(&vm->lock);
}

/* Every call begins here: it is noted, and does what was asked for. */
static int enter(struct fake_vm *vm, const char *name, enum fake_op op, struct gw_error *err)
{
	bool fails;

	if (op != OP_PENDING)
		append(vm, vm->trace, sizeof(vm->trace), name, op_names[op]);
	if (op && __sync_bool_compare_and_swap(&vm->cancel_op, op, OP_NONE))
		migration_cancel(vm->mig, NULL);
	pthread_mutex_lock(&vm->lock);
	fails = (op == vm->fail_op && (!vm->fail_at || !strcmp(vm->fail_at, name))) ||
	        (op && op == vm->fail_too);
	pthread_mutex_unlock(&vm->lock);
	return fails ? error_set(err, -EIO, "it broke") : 0;
}

bool fake_vm_did(struct fake_vm *vm, const char *what)
{
	bool did;

	pthread_mutex_lock(&vm->lock);
	did = strstr(vm->trace, what);
	pthread_mutex_unlock(&vm->lock);
	return did;
}

void fake_vm_fail(struct fake_vm *vm, enum fake_op op, const char *at)
{
	pthread_mutex_lock(&vm->lock);
	vm->fail_op = op;
	vm->fail_at = at;
	pthread_mutex_unlock(&vm->lock);
}

static struct fake_part *part_of(struct participant *p)
{
	return container_of(p, struct fake_part, p);
}

static int step(struct participant *p, enum fake_op op, enum fake_state state, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, op, err);

	if (!r)
		part->state = state;
	return r;
}

/* ---- calls that all have ------------------------------------------------------------ */

static const char *part_blocker(struct participant *p)
{
	return part_of(p)->vm->blocker;
}

static const char *part_live_blocker(struct participant *p)
{
	return part_of(p)->vm->live_blocker;
}

static int part_prepare(struct participant *p, bool live, struct gw_error *err)
{
	(void)live;
	part_of(p)->sent = 0;
	return step(p, OP_PREPARE, PREPARED, err);
}

static int part_pending(struct participant *p, enum pending_effort effort,
                        struct participant_pending *out, struct gw_error *err)
{
	(void)effort;
	*out = (struct participant_pending){ .stop = 8 };
	return enter(part_of(p)->vm, p->name, OP_PENDING, err);
}

static int part_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	(void)sink;
	return enter(part_of(p)->vm, p->name, OP_ITERATE, err);
}

static int part_quiesce(struct participant *p, struct gw_error *err)
{
	return step(p, OP_QUIESCE, QUIESCED, err);
}

static int part_stop(struct participant *p, struct gw_error *err)
{
	return step(p, OP_STOP, STOPPED, err);
}

static int part_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_SAVE, err);

	return r ? r : sink_record(sink, p, 1, &part->value, 8, err);
}

static void part_finish(struct participant *p, bool goes_on)
{
	step(p, OP_FINISH, goes_on ? AT_REST : FINISHED, NULL);
}

static int part_answer_again(struct participant *p, struct gw_error *err)
{
	return step(p, OP_ANSWER_AGAIN, ANSWERS, err);
}

static int part_rollback(struct participant *p, struct gw_error *err)
{
	return step(p, OP_ROLLBACK, AT_REST, err);
}

static int part_begin_load(struct participant *p, struct gw_error *err)
{
	return step(p, OP_BEGIN_LOAD, LOADING, err);
}

static int part_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                     size_t len, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_LOAD, err);

	if (r < 0)
		return r;
	if (part->state != LOADING || version != 1 || type != 1 || len != 8)
		return error_set(err, -EINVAL, "not its record");
	memcpy(&part->value, buf, 8);
	return 0;
}

static int part_settle(struct participant *p, struct gw_error *err)
{
	return step(p, OP_SETTLE, SETTLED, err);
}

static int part_resume(struct participant *p, int pass, struct gw_error *err)
{
	return pass ? step(p, OP_RUN, RUNS, err) : step(p, OP_ANSWER_DMA, ANSWERS, err);
}

static void part_discard(struct participant *p)
{
	step(p, OP_DISCARD, DISCARDED, NULL);
}

/* ---- RAM -------------------------------------------------------------------------------- */

static uint64_t gpa_of(unsigned page)
{
	return page < FAKE_SPLIT ? FAKE_BASE + page * PAGE_SIZE
	                         : FAKE_HIGH + (page - FAKE_SPLIT) * PAGE_SIZE;
}

/* The page at a gpa, if `count` from there on are RAM; -1. */
static int page_at(uint64_t gpa, uint64_t count)
{
	unsigned first = gpa >= FAKE_HIGH ? FAKE_SPLIT : 0;
	unsigned end = first ? FAKE_PAGES : FAKE_SPLIT;
	uint64_t page = first + (gpa - gpa_of(first)) / PAGE_SIZE;

	if (gpa < gpa_of(first) || gpa % PAGE_SIZE || page >= end || count > end - page)
		return -1;
	return (int)page;
}

static void write_page(struct fake_vm *vm, unsigned page, uint64_t value)
{
	memcpy(vm->mem + page * PAGE_SIZE + 8 * (value % 512), &value, 8);
	vm->logged[page] = true;
}

static uint64_t ram_size(struct participant *p)
{
	(void)p;
	return FAKE_PAGES * PAGE_SIZE;
}

static int ram_prepare(struct participant *p, bool live, struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;
	int r = part_prepare(p, live, err);

	if (r < 0)
		return r;
	vm->tracking = live;
	memset(vm->dirty, 1, sizeof(vm->dirty));
	return 0;
}

static unsigned sync_log(struct fake_vm *vm)
{
	unsigned dirty = 0;

	for (unsigned i = 0; i < FAKE_PAGES; i++) {
		vm->dirty[i] |= vm->logged[i];
		vm->logged[i] = false;
		dirty += vm->dirty[i];
	}
	return dirty;
}

static int ram_pending(struct participant *p, enum pending_effort effort,
                       struct participant_pending *out, struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;
	unsigned dirty = 0;

	*out = (struct participant_pending){ 0 };
	if (effort == PENDING_EXACT) {
		if (!vm->never_converges && vm->dirty_per_sync)
			vm->dirty_per_sync /= 2;
		/* The guest, at work, makes pages and clears some. */
		for (unsigned i = 0; vm->runs && i < vm->dirty_per_sync; i++)
			write_page(vm, (i * 7) % FAKE_PAGES, vm->dirty_per_sync + i);
		if (vm->runs) {
			memset(vm->mem + 5 * PAGE_SIZE, 0, PAGE_SIZE);
			vm->logged[5] = true;
		}
		sync_log(vm);
	}
	for (unsigned i = 0; i < FAKE_PAGES; i++)
		dirty += vm->dirty[i];
	out->precopy = dirty * PAGE_SIZE;
	return enter(vm, p->name, OP_PENDING, err);
}

static int send_pages(struct participant *p, struct sink *sink, bool may_pause,
                      struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;

	for (unsigned i = 0, n; i < FAKE_PAGES; i += n) {
		int r;

		for (n = 0; i + n < FAKE_PAGES && vm->dirty[i + n] && (!n || i + n != FAKE_SPLIT);
		     n++)
			vm->dirty[i + n] = false;
		if (!n) {
			n = 1;
			continue;
		}
		r = sink->ops->pages(sink, p, gpa_of(i), vm->mem + i * PAGE_SIZE, n, err);
		if (r < 0)
			return r;
		if (may_pause && sink->ops->pause_wanted(sink))
			return 1;
	}
	return 0;
}

static int ram_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	int r = part_iterate(p, sink, err);

	return r ? r : send_pages(p, sink, true, err);
}

static int ram_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;
	int r = enter(vm, p->name, OP_SAVE, err);

	if (r < 0)
		return r;
	vm->last_dirty = sync_log(vm);
	if (sink->ops->last_pass && vm->tracking)
		sink->ops->last_pass(sink, vm->last_dirty);
	return send_pages(p, sink, false, err);
}

static void ram_finish(struct participant *p, bool goes_on)
{
	part_of(p)->vm->tracking = false;
	part_finish(p, goes_on);
}

static int ram_rollback(struct participant *p, struct gw_error *err)
{
	part_of(p)->vm->tracking = false;
	return part_rollback(p, err);
}

static int ram_load_pages(struct participant *p, uint64_t gpa, const void *data, size_t count,
                          struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;
	int page = page_at(gpa, count);
	int r = enter(vm, p->name, OP_LOAD_PAGES, err);

	if (r < 0)
		return r;
	if (page < 0 || part_of(p)->state != LOADING)
		return error_set(err, -EINVAL, "no RAM there");
	if (data)
		memcpy(vm->mem + (unsigned)page * PAGE_SIZE, data, count * PAGE_SIZE);
	else
		memset(vm->mem + (unsigned)page * PAGE_SIZE, 0, count * PAGE_SIZE);
	return 0;
}

static int ram_map_file(struct participant *p, uint64_t gpa, uint64_t size, int fd, uint64_t offset,
                        struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;
	int page = page_at(gpa, size / PAGE_SIZE);
	int r = enter(vm, p->name, OP_MAP_FILE, err);

	if (r < 0)
		return r;
	if (page < 0 || offset % PAGE_SIZE ||
	    pread(fd, vm->mem + (unsigned)page * PAGE_SIZE, size, (off_t)offset) != (ssize_t)size)
		return error_set(err, -EINVAL, "cannot be mapped");
	return 0;
}

/* ---- a boot image: sent once, while the guest runs ------------------------------------------ */

static int boot_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_ITERATE, err);

	return r || part->sent++ ? r : sink_record(sink, p, 1, &part->value, 8, err);
}

static int boot_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_SAVE, err);

	return r || part->sent++ ? r : sink_record(sink, p, 1, &part->value, 8, err);
}

/* ---- the device ------------------------------------------------------------------------------ */

/* Record `n` of the device; the last of the final ones is as long as may be. */
static size_t device_record(const struct fake_part *part, unsigned n, uint8_t *buf)
{
	size_t len = n == DEVICE_PRECOPY + DEVICE_FINAL - 1 ? RECORD_MAX : 3000 + n;

	memset(buf, (int)(part->value + n), len);
	memcpy(buf, &n, sizeof(n));
	return len;
}

static int device_send(struct fake_part *part, struct sink *sink, uint16_t type,
                       struct gw_error *err)
{
	autofree uint8_t *buf = malloc(RECORD_MAX);
	size_t len;
	int r;

	if (!buf)
		return error_set(err, -ENOMEM, "out of memory");
	len = device_record(part, part->sent, buf);
	/* In two pieces, as a driver with a header of its own does it. */
	r = sink->ops->record(sink, &part->p, type, buf, 16, buf + 16, len - 16, err);
	part->sent += r == 0;
	return r;
}

static int device_pending(struct participant *p, enum pending_effort effort,
                          struct participant_pending *out, struct gw_error *err)
{
	struct fake_part *part = part_of(p);

	(void)effort;
	*out = (struct participant_pending){ .stop = 3000 };
	out->not_yet = part->sent < DEVICE_PRECOPY;
	out->precopy = out->not_yet ? 3000 : 0;
	return enter(part->vm, p->name, OP_PENDING, err);
}

static int device_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_ITERATE, err);

	for (int i = 0; i < 2 && !r && part->sent < DEVICE_PRECOPY; i++)
		r = device_send(part, sink, 1, err);
	return r;
}

/* Its DMA goes on until here: the last dirty sync must be later. */
static int device_stop(struct participant *p, struct gw_error *err)
{
	struct fake_vm *vm = part_of(p)->vm;

	write_page(vm, 77, 0xdada);
	write_page(vm, 200, 0xbaba);
	return part_stop(p, err);
}

static int device_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	int r = enter(part->vm, p->name, OP_SAVE, err);

	for (size_t i = 0; !r && i < FAKE_PARTS; i++)
		if (part->vm->parts[i].state != STOPPED)
			r = error_set(err, -EPROTO, "%s has not stopped",
			              part->vm->parts[i].p.name);
	while (!r && part->sent < DEVICE_PRECOPY + DEVICE_FINAL)
		r = device_send(part, sink, 2, err);
	return r ? r : sink_record(sink, p, 3, &part->value, 8, err);
}

static int device_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                       size_t len, struct gw_error *err)
{
	struct fake_part *part = part_of(p);
	autofree uint8_t *want = malloc(RECORD_MAX);
	int r = want ? enter(part->vm, p->name, OP_LOAD, err)
	             : error_set(err, -ENOMEM, "out of memory");

	(void)version;
	while (__atomic_load_n(&part->vm->hold_load, __ATOMIC_ACQUIRE))
		usleep(1000);
	if (r < 0)
		return r;
	if (type == 3 && len == 8) {
		memcpy(&part->value, buf, 8);
		part->ended = true;
		return 0;
	}
	if (part->state != LOADING || len != device_record(part, part->received, want) ||
	    memcmp(buf, want, len))
		return error_set(err, -EINVAL, "record %u is not the next", part->received);
	part->received++;
	return 0;
}

static int device_settle(struct participant *p, struct gw_error *err)
{
	struct fake_part *part = part_of(p);

	if (!part->ended || part->received != DEVICE_PRECOPY + DEVICE_FINAL)
		return error_set(err, -EINVAL, "%u records", part->received);
	return part_settle(p, err);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static const struct participant_ops plain = {
	.kind = "plain",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.blocker = NULL,
	.prepare = part_prepare,
	.pending = part_pending,
	.iterate = part_iterate,
	.quiesce = part_quiesce,
	.stop = part_stop,
	.save = part_save,
	.finish = part_finish,
	.answer_again = part_answer_again,
	.rollback = part_rollback,
	.begin_load = part_begin_load,
	.load = part_load,
	.settle = part_settle,
	.resume = part_resume,
	.discard = part_discard,
};

/* Registered in an order that is none of the sequencer's. */
static const struct {
	const char *name;
	enum participant_class class;
} rows[FAKE_PARTS] = {
	{ "clock", PARTICIPANT_CLOCK },     { "cpu0", PARTICIPANT_VCPU },
	{ "tty", PARTICIPANT_PASSTHROUGH }, { "chip", PARTICIPANT_CHIP },
	{ "cpu1", PARTICIPANT_VCPU },       { "ram", PARTICIPANT_RAM },
	{ "nic", PARTICIPANT_PASSTHROUGH }, { "disk", PARTICIPANT_DEVICE },
	{ "boot", PARTICIPANT_BOOT },
};

static void special_ops(struct fake_part *part)
{
	struct participant_ops *o = &part->ops;

	switch (o->class) {
	case PARTICIPANT_RAM:
		o->kind = "ram";
		o->ram_size = ram_size;
		o->prepare = ram_prepare;
		o->pending = ram_pending;
		o->iterate = ram_iterate;
		o->save = ram_save;
		o->finish = ram_finish;
		o->rollback = ram_rollback;
		o->load = NULL;
		o->load_pages = ram_load_pages;
		o->map_file = ram_map_file;
		break;
	case PARTICIPANT_BOOT:
		o->iterate = boot_iterate;
		o->save = boot_save;
		break;
	case PARTICIPANT_PASSTHROUGH:
		if (strcmp(part->p.name, "tty"))
			break;
		o->kind = "vfio-pci";
		o->blocker = part_blocker;
		o->live_blocker = part_live_blocker;
		o->pending = device_pending;
		o->iterate = device_iterate;
		o->stop = device_stop;
		o->save = device_save;
		o->load = device_load;
		o->settle = device_settle;
		break;
	default:
		break;
	}
}

static void make_parts(struct fake_vm *vm)
{
	vm->list.first = NULL;
	vm->complete = true;
	for (size_t i = 0; i < FAKE_PARTS; i++) {
		struct fake_part *part = &vm->parts[i];

		*part = (struct fake_part){ .ops = plain, .vm = vm };
		part->ops.class = rows[i].class;
		part->p.ops = &part->ops;
		snprintf(part->p.name, sizeof(part->p.name), "%s", rows[i].name);
		special_ops(part);
		/* The device's records are made from its value, and RAM has none. */
		part->value = vm->destination && part->ops.load == part_load ? 0 : 100 + i;
		participant_add(&vm->list, &part->p, NULL);
	}
}

/* ---- the host
 * ------------------------------------------------------------------------------------- */

static void set_runs(struct fake_vm *vm, bool runs)
{
	int now;

	if (vm->runs == runs)
		return;
	vm->runs = runs;
	now = __atomic_add_fetch(&vm->tally->now, runs ? 1 : -1, __ATOMIC_SEQ_CST);
	if (now > __atomic_load_n(&vm->tally->most, __ATOMIC_SEQ_CST))
		__atomic_store_n(&vm->tally->most, now, __ATOMIC_SEQ_CST);
}

static struct participant_list *host_participants(void *opaque)
{
	struct fake_vm *vm = opaque;

	return vm->complete ? &vm->list : NULL;
}

static void host_with_participants(void *opaque,
                                   void (*look)(void *arg, const struct participant_list *list),
                                   void *arg)
{
	struct fake_vm *vm = opaque;

	if (vm->complete && !vm->destination)
		look(arg, &vm->list);
}

static char *host_config(void *opaque)
{
	(void)opaque;
	return strdup("{\"name\":\"fake\"}");
}

static int host_stop_guest(void *opaque, enum gw_state state, bool *was_running,
                           struct gw_error *err)
{
	struct fake_vm *vm = opaque;
	int r = enter(vm, "host", OP_STOP_GUEST, err);

	(void)state;
	if (r < 0)
		return r;
	*was_running = vm->was_running = vm->runs;
	set_runs(vm, false);
	return 0;
}

static void host_resume_guest(void *opaque)
{
	struct fake_vm *vm = opaque;

	vm->handed_over = false;
	set_runs(vm, vm->was_running);
}

static void host_handed_over(void *opaque)
{
	struct fake_vm *vm = opaque;

	vm->handed_over = true;
	if (vm->at_hand_over)
		vm->at_hand_over(vm->hand_over_opaque);
	enter(vm, "host", OP_HANDED_OVER, NULL);
}

static int host_claim(void *opaque, struct gw_error *err)
{
	return enter(opaque, "host", OP_CLAIM, err);
}

static int host_build(void *opaque, const char *config, struct participant_list **out,
                      struct gw_error *err)
{
	struct fake_vm *vm = opaque;
	int r = enter(vm, "host", OP_BUILD, err);

	usleep(vm->build_ms * 1000);
	if (r < 0)
		return r;
	if (strcmp(config, "{\"name\":\"fake\"}"))
		return error_set(err, -EINVAL, "configuration: %s", config);
	if (!vm->complete)
		make_parts(vm);
	*out = &vm->list;
	return 0;
}

static void host_start(void *opaque, bool run)
{
	struct fake_vm *vm = opaque;

	vm->started = true;
	set_runs(vm, run);
}

static void host_abandon(void *opaque)
{
	struct fake_vm *vm = opaque;

	vm->abandoned = true;
}

static void host_event(void *opaque, const char *name, const char *data)
{
	struct fake_vm *vm = opaque;
	char word[32] = "";

	if (!strcmp(name, "DEVICE_DEGRADED"))
		append(vm, vm->degraded, sizeof(vm->degraded), data, "");
	if (!strcmp(name, "MIGRATION_PASS")) {
		unsigned pass = 0;

		sscanf(data, "{\"pass\":%u}", &pass);
		vm->passes = pass == 1 || pass == vm->passes + 1 ? pass : UINT_MAX;
	}
	if (strcmp(name, "MIGRATION"))
		return;
	sscanf(data, "{\"status\":\"%31[a-z]", word);
	append(vm, vm->events, sizeof(vm->events), word, "");
}

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	struct fake_vm *vm = opaque;

	if (level <= GW_LOG_WARN)
		append(vm, vm->logged_text, sizeof(vm->logged_text), text, "");
}

/* ---- life
 * -------------------------------------------------------------------------------------------- */

/* Two pages of three hold something. */
static void fill_memory(struct fake_vm *vm)
{
	uint8_t bytes[PAGE_SIZE + 256];

	for (unsigned j = 0; j < sizeof(bytes); j++)
		bytes[j] = (uint8_t)j;
	for (unsigned i = 0; i < FAKE_PAGES; i++)
		if (i % 3)
			memcpy(vm->mem + i * PAGE_SIZE, bytes + (uint8_t)(i * 31), PAGE_SIZE);
	memset(vm->mem + 150 * PAGE_SIZE, 0, 40 * PAGE_SIZE);
	vm->mem[151 * PAGE_SIZE + 4095] = 1;
}

struct fake_vm *fake_vm_new(struct tally *tally, bool destination, bool runs)
{
	struct fake_vm *vm = calloc(1, sizeof(*vm));
	const struct migration_host host = {
		.opaque = vm,
		.log = &vm->log,
		.participants = host_participants,
		.with_participants = host_with_participants,
		.config = host_config,
		.stop_guest = host_stop_guest,
		.resume_guest = host_resume_guest,
		.handed_over = host_handed_over,
		.build = host_build,
		.claim = host_claim,
		.start = host_start,
		.abandon = host_abandon,
		.event = host_event,
	};
	const struct gw_migrate_params params = {
		.switchover_timeout_ms = (uint64_t)patience_ms(),
		.network_timeout_ms = (uint64_t)patience_ms(),
	};

	vm->tally = tally;
	vm->destination = destination;
	vm->log = (struct log){ .opaque = vm, .write = on_log };
	vm->mem = calloc(FAKE_PAGES, PAGE_SIZE);
	vm->dirty_per_sync = 100;
	pthread_mutex_init(&vm->lock, NULL);
	if (!destination) {
		make_parts(vm);
		fill_memory(vm);
	}
	set_runs(vm, runs);
	if (migration_create(&host, &vm->mig, NULL) < 0)
		abort();
	migration_set_params(vm->mig, &params, NULL);
	return vm;
}

void fake_vm_free(struct fake_vm *vm)
{
	migration_destroy(vm->mig);
	pthread_mutex_destroy(&vm->lock);
	free(vm->mem);
	free(vm);
}

struct fake_part *fake_part(struct fake_vm *vm, const char *name)
{
	struct participant *p = participant_find(&vm->list, name);

	return p ? part_of(p) : NULL;
}

bool fake_vm_all(const struct fake_vm *vm, enum fake_state state)
{
	for (size_t i = 0; i < FAKE_PARTS; i++)
		if (vm->parts[i].state != state)
			return false;
	return true;
}

bool fake_vm_asleep(const struct fake_vm *vm)
{
	for (size_t i = 0; i < FAKE_PARTS; i++) {
		const bool device = vm->parts[i].ops.class == PARTICIPANT_PASSTHROUGH;

		if (vm->parts[i].state != (device ? SETTLED : RUNS))
			return false;
	}
	return true;
}

bool fake_vm_same(const struct fake_vm *a, const struct fake_vm *b)
{
	for (size_t i = 0; i < FAKE_PARTS; i++)
		if (a->parts[i].value != b->parts[i].value)
			return false;
	return !memcmp(a->mem, b->mem, FAKE_PAGES * PAGE_SIZE);
}

static const char *query_text(struct fake_vm *vm, const char *key, char *buf, size_t size)
{
	char *json = NULL;
	cJSON *root;
	const cJSON *item;

	buf[0] = 0;
	if (migration_query(vm->mig, &json, NULL) < 0)
		return buf;
	root = cJSON_Parse(json);
	item = cJSON_GetObjectItemCaseSensitive(root, key);
	if (cJSON_IsString(item))
		snprintf(buf, size, "%s", item->valuestring);
	cJSON_Delete(root);
	free(json);
	return buf;
}

const char *fake_vm_status(struct fake_vm *vm)
{
	static _Thread_local char buf[32];

	return query_text(vm, "status", buf, sizeof(buf));
}

const char *fake_vm_error(struct fake_vm *vm)
{
	static _Thread_local char buf[1024];

	return query_text(vm, "error-desc", buf, sizeof(buf));
}
