/* SPDX-License-Identifier: Apache-2.0 */
#include "control/dumper.h"

#include "base/error.h"
#include "base/util.h"
#include "base/thread.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void dumper_init(struct dumper *dumper, struct gw_vm *vm,
                 void (*event)(void *opaque, const struct gw_event *event), void *opaque)
{
	*dumper = (struct dumper){ .vm = vm, .event = event, .opaque = opaque, .fd = -1 };
	pthread_mutex_init(&dumper->thread_lock, NULL);
	pthread_mutex_init(&dumper->lock, NULL);
}

static void join(struct dumper *dumper)
{
	if (dumper->joinable)
		pthread_join(dumper->thread, NULL);
	dumper->joinable = false;
}

void dumper_end(struct dumper *dumper)
{
	join(dumper);
	pthread_mutex_destroy(&dumper->lock);
	pthread_mutex_destroy(&dumper->thread_lock);
}

/* Guest memory, which is about what there is to write. */
static uint64_t expected_size(struct gw_vm *vm)
{
	autofree char *json = NULL;
	cJSON *memory, *item;
	double total = 0;

	if (gw_vm_query_memory(vm, &json, NULL) < 0)
		return 0;
	memory = cJSON_Parse(json);
	cJSON_ArrayForEach(item, memory) total += cJSON_IsNumber(item) ? item->valuedouble : 0;
	cJSON_Delete(memory);
	return total > 0 ? (uint64_t)total : 0;
}

/* How far it has come; a pipe does not tell. */
static uint64_t position(int fd)
{
	off_t at = lseek(fd, 0, SEEK_CUR);

	return at > 0 ? (uint64_t)at : 0;
}

static bool describe(const struct dumper *d, cJSON *to)
{
	static const char *const names[] = {
		[DUMPER_NONE] = "none",
		[DUMPER_ACTIVE] = "active",
		[DUMPER_COMPLETED] = "completed",
		[DUMPER_FAILED] = "failed",
	};
	const uint64_t completed = d->status == DUMPER_ACTIVE ? position(d->fd) : d->completed;

	return cJSON_AddStringToObject(to, "status", names[d->status]) &&
	       cJSON_AddNumberToObject(to, "completed", (double)completed) &&
	       cJSON_AddNumberToObject(to, "total", (double)MAX(d->total, completed));
}

cJSON *dumper_describe(struct dumper *dumper)
{
	cJSON *root = cJSON_CreateObject();
	bool ok;

	pthread_mutex_lock(&dumper->lock);
	ok = describe(dumper, root);
	pthread_mutex_unlock(&dumper->lock);
	if (ok)
		return root;
	cJSON_Delete(root);
	return NULL;
}

/* ---- doing it ------------------------------------------------------------------------------- */

static int begin(struct dumper *d, int fd, const char *path, struct gw_error *err)
{
	const uint64_t total = expected_size(d->vm);
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (d->status == DUMPER_ACTIVE) {
		r = error_set(err, -EBUSY, "a dump is under way");
	} else {
		d->path = path ? strdup(path) : NULL;
		if (path && !d->path)
			r = error_set(err, -ENOMEM, "out of memory");
	}
	if (!r) {
		d->status = DUMPER_ACTIVE;
		d->fd = fd;
		d->completed = 0;
		d->total = total;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

/* `outcome`: NULL, or what gets the dump's description, before there can be another one. */
static void finish(struct dumper *d, int result, cJSON *outcome)
{
	struct stat st;

	pthread_mutex_lock(&d->lock);
	d->completed = position(d->fd);
	if (!result)
		d->total = d->completed;
	if (!result && fstat(d->fd, &st) == 0 && S_ISREG(st.st_mode))
		d->total = d->completed = (uint64_t)st.st_size;
	d->status = result ? DUMPER_FAILED : DUMPER_COMPLETED;
	close(d->fd);
	d->fd = -1;
	if (result && d->path)
		unlink(d->path);
	free(d->path);
	d->path = NULL;
	if (outcome)
		describe(d, outcome);
	pthread_mutex_unlock(&d->lock);
}

/* write() may have said yes to what the disk then refuses. */
static int write_dump(struct dumper *d, struct gw_error *err)
{
	int r = gw_vm_dump_memory(d->vm, d->fd, err);

	if (!r && fsync(d->fd) < 0 && errno != EINVAL && errno != EROFS)
		r = error_set_sys(err, -errno, "fsync");
	return r;
}

/* `root` is what has been said of it, and consumed. */
static void tell(struct dumper *d, int result, const struct gw_error *why, cJSON *root)
{
	const int64_t now = wall_us();
	autofree char *data = NULL;

	if (result)
		cJSON_AddStringToObject(root, "error", why->text);
	data = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	d->event(d->opaque, &(struct gw_event){ .name = "DUMP_COMPLETED",
	                                        .data = data ? data : "{}",
	                                        .seconds = now / 1000000,
	                                        .microseconds = now % 1000000 });
}

static void *dump_thread(void *opaque)
{
	struct dumper *d = opaque;
	struct gw_error error = { 0 };
	cJSON *root = cJSON_CreateObject();
	int r = write_dump(d, &error);

	finish(d, r, cJSON_AddObjectToObject(root, "result"));
	tell(d, r, &error, root);
	return NULL;
}

static int start_detached(struct dumper *d, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&d->thread_lock);
	join(d); /* of the dump before, which is over */
	r = thread_start(&d->thread, dump_thread, d, "godwit-dump");
	d->joinable = !r;
	pthread_mutex_unlock(&d->thread_lock);
	return r < 0 ? error_set_sys(err, r, "no thread for it") : 0;
}

int dumper_start(struct dumper *dumper, int fd, const char *path, bool detach, struct gw_error *err)
{
	int r = begin(dumper, fd, path, err);

	if (r < 0) {
		close(fd);
		if (path)
			unlink(path);
		return r;
	}
	if (detach) {
		r = start_detached(dumper, err);
		if (r < 0)
			finish(dumper, r, NULL);
		return r;
	}
	r = write_dump(dumper, err);
	finish(dumper, r, NULL);
	return r;
}
