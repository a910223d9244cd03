/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands: one row of a table each, with its arguments, what it returns,
 * its handler and what it is for. query-commands and query-qmp-schema show the
 * table, and docs/control.md has to agree with it.
 */
#ifndef CONTROL_COMMAND_H
#define CONTROL_COMMAND_H

#include "control/args.h"
#include "control/hub.h"
#include "godwit.h"

/* One command being carried out. */
struct call {
	struct gw_vm *vm;
	struct hub *hub;
	const cJSON *args; /* checked against the table; NULL if none were given */
	int fd;            /* COMMAND_TAKES_FD: what came with it, -1: nothing. A handler that keeps
	                    * it leaves -1; else it is closed afterwards. */
	cJSON *ret;        /* NULL before; if left so, the reply returns {} */
	bool use_oob;      /* qmp_capabilities: out-of-band execution is wanted */
};

/* Runs on a thread of its own and may take its time, except with COMMAND_INLINE. */
typedef int (*command_fn)(struct call *call, struct gw_error *err);

#define COMMAND_INLINE 1u    /* never waits for the VM: runs on the server's own thread */
#define COMMAND_NEGOTIATE 2u /* ends the negotiation; taken before, and not after */
#define COMMAND_OOB 4u       /* may be executed out of band */
#define COMMAND_TAKES_FD 8u  /* takes a descriptor that the client has sent */
#define COMMAND_OPEN 16u     /* takes arguments that are not in its table */
#define COMMAND_REFUSED 32u  /* not offered and not listed; `help` says what there is instead */

struct command {
	const char *name;       /* NULL ends the table */
	const struct arg *args; /* NULL: takes none */
	const char *ret;        /* type of what it returns (types.h); NULL: {} */
	command_fn run;
	unsigned flags;
	const char *help;
};

extern const struct command control_commands[];

const struct command *command_find(const char *name);

/* JSON text of the public API, which is released, as an item. -ENOMEM. */
int command_take_json(char *json, cJSON **ret, struct gw_error *err);
/* A call of the public API that returns JSON, as the reply; that of an empty VM is `empty`. */
int command_pass_json(struct call *call,
                      int (*query)(struct gw_vm *vm, char **json, struct gw_error *err),
                      const char *empty, struct gw_error *err);

/* The machine's devices, a list to be released; that of an empty VM is empty. */
int command_list_devices(struct gw_vm *vm, cJSON **out, struct gw_error *err);

/* ---- commands_protocol.c ---- */
int command_negotiate(struct call *call, struct gw_error *err);
int command_query_version(struct call *call, struct gw_error *err);
int command_query_commands(struct call *call, struct gw_error *err);
int command_query_events(struct call *call, struct gw_error *err);
int command_query_schema(struct call *call, struct gw_error *err);

/* ---- commands_machine.c ---- */
int command_query_kvm(struct call *call, struct gw_error *err);
int command_query_status(struct call *call, struct gw_error *err);
int command_query_name(struct call *call, struct gw_error *err);
int command_query_uuid(struct call *call, struct gw_error *err);
const char *command_target_cpu(void); /* the type of a vCPU */
int command_query_target(struct call *call, struct gw_error *err);
int command_query_machines(struct call *call, struct gw_error *err);
int command_query_cpus(struct call *call, struct gw_error *err);
int command_query_pci(struct call *call, struct gw_error *err);
int command_query_memory(struct call *call, struct gw_error *err);
int command_query_config(struct call *call, struct gw_error *err);
int command_query_config_schema(struct call *call, struct gw_error *err);
int command_stop(struct call *call, struct gw_error *err);
int command_cont(struct call *call, struct gw_error *err);
int command_quit(struct call *call, struct gw_error *err);
int command_powerdown(struct call *call, struct gw_error *err);
int command_reset(struct call *call, struct gw_error *err);
int command_wakeup(struct call *call, struct gw_error *err);
int command_nmi(struct call *call, struct gw_error *err);

/* ---- commands_device.c ---- */
int command_device_add(struct call *call, struct gw_error *err);
int command_device_del(struct call *call, struct gw_error *err);
int command_query_devices(struct call *call, struct gw_error *err);
int command_query_block(struct call *call, struct gw_error *err);
int command_query_block_nodes(struct call *call, struct gw_error *err);
int command_query_blockstats(struct call *call, struct gw_error *err);
int command_device(struct call *call, struct gw_error *err);
int command_block_resize(struct call *call, struct gw_error *err);
int command_query_chardev(struct call *call, struct gw_error *err);
int command_balloon(struct call *call, struct gw_error *err);
int command_query_balloon(struct call *call, struct gw_error *err);

/* ---- commands_parts.c ---- */
int command_query_hotpluggable_cpus(struct call *call, struct gw_error *err);
int command_query_memory_devices(struct call *call, struct gw_error *err);
int command_query_none(struct call *call, struct gw_error *err);

/* ---- commands_action.c ---- */
int command_set_action(struct call *call, struct gw_error *err);

/* ---- commands_fd.c ---- */
int command_getfd(struct call *call, struct gw_error *err);
int command_closefd(struct call *call, struct gw_error *err);
int command_add_fd(struct call *call, struct gw_error *err);
int command_remove_fd(struct call *call, struct gw_error *err);
int command_query_fdsets(struct call *call, struct gw_error *err);
int command_dump(struct call *call, struct gw_error *err);
int command_query_dump(struct call *call, struct gw_error *err);

/* ---- commands_migration.c ---- */
extern const struct arg migrate_parameter_args[];
extern const char *const migration_capability_names[];
int command_migrate(struct call *call, struct gw_error *err);
int command_migrate_incoming(struct call *call, struct gw_error *err);
int command_migrate_cancel(struct call *call, struct gw_error *err);
int command_query_migrate(struct call *call, struct gw_error *err);
int command_set_parameters(struct call *call, struct gw_error *err);
int command_query_parameters(struct call *call, struct gw_error *err);
int command_set_capabilities(struct call *call, struct gw_error *err);
int command_query_capabilities(struct call *call, struct gw_error *err);
int command_snapshot_save(struct call *call, struct gw_error *err);
int command_snapshot_load(struct call *call, struct gw_error *err);

#endif
