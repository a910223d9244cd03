/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as migration sees it, and the public calls that save, load and move. */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"
#include "migration/inspect.h"

#include <string.h>

/* ---- what migration asks of the VM ------------------------------------------------- */

static struct participant_list *host_participants(void *opaque)
{
	struct gw_vm *vm = opaque;
	struct participant_list *list = NULL;

	pthread_mutex_lock(&vm->lock);
	if (!vm_need_machine(vm, NULL))
		list = &vm->machine->participants;
	pthread_mutex_unlock(&vm->lock);
	return list;
}

static void host_with_participants(void *opaque,
                                   void (*look)(void *arg, const struct participant_list *list),
                                   void *arg)
{
	struct gw_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	if (vm->machine && vm->state != GW_STATE_INMIGRATE)
		look(arg, &vm->machine->participants);
	pthread_mutex_unlock(&vm->lock);
}

static char *host_config(void *opaque)
{
	struct gw_vm *vm = opaque;
	char *json = NULL;

	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		json = config_print(&vm->machine->config, vm_drivers_of(vm));
	pthread_mutex_unlock(&vm->lock);
	return json;
}

static int host_stop_guest(void *opaque, enum gw_state state, bool *was_running,
                           struct gw_error *err)
{
	struct gw_vm *vm = opaque;
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	vm->before_stop = vm->state;
	*was_running = vm->state == GW_STATE_RUNNING;
	if (!*was_running && vm->state != GW_STATE_PAUSED && vm->state != GW_STATE_PRELAUNCH) {
		r = error_set(err, -EINVAL, "the guest is in state \"%s\"",
		              gw_state_name(vm->state));
	} else if (*was_running) {
		machine_pause(vm->machine);
		if (vm_guest_wants(vm)) {
			machine_run(vm->machine);
			r = error_set(
			        err, -EAGAIN,
			        "the guest was just about to reset, power off or let a device go");
		}
	}
	if (!r)
		vm_set_state(vm, state);
	pthread_mutex_unlock(&vm->lock);
	if (!r && *was_running)
		vm_emit(vm, "STOP", "{}");
	return r;
}

static void host_resume_guest(void *opaque)
{
	struct gw_vm *vm = opaque;
	bool was_running;

	struct gw_error err;

	pthread_mutex_lock(&vm->lock);
	was_running = vm->before_stop == GW_STATE_RUNNING;
	if (vm->state == GW_STATE_POSTMIGRATE && machine_claim(vm->machine, &err) < 0) {
		log_error(&vm->log, "the guest is this host's again, but stays paused: %s",
		          err.text);
		was_running = false;
		vm->before_stop = GW_STATE_PAUSED;
	}
	if (was_running)
		machine_run(vm->machine);
	vm_set_state(vm, vm->before_stop);
	pthread_mutex_unlock(&vm->lock);
	if (was_running)
		vm_emit(vm, "RESUME", "{}");
}

static void host_handed_over(void *opaque)
{
	struct gw_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	vm_set_state(vm, GW_STATE_POSTMIGRATE);
	machine_unclaim(vm->machine);
	pthread_mutex_unlock(&vm->lock);
}

static int host_claim(void *opaque, struct gw_error *err)
{
	struct gw_vm *vm = opaque;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = machine_claim(vm->machine, err);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static int host_build(void *opaque, const char *json, struct participant_list **out,
                      struct gw_error *err)
{
	struct gw_vm *vm = opaque;
	autofree struct config *config = malloc(sizeof(*config));
	int r;

	if (!config)
		return error_set(err, -ENOMEM, "out of memory");
	r = config_parse(json, "configuration", vm_drivers_of(vm), config, err);
	if (!r)
		r = config_apply_map(config, vm_drivers_of(vm), vm->map.entries, vm->map.count,
		                     err);
	if (!r)
		r = config_check_host(config, "configuration", vm_drivers_of(vm), true, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	r = vm->quit ? error_set(err, -ECANCELED, "the VM is told to quit")
	             : vm_build(vm, config, true, err);
	if (!r) {
		vm->machine->restored = vm->restoring;
		*out = &vm->machine->participants;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static bool host_shall_run(void *opaque, bool did)
{
	struct gw_vm *vm = opaque;
	bool run;

	pthread_mutex_lock(&vm->lock);
	run = vm->arrival == ARRIVE_AS_IT_WAS ? did : vm->arrival == ARRIVE_RUNNING;
	pthread_mutex_unlock(&vm->lock);
	return run;
}

/* Asked for since it was decided whether the guest runs. */
static void follow_late_wish(struct gw_vm *vm, enum vm_arrival wish, bool runs)
{
	struct gw_error err;
	int r = 0;

	if (wish == ARRIVE_RUNNING && !runs)
		r = gw_vm_cont(vm, false, &err);
	else if (wish == ARRIVE_STOPPED && runs)
		r = gw_vm_stop(vm, &err);
	if (r < 0)
		log_error(&vm->log, "the guest has arrived: %s", err.text);
}

static void host_start(void *opaque, bool run)
{
	struct gw_vm *vm = opaque;
	enum vm_arrival wish;

	pthread_mutex_lock(&vm->lock);
	vm->machine->incoming = vm->machine->restored = false;
	if (run)
		machine_run(vm->machine);
	vm_set_state(vm, run ? GW_STATE_RUNNING : GW_STATE_PAUSED);
	wish = vm->arrival;
	vm->arrival = ARRIVE_AS_IT_WAS;
	pthread_mutex_unlock(&vm->lock);
	if (run)
		vm_emit(vm, "RESUME", "{}");
	follow_late_wish(vm, wish, run);
}

static void host_abandon(void *opaque)
{
	struct gw_vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	vm_demolish(vm);
	pthread_mutex_unlock(&vm->lock);
}

static void host_event(void *opaque, const char *name, const char *data)
{
	vm_emit(opaque, name, data);
}

static void host_ended(void *opaque)
{
	vm_failover_look(opaque);
}

const struct migration_host vm_migration_host = {
	.participants = host_participants,
	.with_participants = host_with_participants,
	.ask_to_leave = vm_failover_ask,
	.await_leave = vm_failover_await,
	.ended = host_ended,
	.config = host_config,
	.stop_guest = host_stop_guest,
	.resume_guest = host_resume_guest,
	.handed_over = host_handed_over,
	.build = host_build,
	.claim = host_claim,
	.shall_run = host_shall_run,
	.start = host_start,
	.abandon = host_abandon,
	.event = host_event,
};

void vm_end_migration(struct gw_vm *vm, const char *why)
{
	migration_cancel(vm->migration, why);
	migration_wait(vm->migration);
}

/* ---- the map of host resources -------------------------------------------------------- */

void vm_map_free(struct vm_map *map)
{
	for (size_t i = 0; i < map->count; i++) {
		free((char *)(uintptr_t)map->entries[i].path);
		free((char *)(uintptr_t)map->entries[i].value);
	}
	free(map->entries);
	*map = (struct vm_map){ 0 };
}

static int map_copy(const struct gw_map *from, size_t count, struct vm_map *to,
                    struct gw_error *err)
{
	to->count = 0;
	to->entries = calloc(count + 1, sizeof(to->entries[0]));
	for (size_t i = 0; to->entries && i < count; i++) {
		to->entries[i].path = strdup(from[i].path);
		to->entries[i].value = strdup(from[i].value);
		to->count++;
		if (!to->entries[i].path || !to->entries[i].value)
			break;
	}
	if (!to->entries || to->count < count ||
	    (count && (!to->entries[count - 1].path || !to->entries[count - 1].value))) {
		vm_map_free(to);
		return error_set(err, -ENOMEM, "map: out of memory");
	}
	return 0;
}

/* An empty VM, or one that still waits, gets ready to take something in. */
static int expect_arrival(struct gw_vm *vm, bool restoring, const struct gw_map *map, size_t count,
                          struct gw_error *err)
{
	struct vm_map copy;
	int r = map_copy(map, count, &copy, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	if (vm->machine || (vm->state != GW_STATE_EMPTY && vm->state != GW_STATE_INMIGRATE)) {
		r = error_set(err, -EBUSY, "the VM is not empty");
		vm_map_free(&copy);
	} else if (migration_active(vm->migration)) {
		r = error_set(err, -EBUSY, "the VM waits for a migration already");
		vm_map_free(&copy);
	} else {
		vm_map_free(&vm->map);
		vm->map = copy;
		vm->restoring = restoring;
		vm_set_state(vm, GW_STATE_INMIGRATE);
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* ---- the public calls ------------------------------------------------------------------- */

int gw_vm_save(struct gw_vm *vm, const char *dir, struct gw_error *err)
{
	const struct gw_save_options options = { .size = sizeof(options) };

	return gw_vm_save_with(vm, dir, &options, err);
}

int gw_vm_save_with(struct gw_vm *vm, const char *dir, const struct gw_save_options *options,
                    struct gw_error *err)
{
	int r;

	if (options->size != sizeof(*options))
		return error_set(err, -EINVAL, "save %s: options of %zu bytes, not %zu", dir,
		                 options->size, sizeof(*options));
	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	pthread_mutex_unlock(&vm->lock);
	if (!r)
		r = migration_save(vm->migration, dir, options->unplug_primaries, err);
	return r < 0 ? error_context(err, "save %s", dir) : 0;
}

int gw_vm_restore(struct gw_vm *vm, const char *dir, const struct gw_map *map, size_t map_count,
                  bool run, struct gw_error *err)
{
	enum gw_state before = gw_vm_state(vm);
	int r = expect_arrival(vm, true, map, map_count, err);

	if (r < 0)
		return error_context(err, "restore %s", dir);
	r = migration_load(vm->migration, dir, run, err);
	if (!r)
		return 0;
	pthread_mutex_lock(&vm->lock);
	vm_set_state(vm, before);
	pthread_mutex_unlock(&vm->lock);
	return error_context(err, "restore %s", dir);
}

int gw_vm_incoming(struct gw_vm *vm, const char *uri, const struct gw_map *map, size_t map_count,
                   struct gw_error *err)
{
	int r = expect_arrival(vm, false, map, map_count, err);

	if (!r && uri)
		r = migration_listen(vm->migration, uri, err);
	return r < 0 ? error_context(err, "incoming") : 0;
}

int gw_vm_migrate(struct gw_vm *vm, const char *uri, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r && vm->state != GW_STATE_RUNNING && vm->state != GW_STATE_PAUSED &&
	    vm->state != GW_STATE_PRELAUNCH)
		r = error_set(err, -EINVAL, "the guest is in state \"%s\"",
		              gw_state_name(vm->state));
	pthread_mutex_unlock(&vm->lock);
	if (!r)
		r = migration_start(vm->migration, uri, err);
	return r < 0 ? error_context(err, "migrate") : 0;
}

int gw_vm_migrate_cancel(struct gw_vm *vm, struct gw_error *err)
{
	(void)err;
	migration_cancel(vm->migration, NULL);
	return 0;
}

int gw_vm_query_migrate(struct gw_vm *vm, char **json, struct gw_error *err)
{
	return migration_query(vm->migration, json, err);
}

int gw_vm_set_migrate_params(struct gw_vm *vm, const struct gw_migrate_params *params,
                             struct gw_error *err)
{
	return migration_set_params(vm->migration, params, err);
}

void gw_vm_get_migrate_params(struct gw_vm *vm, struct gw_migrate_params *params)
{
	migration_get_params(vm->migration, params);
}

int gw_inspect(const char *path, char **json, struct gw_error *err)
{
	return inspect_path(path, json, err);
}
