/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands: one row of a table each, with its arguments, its handler and
 * what it is for. query-commands shows the table.
 */
#ifndef CONTROL_COMMAND_H
#define CONTROL_COMMAND_H

#include "control/args.h"
#include "godwit.h"

/*
 * `args` has been checked against the table; NULL if none were given. *ret is
 * NULL before and, if left so, the reply returns {}. Runs on a thread of its
 * own and may take its time, except with COMMAND_INLINE.
 */
typedef int (*command_fn)(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);

#define COMMAND_INLINE 1u    /* never waits for the VM: runs on the server's own thread */
#define COMMAND_NEGOTIATE 2u /* ends the negotiation; taken before, and not after */

struct command {
	const char *name;       /* NULL ends the table */
	const struct arg *args; /* NULL: takes none */
	command_fn run;
	unsigned flags;
	const char *help;
};

extern const struct command control_commands[];

const struct command *command_find(const char *name);

/* JSON text of the public API, which is released, as an item. -ENOMEM, -EIO. */
int command_take_json(char *json, cJSON **ret, struct gw_error *err);

/* ---- commands_machine.c ---- */
int command_query_status(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_name(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_cpus(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_pci(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_config(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_stop(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_cont(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_quit(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_powerdown(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_reset(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_device_add(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_device_del(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);

/* ---- commands_migration.c ---- */
extern const struct arg migrate_parameter_args[];
int command_migrate(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_migrate_incoming(struct gw_vm *vm, const cJSON *args, cJSON **ret,
                             struct gw_error *err);
int command_migrate_cancel(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_migrate(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_set_parameters(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_query_parameters(struct gw_vm *vm, const cJSON *args, cJSON **ret,
                             struct gw_error *err);
int command_set_capabilities(struct gw_vm *vm, const cJSON *args, cJSON **ret,
                             struct gw_error *err);
int command_query_capabilities(struct gw_vm *vm, const cJSON *args, cJSON **ret,
                               struct gw_error *err);
int command_snapshot_save(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);
int command_snapshot_load(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);

#endif
