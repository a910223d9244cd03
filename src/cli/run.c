/* SPDX-License-Identifier: Apache-2.0 */
/* godwit run and godwit restore: a process that holds one virtual machine. */
#include "cli/cli.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "cli/compose.h"
#include "cli/control_option.h"
#include "cli/keyvalue.h"
#include "cli/logger.h"
#include "cli/signals.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAPS_MAX 64
/* Of a device tree, which is some kilobytes. */
#define DEVICE_TREE_MAX (16u << 20)

/* What a command line asks for. */
struct wish {
	const char *source; /* configuration, or snapshot directory; may be NULL with `incoming` */
	const char *incoming;
	const char *device_tree; /* file to write it to, instead of running */
	struct control_choice control;
	struct compose compose; /* what is put on top of the configuration */
	bool paused;
	bool plain_tcp;
	enum gw_log_level level;
	struct logger log;
	struct gw_map map[MAPS_MAX];
	size_t map_count;
};

/* ---- the command line ------------------------------------------------------------------- */

static int take_map(struct wish *wish, const char *what, char *word)
{
	struct gw_error err;

	if (wish->map_count == MAPS_MAX)
		return cli_usage(what, "--map: more than %d", MAPS_MAX);
	if (keyvalue_map(word, &wish->map[wish->map_count], &err) < 0)
		return cli_usage(what, "--map: %s", err.text);
	wish->map_count++;
	return CLI_OK;
}

/* An option that has no letter: one of control's, or of the configuration's. */
static int take_long(struct wish *wish, const char *what, const char *name)
{
	struct gw_error err;
	int r = control_option(name, optarg, &wish->control, &err);

	if (r == -ENOENT)
		r = compose_option(name, optarg, &wish->compose, &err);
	return r < 0 ? cli_usage(what, "%s", err.text) : CLI_OK;
}

static int take_option(struct wish *wish, const char *what, int option, const char *name)
{
	switch (option) {
	case 0:
		return take_long(wish, what, name);
	case 'i':
		wish->incoming = optarg;
		return CLI_OK;
	case 'd':
		wish->device_tree = optarg;
		return CLI_OK;
	case 'm':
		return take_map(wish, what, optarg);
	case 'p':
		wish->paused = true;
		return CLI_OK;
	case 't':
		wish->plain_tcp = true;
		return CLI_OK;
	case 'v':
		wish->level = MIN(wish->level + 1, (unsigned)GW_LOG_DEBUG);
		return CLI_OK;
	case 'q':
		wish->level = MAX((int)wish->level - 1, (int)GW_LOG_ERROR);
		return CLI_OK;
	default:
		return cli_usage(what, "bad option");
	}
}

static int parse(int argc, char **argv, const struct option *options, struct wish *wish)
{
	int option, status, which = 0;
	struct gw_error err;

	*wish = (struct wish){ .level = GW_LOG_INFO };
	while ((option = getopt_long(argc, argv, "vq", options, &which)) != -1) {
		status = take_option(wish, argv[0], option, options[which].name);
		if (status != CLI_OK)
			return status;
	}
	if (argc - optind > 1)
		return cli_usage(argv[0], "\"%s\" is one word too many", argv[optind + 1]);
	wish->source = argv[optind];
	if (control_choice_check(&wish->control, &err) < 0)
		return cli_usage(argv[0], "%s", err.text);
	return CLI_OK;
}

/* ---- the process ----------------------------------------------------------------------------- */

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	static const char *const names[] = {
		[GW_LOG_ERROR] = "error: ",
		[GW_LOG_WARN] = "warning: ",
		[GW_LOG_INFO] = "info: ",
		[GW_LOG_DEBUG] = "debug: ",
	};
	struct wish *wish = opaque;

	if (level <= wish->level)
		logger_line(&wish->log, names[level], text);
}

static void on_signal(void *opaque, int signal)
{
	(void)signal;
	gw_vm_quit(opaque);
}

/* The guest runs only once the control socket stands: where another godwit serves it, the same
 * guest may be running there. */
static int serve(struct gw_vm *vm, const struct wish *wish, struct gw_control **control,
                 struct gw_error *err)
{
	return control_open(vm, &wish->control, control, err);
}

/* A file that cannot be written whole is none. */
static int write_file(const char *path, const void *data, size_t len, struct gw_error *err)
{
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	struct stat st;
	int r = fd < 0 ? -errno : io_write_full(fd, data, len);

	if (fd >= 0 && r < 0 && !fstat(fd, &st) && S_ISREG(st.st_mode))
		unlink(path);
	return r < 0 ? error_set_sys(err, r, "--dump-dtb: %s", path) : 0;
}

/* The file is made, or what is in it cut off, only when there is something to write. */
static int dump_device_tree(struct gw_vm *vm, const char *path, struct gw_error *err)
{
	autoclose int fd = memfd_create("device-tree", MFD_CLOEXEC);
	autofree char *tree = NULL;
	size_t len = 0;
	int r;

	if (fd < 0)
		return error_set_sys(err, -errno, "--dump-dtb: memfd_create");
	r = gw_vm_dump_device_tree(vm, fd, err);
	if (!r && lseek(fd, 0, SEEK_SET) < 0)
		r = error_set_sys(err, -errno, "--dump-dtb: lseek");
	if (!r)
		r = io_read_all(fd, "--dump-dtb", DEVICE_TREE_MAX, &tree, &len, err);
	return r ? r : write_file(path, tree, len, err);
}

static int configure(struct gw_vm *vm, const struct wish *wish, struct gw_error *err)
{
	const char *name = wish->source ? wish->source : "command line";
	autofree char *base = NULL, *json = NULL;
	int r = 0;

	if (wish->source)
		r = io_read_file(wish->source, CLI_CONFIG_MAX, &base, NULL, err);
	if (!r)
		r = compose_text(&wish->compose, base, &json, err);
	return r ? r : gw_vm_configure(vm, json, name, err);
}

static int fill_from_config(struct gw_vm *vm, const struct wish *wish, struct gw_control **control,
                            struct gw_error *err)
{
	int r = configure(vm, wish, err);

	if (!r && wish->device_tree)
		return dump_device_tree(vm, wish->device_tree, err);
	if (!r)
		r = serve(vm, wish, control, err);
	if (!r && !wish->paused)
		r = gw_vm_cont(vm, false, err);
	return r;
}

static int fill_from_stream(struct gw_vm *vm, const struct wish *wish, struct gw_control **control,
                            struct gw_error *err)
{
	const char *uri = strcmp(wish->incoming, "defer") ? wish->incoming : NULL;
	int r = serve(vm, wish, control, err);

	/* Before anything can come. */
	if (!r && wish->paused) {
		r = gw_vm_incoming(vm, NULL, wish->map, wish->map_count, err);
		if (!r)
			r = gw_vm_stop(vm, err);
	}
	return r ? r : gw_vm_incoming(vm, uri, wish->map, wish->map_count, err);
}

static int fill_from_snapshot(struct gw_vm *vm, const struct wish *wish,
                              struct gw_control **control, struct gw_error *err)
{
	int r = serve(vm, wish, control, err);

	return r ? r
	         : gw_vm_restore(vm, wish->source, wish->map, wish->map_count, !wish->paused, err);
}

typedef int (*fill_fn)(struct gw_vm *vm, const struct wish *wish, struct gw_control **control,
                       struct gw_error *err);

static int live(struct gw_vm *vm, struct wish *wish, fill_fn fill, const char *what)
{
	struct gw_control *control = NULL;
	struct signals signals;
	struct gw_error err;
	int r = signals_start(&signals, on_signal, vm, &err);

	if (r < 0)
		return cli_error(what, "%s", err.text);
	if (wish->plain_tcp)
		r = gw_vm_set_migrate_params(
		        vm, &(struct gw_migrate_params){ .plain_tcp = GW_SWITCH_ON }, &err);
	if (!r)
		r = fill(vm, wish, &control, &err);
	if (!r && !wish->device_tree)
		r = gw_vm_wait(vm, -1, &err);
	if (!r && gw_vm_state(vm) == GW_STATE_INTERNAL_ERROR)
		r = error_set(&err, -EIO, "the virtual machine has failed");
	signals_stop(&signals); /* a quit under way has its events sent before the socket closes */
	gw_control_free(control);
	logger_flush(&wish->log);
	return r < 0 ? cli_error(what, "%s", err.text) : CLI_OK;
}

static int hold_vm(struct wish *wish, fill_fn fill, const char *what)
{
	const struct gw_callbacks callbacks = {
		.opaque = wish,
		.log = on_log,
	};
	struct gw_vm *vm;
	struct gw_error err;
	int status;

	signal(SIGPIPE, SIG_IGN);
	signals_block();
	if (gw_vm_new(&callbacks, &vm, &err) < 0)
		return cli_error(what, "%s", err.text);
	logger_open(&wish->log);
	status = live(vm, wish, fill, what);
	gw_vm_free(vm);
	logger_close(&wish->log);
	return status;
}

/* ---- the subcommands ------------------------------------------------------------------------- */

int cli_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "incoming", required_argument, NULL, 'i' },
		{ "map", required_argument, NULL, 'm' },
		CONTROL_OPTIONS,
		COMPOSE_OPTIONS,
		{ "paused", no_argument, NULL, 'p' },
		{ "plain-tcp", no_argument, NULL, 't' },
		{ "dump-dtb", required_argument, NULL, 'd' },
		{ 0 },
	};
	struct wish wish;
	int status = parse(argc, argv, options, &wish);

	if (status != CLI_OK)
		return status;
	if (wish.incoming && wish.device_tree)
		return cli_usage(argv[0], "--dump-dtb: not of a machine that has yet to arrive");
	if (wish.incoming) {
		if (wish.compose.count)
			return cli_usage(argv[0], "--%s: the stream brings its configuration",
			                 wish.compose.words[0].flag);
		if (wish.source)
			cli_error(argv[0],
			          "%s is not used: with --incoming, the stream brings its own",
			          wish.source);
		return hold_vm(&wish, fill_from_stream, argv[0]);
	}
	if (!wish.source && !wish.compose.count)
		return cli_usage(argv[0], "needs a configuration, flags, or --incoming");
	if (wish.map_count)
		return cli_usage(argv[0], "--map: needs --incoming");
	return hold_vm(&wish, fill_from_config, argv[0]);
}

int cli_restore(int argc, char **argv)
{
	static const struct option options[] = {
		{ "map", required_argument, NULL, 'm' },
		CONTROL_OPTIONS,
		{ "paused", no_argument, NULL, 'p' },
		{ "plain-tcp", no_argument, NULL, 't' },
		{ 0 },
	};
	struct wish wish;
	int status = parse(argc, argv, options, &wish);

	if (status != CLI_OK)
		return status;
	if (!wish.source)
		return cli_usage(argv[0], "needs a snapshot directory");
	return hold_vm(&wish, fill_from_snapshot, argv[0]);
}
