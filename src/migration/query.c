/* SPDX-License-Identifier: Apache-2.0 */
/* query-migrate's answer, with QMP's names. */
#include "migration/migration_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

struct number {
	const char *name;
	uint64_t value;
};

static bool add_numbers(cJSON *to, const struct number *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!cJSON_AddNumberToObject(to, numbers[i].name, (double)numbers[i].value))
			return false;
	return true;
}

/* Once it is known how much there is: QEMU has no "ram" before that. */
static bool add_ram(cJSON *root, const struct stats *s, int64_t now)
{
	const uint64_t in_downtime = s->stopped ? s->bytes - s->bytes_at_stop : 0;
	const struct stats_rates rates = stats_rates(s, now);
	const struct number numbers[] = {
		{ "transferred", s->bytes },
		{ "remaining", s->remaining },
		{ "total", s->total_ram },
		{ "duplicate", s->zero_pages },
		{ "normal", s->normal_pages },
		{ "normal-bytes", s->normal_pages * PAGE_SIZE },
		{ "dirty-pages-rate", s->dirty_pages_rate },
		{ "dirty-sync-count", s->rounds },
		{ "page-size", PAGE_SIZE },
		{ "pages-per-second", rates.pages_per_second },
		{ "precopy-bytes", s->bytes - in_downtime },
		{ "downtime-bytes", in_downtime },
		{ "postcopy-bytes", 0 },
		{ "postcopy-requests", 0 },
		{ "multifd-bytes", 0 },
		{ "dirty-sync-missed-zero-copy", 0 },
	};
	cJSON *ram;

	if (!s->total_ram)
		return true;
	ram = cJSON_AddObjectToObject(root, "ram");
	return ram && add_numbers(ram, numbers, ARRAY_SIZE(numbers)) &&
	       cJSON_AddNumberToObject(ram, "mbps", rates.mbps);
}

/* The destination cannot know how long the guest stood. */
static bool add_downtime(cJSON *root, const struct stats *s, enum migration_status status)
{
	struct number number = { "expected-downtime", (uint64_t)s->expected_downtime };

	if (status == MIGRATION_COMPLETED && s->stopped)
		number = (struct number){
			"downtime", (uint64_t)((s->running ? s->running : s->ended) - s->stopped)
		};
	return add_numbers(root, &number, 1);
}

static bool add_times(cJSON *root, const struct stats *s, int64_t now)
{
	const int64_t end = s->ended ? s->ended : now;
	struct number numbers[2];
	size_t n = 0;

	numbers[n++] = (struct number){ "total-time", (uint64_t)(end - s->started) };
	if (s->setup_done)
		numbers[n++] =
		        (struct number){ "setup-time", (uint64_t)(s->setup_done - s->started) };
	return add_numbers(root, numbers, n);
}

/* "quiesce-time" and the like: how long the device took for it, in ms. */
static bool add_phases(cJSON *to, const struct progress_row *row)
{
	for (enum phase phase = PHASE_PREPARE; phase <= PHASE_SAVE; phase++) {
		const uint64_t ms = row->us[phase] / 1000;
		char name[24];

		snprintf(name, sizeof(name), "%s-time", phase_name(phase));
		if (!cJSON_AddNumberToObject(to, name, (double)ms))
			return false;
	}
	return true;
}

static bool add_device(cJSON *list, const struct progress_row *row)
{
	const struct number numbers[] = {
		{ "transferred", row->bytes },
		{ "remaining", row->remaining },
	};
	cJSON *to = cJSON_CreateObject();

	return to && cJSON_AddItemToArray(list, to) &&
	       cJSON_AddStringToObject(to, "id", row->name) &&
	       add_numbers(to, numbers, ARRAY_SIZE(numbers)) && add_phases(to, row);
}

/* The passthrough devices of the outgoing migration. NULL: out of memory. Lock held. */
static cJSON *devices(const struct progress *progress)
{
	cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; i < progress->count && list; i++) {
		const struct progress_row *row = &progress->rows[i];

		if (row->class == PARTICIPANT_PASSTHROUGH && !add_device(list, row)) {
			cJSON_Delete(list);
			list = NULL;
		}
	}
	return list;
}

static bool add_progress(cJSON *root, const struct stats *s, enum migration_status status,
                         bool incoming)
{
	const int64_t now = now_ms();

	return add_times(root, s, now) && (incoming || add_downtime(root, s, status)) &&
	       add_ram(root, s, now);
}

/* Takes over `list`. */
static bool add_vfio(cJSON *root, const struct stats *s, cJSON *list)
{
	cJSON *vfio;

	if (!list)
		return false;
	if (!cJSON_GetArraySize(list)) {
		cJSON_Delete(list);
		return true;
	}
	vfio = cJSON_AddObjectToObject(root, "vfio");
	if (!vfio || !cJSON_AddItemToObject(vfio, "devices", list)) {
		cJSON_Delete(list);
		return false;
	}
	return cJSON_AddNumberToObject(vfio, "transferred", (double)s->device_bytes);
}

/* Of a destination that nothing has reached there is nothing more than the status. Takes over
 * `list`. */
static bool describe(cJSON *root, const struct stats *s, enum migration_status status,
                     bool incoming, cJSON *list)
{
	bool ok = root;

	if (ok && status != MIGRATION_NONE)
		ok = cJSON_AddStringToObject(root, "status", migration_status_name(status));
	if (!ok || status == MIGRATION_NONE || (incoming && !s->total_ram)) {
		cJSON_Delete(list);
		return ok;
	}
	ok = add_progress(root, s, status, incoming);
	return add_vfio(root, s, list) && ok;
}

static void add_reason(void *opaque, const char *why)
{
	cJSON_AddItemToArray(opaque, cJSON_CreateString(why));
}

static void add_reasons(void *opaque, const struct participant_list *list)
{
	cJSON *reasons = cJSON_CreateArray();

	if (sequence_blocker(list, SEQUENCE_LIVE | SEQUENCE_MAY_LEAVE, add_reason, reasons))
		cJSON_AddItemToObject(opaque, "blocked-reasons", reasons);
	else
		cJSON_Delete(reasons);
}

static void add_degraded(cJSON *root, const char *why)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "degraded-devices");

	add_reason(list ? list : cJSON_AddArrayToObject(root, "degraded-devices"), why);
}

static void add_degraded_here(void *opaque, const struct participant_list *list)
{
	char why[640];

	for (struct participant *p = list->first; p; p = p->next)
		if (p->ops->trouble && p->ops->trouble(p, why, sizeof(why)))
			add_degraded(opaque, why);
}

/* A line each; the text is taken apart. */
static void add_degraded_there(cJSON *root, char *text)
{
	char line[DEGRADED_MAX + 16];

	for (char *rest = NULL, *why = strtok_r(text, "\n", &rest); why;
	     why = strtok_r(NULL, "\n", &rest)) {
		snprintf(line, sizeof(line), "destination: %s", why);
		add_degraded(root, line);
	}
}

static void add_participants(void *opaque, const struct participant_list *list)
{
	add_reasons(opaque, list);
	add_degraded_here(opaque, list);
}

int migration_query(struct migration *mig, char **json, struct gw_error *err)
{
	cJSON *root = cJSON_CreateObject();
	enum migration_status status;
	struct gw_error error;
	struct stats stats;
	char there[DEGRADED_MAX];
	cJSON *list;
	bool incoming, ok;

	pthread_mutex_lock(&mig->lock);
	status = mig->status;
	stats = mig->stats;
	error = mig->error;
	incoming = mig->incoming;
	memcpy(there, mig->degraded_there, sizeof(there));
	list = devices(&mig->progress);
	pthread_mutex_unlock(&mig->lock);

	ok = describe(root, &stats, status, incoming, list);
	if (ok && error.code)
		ok = cJSON_AddStringToObject(root, "error-desc", error.text);
	if (ok)
		mig->host.with_participants(mig->host.opaque, add_participants, root);
	if (ok)
		add_degraded_there(root, there);
	*json = ok ? cJSON_PrintUnformatted(root) : NULL;
	cJSON_Delete(root);
	return *json ? 0 : error_set(err, -ENOMEM, "query-migrate: out of memory");
}
