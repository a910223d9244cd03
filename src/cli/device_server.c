/* SPDX-License-Identifier: Apache-2.0 */
/* godwit device-server: one device, served by the vfio-user protocol until SIGTERM. */
#include "cli/cli.h"
#include "cli/logger.h"
#include "cli/signals.h"
#include "cli/value.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct invocation {
	cJSON *device;
	struct gw_device_server_options options;
	int loudness;
	struct logger log;
	struct gw_device_server *server;
};

/* ---- memory that a client has cut short ------------------------------------------------------ */

/*
 * An access to a page of a file that is gone: the page becomes one of zeros, and the access is made
 * again. What the client loses by it is its own. Where the host's pages are larger ones, of which
 * no part can be replaced (EINVAL), it is such a page.
 */
static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	static const size_t sizes[] = { 4096, 2 << 20, 1 << 30 };
	const int was = errno;

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(sizes) && info->si_code == BUS_ADRERR; i++) {
		void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)(sizes[i] - 1));

		if (mmap(page, sizes[i], PROT_READ | PROT_WRITE,
		         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
			errno = was;
			return;
		}
		/* Short of memory or mappings: a larger piece would take what is beside it along.
		 */
		if (errno != EINVAL)
			break;
	}
	/* Anything else is a fault like any other. */
	sigaction(signal, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

static void survive_truncation(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, NULL);
}

/* ---- words ------------------------------------------------------------------------------------
 */

static bool set_text(struct invocation *in, const char *key, const char *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(in->device, key);
	return cJSON_AddStringToObject(in->device, key, value);
}

static bool set_value(struct invocation *in, const char *key, const char *value)
{
	cJSON *item = value_read_device(in->device, key, value);

	cJSON_DeleteItemFromObjectCaseSensitive(in->device, key);
	return cJSON_AddItemToObject(in->device, key, item);
}

static bool set_pair(struct invocation *in, const char *key, const char *value)
{
	const char *equals = strchr(value, '=');
	autofree char *name = equals ? strndup(value, (size_t)(equals - value)) : NULL;

	(void)key;
	return name && *name && set_value(in, name, equals + 1);
}

static bool set_disk(struct invocation *in, const char *key, const char *value)
{
	static const char suffix[] = ",ro";
	const size_t len = strlen(value), tail = sizeof(suffix) - 1;
	const bool ro = len > tail && !strcmp(value + len - tail, suffix);
	autofree char *file = strndup(value, ro ? len - tail : len);

	return file && set_text(in, key, file) && (!ro || set_value(in, "read-only", "true"));
}

static bool set_socket(struct invocation *in, const char *key, const char *value)
{
	(void)key;
	in->options.path = value;
	return true;
}

static bool set_fd(struct invocation *in, const char *key, const char *value)
{
	char end;

	(void)key;
	return sscanf(value, "%d%c", &in->options.listen_fd, &end) == 1 &&
	       in->options.listen_fd >= 0;
}

static int word_of(const char *value, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], value))
			return i;
	return -1;
}

static bool set_migration(struct invocation *in, const char *key, const char *value)
{
	static const char *const words[] = { "v2", "v1", "none", NULL };
	const int i = word_of(value, words);

	(void)key;
	in->options.migration = (enum gw_server_migration)i;
	return i >= 0;
}

static bool set_v1_data(struct invocation *in, const char *key, const char *value)
{
	static const char *const words[] = { "trapped", "mapped", "mixed", NULL };
	const int i = word_of(value, words);

	(void)key;
	in->options.v1_data = (enum gw_server_v1_data)i;
	return i >= 0;
}

static bool set_true(struct invocation *in, const char *key, const char *value)
{
	(void)value;
	return set_value(in, key, "true");
}

static bool be_loud(struct invocation *in, const char *key, const char *value)
{
	(void)key;
	(void)value;
	in->loudness++;
	return true;
}

static bool be_quiet(struct invocation *in, const char *key, const char *value)
{
	(void)key;
	(void)value;
	in->loudness--;
	return true;
}

static const struct flag {
	const char *name;
	bool (*set)(struct invocation *in, const char *key, const char *value);
	const char *key; /* of the device's configuration */
	bool alone;      /* takes no value */
} flags[] = {
	{ "--socket", set_socket, NULL, false },
	{ "--socket-path", set_socket, NULL, false },
	{ "--fd", set_fd, NULL, false },
	{ "--id", set_text, "id", false },
	{ "--tap", set_text, "tap", false },
	{ "--mac", set_text, "mac", false },
	{ "--disk", set_disk, "file", false },
	{ "--size", set_value, "size", false },
	{ "--pre-copy", set_true, "pre-copy", true },
	{ "--rate", set_value, "rate", false },
	{ "--dirty-rate", set_value, "dirty-rate", false },
	{ "--interrupt", set_text, "interrupt", false },
	{ "--fail", set_text, "fail", false },
	{ "--die-at", set_text, "die-at", false },
	{ "--migration", set_migration, NULL, false },
	{ "--v1-data", set_v1_data, NULL, false },
	{ "--set", set_pair, NULL, false },
	{ "-v", be_loud, NULL, true },
	{ "-q", be_quiet, NULL, true },
};

static const struct flag *find_flag(const char *word, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (strlen(flags[i].name) == len && !strncmp(flags[i].name, word, len))
			return &flags[i];
	return NULL;
}

static int take_words(int argc, char **argv, struct invocation *in)
{
	for (int i = 2; i < argc; i++) {
		const size_t len = strcspn(argv[i], "=");
		const struct flag *flag = find_flag(argv[i], len);
		const char *value = argv[i][len] ? argv[i] + len + 1 : NULL;

		if (!flag || (flag->alone && value))
			return cli_usage(argv[0], "\"%s\" is no option", argv[i]);
		if (!flag->alone && !value && ++i < argc)
			value = argv[i];
		if (!flag->alone && !value)
			return cli_usage(argv[0], "%s needs a value", flag->name);
		if (!flag->set(in, flag->key, value))
			return cli_usage(argv[0], "%s: \"%s\" is not possible", flag->name, value);
	}
	return CLI_OK;
}

/* ---- serving ----------------------------------------------------------------------------------
 */

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	struct invocation *in = opaque;

	if ((int)level <= GW_LOG_WARN + in->loudness)
		logger_line(&in->log, "", text);
}

static void on_signal(void *opaque, int signal)
{
	struct invocation *in = opaque;

	(void)signal;
	gw_device_server_stop(in->server);
}

static int serve(const char *name, struct invocation *in)
{
	struct signals signals = { .on_signal = on_signal, .opaque = in };
	char *json = cJSON_PrintUnformatted(in->device);
	struct gw_error err;
	int r;

	if (!json)
		return cli_error(name, "out of memory");
	signals_block();
	survive_truncation();
	logger_open(&in->log);
	r = gw_device_server_new(json, &in->options, &in->server, &err);
	cJSON_free(json);
	if (!r)
		r = signals_start(&signals, on_signal, in, &err);
	if (!r) {
		r = gw_device_server_wait(in->server, -1, &err);
		signals_stop(&signals);
	}
	if (in->server)
		gw_device_server_free(in->server);
	logger_close(&in->log);
	return r < 0 ? cli_error(name, "%s", err.text) : CLI_OK;
}

int cli_device_server(int argc, char **argv)
{
	struct invocation in = {
		.options = { .size = sizeof(in.options), .listen_fd = -1, .log = on_log },
	};
	int status;

	if (argc < 2 || argv[1][0] == '-')
		return cli_usage(argv[0], "a type of device is needed");
	in.options.opaque = &in;
	in.device = cJSON_CreateObject();
	if (!in.device || !cJSON_AddStringToObject(in.device, "id", "device") ||
	    !cJSON_AddStringToObject(in.device, "type", argv[1])) {
		cJSON_Delete(in.device);
		return cli_error(argv[0], "out of memory");
	}
	status = take_words(argc, argv, &in);
	if (status == CLI_OK && !in.options.path == (in.options.listen_fd < 0))
		status = cli_usage(argv[0], "one of --socket and --fd is needed");
	if (status == CLI_OK)
		status = serve(argv[0], &in);
	cJSON_Delete(in.device);
	return status;
}
