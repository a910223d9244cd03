/* SPDX-License-Identifier: Apache-2.0 */
/* The public handle: its life, its state, what is in it. */
#include "vm.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"
#include "vmm/numa.h"
#include "vmm/pci.h"
#include "vmm/topology.h"
#include "vmm/vcpu.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

void gw_free(char *string)
{
	free(string);
}

const char *gw_version(void)
{
	return TEXT(GW_VERSION_MAJOR) "." TEXT(GW_VERSION_MINOR) "." TEXT(GW_VERSION_PATCH);
}

const char *gw_state_name(enum gw_state state)
{
	static const char *const names[] = {
		[GW_STATE_EMPTY] = "empty",
		[GW_STATE_PRELAUNCH] = "prelaunch",
		[GW_STATE_RUNNING] = "running",
		[GW_STATE_PAUSED] = "paused",
		[GW_STATE_INMIGRATE] = "inmigrate",
		[GW_STATE_FINISH_MIGRATE] = "finish-migrate",
		[GW_STATE_POSTMIGRATE] = "postmigrate",
		[GW_STATE_SAVE_VM] = "save-vm",
		[GW_STATE_SHUTDOWN] = "shutdown",
		[GW_STATE_INTERNAL_ERROR] = "internal-error",
	};

	return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* ---- life ------------------------------------------------------------------------------ */

static void vm_release(struct gw_vm *vm)
{
	/* The loop first: what it does for the guest asks after a migration. */
	if (vm->loop)
		loop_stop_thread(vm->loop);
	if (vm->migration)
		migration_destroy(vm->migration);
	if (vm->loop) {
		vm_demolish(vm);
		vm_unplugs_free(vm);
		loop_destroy(vm->loop);
	}
	while (vm->listeners)
		gw_vm_unlisten(vm, vm->listeners->event, vm->listeners->opaque);
	if (vm->left_fd >= 0)
		close(vm->left_fd);
	vm_map_free(&vm->map);
	vm_fds_free(vm);
	vm_types_free(vm);
	pthread_mutex_destroy(&vm->fd_lock);
	pthread_mutex_destroy(&vm->quit_lock);
	pthread_mutex_destroy(&vm->event_lock);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int gw_vm_new(const struct gw_callbacks *callbacks, struct gw_vm **out, struct gw_error *err)
{
	const struct gw_options options = { .size = sizeof(options), .callbacks = callbacks };

	return gw_vm_new_with(&options, out, err);
}

int gw_vm_new_with(const struct gw_options *options, struct gw_vm **out, struct gw_error *err)
{
	struct gw_vm *vm;
	struct migration_host host = vm_migration_host;
	int r;

	if (options->size != sizeof(*options))
		return error_set(err, -EINVAL, "options of %zu bytes, not %zu", options->size,
		                 sizeof(*options));
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return error_set(err, -ENOMEM, "VM: out of memory");
	if (options->callbacks)
		vm->callbacks = *options->callbacks;
	vm->external_loop = options->external_loop;
	vm->log = (struct log){ .opaque = vm, .write = vm_log_sink };
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->event_lock, NULL);
	pthread_mutex_init(&vm->fd_lock, NULL);
	pthread_mutex_init(&vm->quit_lock, NULL);
	thread_cond_init(&vm->changed);

	host.opaque = vm;
	host.log = &vm->log;
	vm->left_fd = io_eventfd();
	r = vm->left_fd < 0 ? error_set_sys(err, vm->left_fd, "VM: eventfd")
	                    : loop_create(&vm->loop, err);
	if (!r && !vm->external_loop)
		r = loop_start_thread(vm->loop, "godwit", err);
	if (!r)
		r = migration_create(&host, &vm->migration, err);
	if (r < 0) {
		vm_release(vm);
		return r;
	}
	*out = vm;
	return 0;
}

void gw_vm_free(struct gw_vm *vm)
{
	if (!vm)
		return;
	gw_vm_quit(vm);
	vm_release(vm);
}

int gw_vm_fd(struct gw_vm *vm)
{
	return vm->external_loop ? loop_fd(vm->loop) : -1;
}

int gw_vm_dispatch(struct gw_vm *vm, int timeout_ms, struct gw_error *err)
{
	if (!vm->external_loop)
		return error_set(err, -EINVAL, "the VM has a thread that does this");
	__atomic_store_n(&vm->dispatcher, pthread_self(), __ATOMIC_RELAXED);
	loop_once(vm->loop, timeout_ms);
	return 0;
}

int gw_vm_configure(struct gw_vm *vm, const char *json, const char *name, struct gw_error *err)
{
	autofree struct config *config = malloc(sizeof(*config));
	int r;

	if (!config)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	r = config_parse_here(json, name, vm_drivers_of(vm), config, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	if (vm->state != GW_STATE_EMPTY)
		r = error_set(err, -EBUSY, "the VM is not empty");
	else
		r = vm_build(vm, config, false, err);
	if (!r) {
		r = machine_reset(vm->machine, err);
		if (r < 0)
			vm_demolish(vm);
		else
			vm_set_state(vm, GW_STATE_PRELAUNCH);
	}
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "%s", name) : 0;
}

/* ---- running ------------------------------------------------------------------------------ */

/* Without the lock: whoever asks for the state gets it while a call that takes long has that. */
enum gw_state gw_vm_state(struct gw_vm *vm)
{
	return __atomic_load_n(&vm->state, __ATOMIC_ACQUIRE);
}

static int check_may_run(struct gw_vm *vm, bool force, struct gw_error *err)
{
	switch (vm->state) {
	case GW_STATE_PRELAUNCH:
	case GW_STATE_PAUSED:
	case GW_STATE_RUNNING:
		return 0;
	case GW_STATE_POSTMIGRATE:
		if (force)
			return 0;
		return error_set(
		        err, -EPERM,
		        "the guest was handed over to another host and may be running there");
	case GW_STATE_EMPTY:
		return error_set(err, -ENODATA, "the VM is empty");
	default:
		return error_set(err, -EBUSY, "not in state \"%s\"", gw_state_name(vm->state));
	}
}

/* True: the guest has yet to arrive, and knows what it is to do then. */
static bool tell_arriving(struct gw_vm *vm, enum vm_arrival wish)
{
	bool arriving;

	pthread_mutex_lock(&vm->lock);
	arriving = vm->state == GW_STATE_INMIGRATE && !vm->quit;
	if (arriving)
		vm->arrival = wish;
	pthread_mutex_unlock(&vm->lock);
	return arriving;
}

int gw_vm_cont(struct gw_vm *vm, bool force, struct gw_error *err)
{
	bool resumed = false;
	int r = 0;

	if (tell_arriving(vm, ARRIVE_RUNNING))
		return 0;
	/* Its devices were left stopped when it was handed over. */
	if (force && gw_vm_state(vm) == GW_STATE_POSTMIGRATE)
		r = migration_take_back(vm->migration, err);
	if (r < 0)
		return error_context(err, "cont");
	pthread_mutex_lock(&vm->lock);
	r = vm->quit ? error_set(err, -ESHUTDOWN, "the VM is told to quit")
	             : check_may_run(vm, force, err);
	if (!r && vm->state != GW_STATE_RUNNING)
		r = machine_claim(vm->machine, err);
	if (!r && vm->state != GW_STATE_RUNNING)
		r = migration_wake(vm->migration, &vm->machine->participants, err);
	if (!r && vm->state != GW_STATE_RUNNING) {
		machine_run(vm->machine);
		vm_set_state(vm, GW_STATE_RUNNING);
		resumed = true;
	}
	/* Refused: the guest is still another host's. */
	if (r < 0 && vm->state == GW_STATE_POSTMIGRATE)
		machine_unclaim(vm->machine);
	pthread_mutex_unlock(&vm->lock);
	if (resumed)
		vm_emit(vm, "RESUME", "{}");
	return r < 0 ? error_context(err, "cont") : 0;
}

int gw_vm_stop(struct gw_vm *vm, struct gw_error *err)
{
	bool stopped = false;
	int r;

	if (tell_arriving(vm, ARRIVE_STOPPED))
		return 0;
	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r && (vm->state == GW_STATE_SAVE_VM || vm->state == GW_STATE_FINISH_MIGRATE))
		r = error_set(err, -EBUSY, "not in state \"%s\"", gw_state_name(vm->state));
	if (!r && vm->state == GW_STATE_RUNNING) {
		machine_pause(vm->machine);
		vm_set_state(vm, GW_STATE_PAUSED);
		stopped = true;
	}
	pthread_mutex_unlock(&vm->lock);
	if (stopped)
		vm_emit(vm, "STOP", "{}");
	return r < 0 ? error_context(err, "stop") : 0;
}

int gw_vm_powerdown(struct gw_vm *vm, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r)
		r = machine_powerdown(vm->machine, err);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		return error_context(err, "powerdown");
	vm_emit(vm, "POWERDOWN", "{}");
	return 0;
}

int gw_vm_reset(struct gw_vm *vm, struct gw_error *err)
{
	bool ran;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r && migration_active(vm->migration))
		r = error_set(err, -EBUSY, "a migration is under way");
	if (!r && (vm->state == GW_STATE_POSTMIGRATE || vm->state == GW_STATE_SAVE_VM))
		r = error_set(err, -EBUSY, "not in state \"%s\"", gw_state_name(vm->state));
	/* A device that sleeps could not be told from one that was reset. */
	if (!r)
		r = migration_wake(vm->migration, &vm->machine->participants, err);
	if (!r) {
		ran = vm->state == GW_STATE_RUNNING;
		machine_pause(vm->machine);
		vm_failover_reset(vm);
		r = machine_reset(vm->machine, err);
		if (r < 0)
			vm_set_state(vm, GW_STATE_INTERNAL_ERROR);
		else if (ran)
			machine_run(vm->machine);
		else
			vm_set_state(vm, GW_STATE_PAUSED);
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		return error_context(err, "reset");
	vm_emit(vm, "RESET", "{\"guest\":false,\"reason\":\"host-qmp-system-reset\"}");
	return 0;
}

void gw_vm_quit(struct gw_vm *vm)
{
	bool first;

	vm_call_quit_hooks(vm);
	pthread_mutex_lock(&vm->lock);
	first = !vm->quit;
	vm->quit = true;
	pthread_mutex_unlock(&vm->lock);
	vm_end_migration(vm, "the VM was told to quit");
	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		machine_pause(vm->machine);
	if (vm->state == GW_STATE_RUNNING)
		vm_set_state(vm, GW_STATE_PAUSED);
	pthread_cond_broadcast(&vm->changed);
	if (vm->external_loop)
		loop_wake(vm->loop);
	pthread_mutex_unlock(&vm->lock);
	if (first)
		vm_emit(vm, "SHUTDOWN", "{\"guest\":false,\"reason\":\"host-qmp-quit\"}");
}

static bool is_over(const struct gw_vm *vm)
{
	return vm->quit || vm->state == GW_STATE_SHUTDOWN || vm->state == GW_STATE_INTERNAL_ERROR;
}

int gw_vm_wait(struct gw_vm *vm, int timeout_ms, struct gw_error *err)
{
	const int64_t until = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	int r = 0;

	if (__atomic_load_n(&vm->dispatcher, __ATOMIC_RELAXED) == pthread_self())
		return error_set(err, -EDEADLK,
		                 "wait: this thread runs the VM's event loop, and would stop it");
	pthread_mutex_lock(&vm->lock);
	while (!is_over(vm) && !r)
		r = thread_cond_wait(&vm->changed, &vm->lock, until) ? 0 : -ETIMEDOUT;
	pthread_mutex_unlock(&vm->lock);
	return r ? error_set(err, r, "the VM goes on after %d ms", timeout_ms) : 0;
}

/* ---- what is in it ------------------------------------------------------------------------- */

/* With a machine, `print` makes the text. */
static int query(struct gw_vm *vm, char *(*print)(struct machine *m), const char *what, char **json,
                 struct gw_error *err)
{
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	if (!vm->machine)
		r = error_set(err, -ENODATA, "%s: the VM is empty", what);
	else if (!(*json = print(vm->machine)))
		r = error_set(err, -ENOMEM, "%s: out of memory", what);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static char *print_config(struct machine *m)
{
	return config_print(&m->config, vm_drivers_of(vm_of(m)));
}

/* Where it is, as QMP's CpuInstanceProperties has it. */
static bool add_place(cJSON *cpu, const struct topology *t, const struct numa *numa, unsigned i)
{
	const unsigned core = i / t->threads, die = core / t->cores, socket = die / t->dies;
	cJSON *props = cJSON_AddObjectToObject(cpu, "props");

	return props && (!numa->nodes || cJSON_AddNumberToObject(props, "node-id", numa->cpu[i])) &&
	       cJSON_AddNumberToObject(props, "socket-id", socket) &&
	       cJSON_AddNumberToObject(props, "die-id", die % t->dies) &&
	       cJSON_AddNumberToObject(props, "core-id", core % t->cores) &&
	       cJSON_AddNumberToObject(props, "thread-id", i % t->threads);
}

static char *print_cpus(struct machine *m)
{
	cJSON *list = cJSON_CreateArray();
	struct gw_error never; /* the machine was made with it */
	struct topology topology = { 1, 1, 1, 1 };
	struct numa numa;
	char *text = NULL;

	topology_make(&m->config, &topology, &never);
	numa_make(&m->config, &numa);
	for (unsigned i = 0; i < m->vcpu_count && list; i++) {
		cJSON *cpu = cJSON_CreateObject();

		if (!cpu || !cJSON_AddItemToArray(list, cpu) ||
		    !cJSON_AddNumberToObject(cpu, "cpu-index", i) ||
		    !cJSON_AddNumberToObject(cpu, "thread-id", m->vcpus[i]->tid) ||
		    !add_place(cpu, &topology, &numa, i)) {
			cJSON_Delete(list);
			list = NULL;
		}
	}
	if (list)
		text = cJSON_PrintUnformatted(list);
	cJSON_Delete(list);
	return text;
}

static char *print_pci(struct machine *m)
{
	char *text;

	machine_lock(m);
	text = pci_describe(m->pci);
	machine_unlock(m);
	return text;
}

int gw_vm_query_config(struct gw_vm *vm, char **json, struct gw_error *err)
{
	return query(vm, print_config, "query-config", json, err);
}

int gw_vm_query_cpus(struct gw_vm *vm, char **json, struct gw_error *err)
{
	return query(vm, print_cpus, "query-cpus", json, err);
}

int gw_vm_query_pci(struct gw_vm *vm, char **json, struct gw_error *err)
{
	return query(vm, print_pci, "query-pci", json, err);
}
