/* SPDX-License-Identifier: Apache-2.0 */
/* The migration object: one migration at a time, its thread, its parameters. */
#include "migration/migration_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

const char *migration_status_name(enum migration_status status)
{
	static const char *const names[] = {
		[MIGRATION_NONE] = "none",
		[MIGRATION_SETUP] = "setup",
		[MIGRATION_WAIT_UNPLUG] = "wait-unplug",
		[MIGRATION_ACTIVE] = "active",
		[MIGRATION_DEVICE] = "device",
		[MIGRATION_COMPLETED] = "completed",
		[MIGRATION_FAILED] = "failed",
		[MIGRATION_CANCELLING] = "cancelling",
		[MIGRATION_CANCELLED] = "cancelled",
	};

	return names[status];
}

int migration_create(const struct migration_host *host, struct migration **out,
                     struct gw_error *err)
{
	struct migration *mig = calloc(1, sizeof(*mig));

	if (!mig)
		return error_set(err, -ENOMEM, "migration: out of memory");
	mig->host = *host;
	mig->listen_fd = -1;
	mig->params = (struct gw_migrate_params){
		.downtime_limit_ms = 300,
		.max_bandwidth = UINT64_MAX,
		.switchover_timeout_ms = 10000,
		.network_timeout_ms = 5000,
		.unplug_timeout_ms = 30000,
		.switchover_ack = GW_SWITCH_ON,
		.plain_tcp = GW_SWITCH_OFF,
	};
	mig->cancel_fd = io_eventfd();
	if (mig->cancel_fd < 0) {
		int r = mig->cancel_fd;

		free(mig);
		return error_set_sys(err, r, "migration: eventfd");
	}
	pthread_mutex_init(&mig->lock, NULL);
	pthread_cond_init(&mig->ended, NULL);
	*out = mig;
	return 0;
}

void migration_destroy(struct migration *mig)
{
	migration_cancel(mig, "the VM goes away");
	migration_wait(mig);
	progress_fini(&mig->progress);
	close(mig->cancel_fd);
	pthread_cond_destroy(&mig->ended);
	pthread_mutex_destroy(&mig->lock);
	free(mig);
}

/* ---- beginning and ending ---------------------------------------------------------------- */

static void tell_status(struct migration *mig, enum migration_status status)
{
	char data[48];

	snprintf(data, sizeof(data), "{\"status\":\"%s\"}", migration_status_name(status));
	mig->host.event(mig->host.opaque, "MIGRATION", data);
}

void migration_set_status(struct migration *mig, enum migration_status status)
{
	bool changed;

	pthread_mutex_lock(&mig->lock);
	/* Once cancelled it only ends. */
	changed = mig->status != status &&
	          !(mig->status == MIGRATION_CANCELLING && status <= MIGRATION_DEVICE);
	if (changed)
		mig->status = status;
	pthread_mutex_unlock(&mig->lock);
	if (changed)
		tell_status(mig, status);
}

void migration_tell_degraded(void *opaque, const struct participant *p, enum phase phase,
                             const struct gw_error *err)
{
	struct migration *mig = opaque;
	cJSON *root = p->ops->trouble ? NULL : cJSON_CreateObject();
	autofree char *reason = NULL;
	char *data = NULL;

	if (root && asprintf(&reason, "%s: %s", phase_name(phase), err->text) >= 0 &&
	    cJSON_AddStringToObject(root, "device", p->name) &&
	    cJSON_AddStringToObject(root, "state", "failed") &&
	    cJSON_AddStringToObject(root, "reason", reason))
		data = cJSON_PrintUnformatted(root);
	if (data)
		mig->host.event(mig->host.opaque, "DEVICE_DEGRADED", data);
	free(data);
	cJSON_Delete(root);
}

static void tell_ended(struct migration *mig)
{
	if (mig->host.ended)
		mig->host.ended(mig->host.opaque);
}

/* The thread of the last migration, if it has not been joined yet. Lock held; given up and
 * taken again meanwhile. */
static void join_thread(struct migration *mig)
{
	pthread_t thread = mig->thread;

	if (!mig->threaded)
		return;
	mig->threaded = false;
	pthread_mutex_unlock(&mig->lock);
	pthread_join(thread, NULL);
	pthread_mutex_lock(&mig->lock);
}

int migration_begin(struct migration *mig, bool incoming, struct gw_error *err)
{
	pthread_mutex_lock(&mig->lock);
	if (mig->active || mig->waking) {
		pthread_mutex_unlock(&mig->lock);
		return error_set(err, -EBUSY, "a migration is under way");
	}
	mig->active = true;
	join_thread(mig);
	mig->incoming = incoming;
	mig->cancelled = false;
	mig->handed_over = false;
	mig->cancel_reason[0] = 0;
	mig->stats = (struct stats){ .started = now_ms() };
	progress_fini(&mig->progress);
	mig->asleep &= !incoming;
	mig->error = (struct gw_error){ 0 };
	mig->degraded_there[0] = 0;
	io_eventfd_drain(mig->cancel_fd);
	mig->status = MIGRATION_NONE;
	pthread_mutex_unlock(&mig->lock);
	return 0;
}

int migration_spawn(struct migration *mig, void *(*run)(void *), const char *name,
                    struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&mig->lock);
	r = thread_start(&mig->thread, run, mig, name);
	mig->threaded = r == 0;
	pthread_mutex_unlock(&mig->lock);
	return r ? error_set_sys(err, r, "%s: pthread_create", name) : 0;
}

int migration_point_of_no_return(struct migration *mig, struct gw_error *err)
{
	int r = 0;

	pthread_mutex_lock(&mig->lock);
	if (mig->cancelled && err)
		r = error_set(err, -ECANCELED, "cancelled");
	else
		mig->handed_over = true;
	pthread_mutex_unlock(&mig->lock);
	return r;
}

void migration_arrives(struct migration *mig, bool run)
{
	pthread_mutex_lock(&mig->lock);
	mig->asleep = !run;
	pthread_mutex_unlock(&mig->lock);
}

void migration_stop_listening(struct migration *mig)
{
	pthread_mutex_lock(&mig->lock);
	if (mig->listen_fd >= 0) {
		close(mig->listen_fd);
		mig->listen_fd = -1;
		if (!strncmp(mig->uri, "unix:", 5))
			unlink(mig->uri + 5);
	}
	pthread_mutex_unlock(&mig->lock);
}

void migration_explain_cancel(struct migration *mig, struct gw_error *err)
{
	pthread_mutex_lock(&mig->lock);
	if (mig->cancelled && err->code == -ECANCELED)
		error_set(err, -ECANCELED, "%s",
		          mig->cancel_reason[0] ? mig->cancel_reason : "cancelled");
	pthread_mutex_unlock(&mig->lock);
}

void migration_finish(struct migration *mig, const struct gw_error *err)
{
	enum migration_status status = MIGRATION_COMPLETED;

	migration_stop_listening(mig);
	pthread_mutex_lock(&mig->lock);
	mig->stats.ended = now_ms();
	if (err) {
		mig->error = *err;
		status = err->code == -ECANCELED && !mig->cancel_reason[0] ? MIGRATION_CANCELLED
		                                                           : MIGRATION_FAILED;
	}
	/* At once with the status: who reads "completed" may begin the next. */
	mig->status = status;
	mig->active = false;
	pthread_cond_broadcast(&mig->ended);
	pthread_mutex_unlock(&mig->lock);
	if (err && status == MIGRATION_FAILED)
		log_error(mig->host.log, "migration: %s", err->text);
	tell_status(mig, status);
	tell_ended(mig);
}

/* The status is set before the thread is woken, so that CANCELLING never comes behind its end. */
void migration_cancel(struct migration *mig, const char *why)
{
	bool begins, tell;

	pthread_mutex_lock(&mig->lock);
	begins = mig->active && !mig->cancelled && !mig->handed_over;
	if (begins) {
		mig->cancelled = true;
		snprintf(mig->cancel_reason, sizeof(mig->cancel_reason), "%s", why ? why : "");
	}
	tell = begins && mig->status != MIGRATION_NONE;
	if (tell)
		mig->status = MIGRATION_CANCELLING;
	pthread_mutex_unlock(&mig->lock);
	if (tell)
		tell_status(mig, MIGRATION_CANCELLING);
	pthread_mutex_lock(&mig->lock);
	/* Unless another one has begun meanwhile. */
	if (begins && mig->cancelled)
		io_eventfd_signal(mig->cancel_fd);
	pthread_mutex_unlock(&mig->lock);
}

void migration_wait(struct migration *mig)
{
	pthread_mutex_lock(&mig->lock);
	while (mig->active)
		pthread_cond_wait(&mig->ended, &mig->lock);
	join_thread(mig);
	pthread_mutex_unlock(&mig->lock);
}

bool migration_active(struct migration *mig)
{
	bool active;

	pthread_mutex_lock(&mig->lock);
	active = mig->active;
	pthread_mutex_unlock(&mig->lock);
	return active;
}

/* ---- starting ------------------------------------------------------------------------------- */

static int check_blockers(struct migration *mig, struct gw_error *err)
{
	const struct participant_list *list = mig->host.participants(mig->host.opaque);
	const char *why =
	        list ? sequence_blocker(list, SEQUENCE_LIVE | SEQUENCE_MAY_LEAVE, NULL, NULL)
	             : NULL;

	if (!list)
		return error_set(err, -ENODATA, "the VM is empty");
	return why ? error_set(err, -ENOTSUP, "%s", why) : 0;
}

static int set_uri(struct migration *mig, const char *uri, struct gw_error *err)
{
	if (strlen(uri) >= sizeof(mig->uri))
		return error_set(err, -ENAMETOOLONG, "URI: longer than %zu bytes",
		                 sizeof(mig->uri) - 1);
	strcpy(mig->uri, uri);
	return transport_check_uri(uri, err);
}

void migration_call_off(struct migration *mig)
{
	pthread_mutex_lock(&mig->lock);
	mig->active = false;
	pthread_cond_broadcast(&mig->ended);
	pthread_mutex_unlock(&mig->lock);
	tell_ended(mig);
}

/* The guest runs, and nothing has begun: what does not come along is asked to leave. */
int migration_let_leave(struct migration *mig, bool tell, struct gw_error *err)
{
	const struct migration_host *host = &mig->host;
	int r = host->ask_to_leave ? host->ask_to_leave(host->opaque, err) : 0;

	if (r <= 0)
		return r;
	if (tell)
		migration_set_status(mig, MIGRATION_WAIT_UNPLUG);
	return host->await_leave(host->opaque, mig->cancel_fd,
	                         migration_params(mig).unplug_timeout_ms, err);
}

int migration_start(struct migration *mig, const char *uri, struct gw_error *err)
{
	int r = migration_begin(mig, false, err);

	if (r < 0)
		return r;
	r = set_uri(mig, uri, err);
	if (!r)
		r = check_blockers(mig, err);
	if (!r) {
		migration_set_status(mig, MIGRATION_SETUP);
		r = migration_spawn(mig, outgoing_thread, "migration", err);
		if (r < 0)
			migration_finish(mig, err);
	} else {
		migration_call_off(mig);
	}
	return r;
}

int migration_take_back(struct migration *mig, struct gw_error *err)
{
	struct sequence s = {
		.log = mig->host.log,
		.list = mig->host.participants(mig->host.opaque),
	};

	int r = 0;

	pthread_mutex_lock(&mig->lock);
	if (mig->active)
		r = error_set(err, -EBUSY, "a migration is under way");
	else if (mig->gone)
		r = error_set(
		        err, -EPERM,
		        "the destination has said that it runs the guest, which therefore never "
		        "runs here again");
	if (!r) {
		mig->active = true;
		mig->asleep = false;
	}
	pthread_mutex_unlock(&mig->lock);
	if (r < 0)
		return r;
	r = mig->host.claim(mig->host.opaque, err);
	if (r < 0) {
		migration_call_off(mig);
		return r;
	}
	if (s.list) {
		sequence_run_all(&s, PHASE_ANSWER_AGAIN, NULL);
		sequence_run_all(&s, PHASE_ROLLBACK, NULL);
	}
	sequence_end(&s);
	migration_call_off(mig);
	return 0;
}

/* One that comes in has come in, and only its last words are still under way. */
int migration_wake(struct migration *mig, struct participant_list *list, struct gw_error *err)
{
	const struct sequence_watch watch = { .opaque = mig, .failed = migration_tell_degraded };
	bool wakes;
	int r = 0;

	pthread_mutex_lock(&mig->lock);
	if (mig->asleep && mig->active && !mig->incoming)
		r = error_set(err, -EBUSY, "a migration is under way");
	wakes = mig->asleep && !r;
	if (wakes)
		mig->waking = true;
	pthread_mutex_unlock(&mig->lock);
	if (!wakes)
		return r;
	sequence_wake(mig->host.log, list, &watch);
	pthread_mutex_lock(&mig->lock);
	mig->asleep = mig->waking = false;
	pthread_mutex_unlock(&mig->lock);
	return 0;
}

int migration_listen(struct migration *mig, const char *uri, struct gw_error *err)
{
	int r = migration_begin(mig, true, err);

	if (r < 0)
		return r;
	r = set_uri(mig, uri, err);
	if (!r)
		r = transport_listen(uri, migration_params(mig).plain_tcp == GW_SWITCH_ON,
		                     &mig->listen_fd, err);
	if (!r) {
		migration_set_status(mig, MIGRATION_SETUP);
		r = migration_spawn(mig, incoming_thread, "incoming", err);
		if (r < 0)
			migration_finish(mig, err);
	} else {
		migration_call_off(mig);
	}
	return r;
}

/* ---- parameters -------------------------------------------------------------------------------
 */

int migration_set_params(struct migration *mig, const struct gw_migrate_params *params,
                         struct gw_error *err)
{
	const struct {
		const char *name;
		uint64_t value, max;
		uint64_t *to;
	} rows[] = {
		{ "downtime-limit", params->downtime_limit_ms, 2000000,
		  &mig->params.downtime_limit_ms },
		{ "max-bandwidth", params->max_bandwidth, UINT64_MAX, &mig->params.max_bandwidth },
		{ "avail-switchover-bandwidth", params->switchover_bandwidth, UINT64_MAX,
		  &mig->params.switchover_bandwidth },
		{ "switchover-timeout", params->switchover_timeout_ms, 3600000,
		  &mig->params.switchover_timeout_ms },
		{ "network-timeout", params->network_timeout_ms, 3600000,
		  &mig->params.network_timeout_ms },
		{ "unplug-timeout", params->unplug_timeout_ms, 3600000,
		  &mig->params.unplug_timeout_ms },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].value > rows[i].max)
			return error_set(err, -EINVAL, "%s: %llu is more than %llu", rows[i].name,
			                 (unsigned long long)rows[i].value,
			                 (unsigned long long)rows[i].max);
	if ((unsigned)params->switchover_ack > GW_SWITCH_OFF)
		return error_set(err, -EINVAL, "switchover-ack: neither on nor off");
	if ((unsigned)params->plain_tcp > GW_SWITCH_OFF)
		return error_set(err, -EINVAL, "plain-tcp: neither on nor off");
	pthread_mutex_lock(&mig->lock);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].value)
			*rows[i].to = rows[i].value;
	if (params->switchover_ack)
		mig->params.switchover_ack = params->switchover_ack;
	if (params->plain_tcp)
		mig->params.plain_tcp = params->plain_tcp;
	pthread_mutex_unlock(&mig->lock);
	return 0;
}

struct gw_migrate_params migration_params(struct migration *mig)
{
	struct gw_migrate_params params;

	migration_get_params(mig, &params);
	return params;
}

void migration_get_params(struct migration *mig, struct gw_migrate_params *params)
{
	pthread_mutex_lock(&mig->lock);
	*params = mig->params;
	pthread_mutex_unlock(&mig->lock);
}
