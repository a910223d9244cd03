/* SPDX-License-Identifier: Apache-2.0 */
#include "control/fds.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NO_SET (-1)

struct fds_entry {
	struct fds_entry *next;
	int64_t set; /* NO_SET: it has a name */
	char *name;  /* or the set's "opaque", NULL: none */
	int fd;
};

void fds_init(struct fds *fds, struct gw_vm *vm)
{
	*fds = (struct fds){ .vm = vm };
	pthread_mutex_init(&fds->lock, NULL);
}

/* ---- the list, with the lock held ----------------------------------------------------------- */

static int put(struct fds *fds, int64_t set, const char *name, int fd, struct gw_error *err)
{
	struct fds_entry *entry;

	if (fds->count == FDS_MAX)
		return error_set(err, -EMFILE, "there are %d descriptors already", FDS_MAX);
	entry = calloc(1, sizeof(*entry));
	if (entry && name)
		entry->name = strdup(name);
	if (!entry || (name && !entry->name)) {
		free(entry);
		return error_set(err, -ENOMEM, "out of memory");
	}
	entry->set = set;
	entry->fd = fd;
	entry->next = fds->list;
	fds->list = entry;
	fds->count++;
	return 0;
}

/* The descriptor is the caller's. */
static int unlink_entry(struct fds *fds, struct fds_entry **at)
{
	struct fds_entry *entry = *at;
	const int fd = entry->fd;

	*at = entry->next;
	free(entry->name);
	free(entry);
	fds->count--;
	return fd;
}

static struct fds_entry **find_name(struct fds *fds, const char *name)
{
	struct fds_entry **at = &fds->list;

	while (*at && ((*at)->set != NO_SET || strcmp((*at)->name, name) != 0))
		at = &(*at)->next;
	return at;
}

void fds_close(struct fds *fds)
{
	while (fds->list)
		close(unlink_entry(fds, &fds->list));
	pthread_mutex_destroy(&fds->lock);
}

/* ---- by name --------------------------------------------------------------------------------- */

/* A name never looks like a number or a set. */
static int check_name(const char *name, struct gw_error *err)
{
	if (!*name || (*name >= '0' && *name <= '9') || strchr(name, '/'))
		return error_set(err, -EINVAL,
		                 "\"%s\": a descriptor's name begins with no digit and has no "
		                 "slash",
		                 name);
	return 0;
}

/* With the lock held. On failure everything is as before. */
static int name_it(struct fds *fds, const char *name, int fd, int *old, struct gw_error *err)
{
	struct fds_entry *entry = *find_name(fds, name);
	int r = 0;

	if (!entry)
		r = put(fds, NO_SET, name, fd, err);
	if (r < 0)
		return r;
	r = gw_vm_give_fd(fds->vm, name, fd, err);
	if (r < 0 && !entry)
		unlink_entry(fds, find_name(fds, name));
	if (!r && entry) {
		*old = entry->fd;
		entry->fd = fd;
	}
	return r;
}

int fds_name(struct fds *fds, const char *name, int fd, struct gw_error *err)
{
	int old = -1, r = check_name(name, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&fds->lock);
	r = name_it(fds, name, fd, &old, err);
	pthread_mutex_unlock(&fds->lock);
	if (old >= 0)
		close(old);
	return r;
}

/* What the VM has used it need not have any longer. */
int fds_take(struct fds *fds, const char *name, struct gw_error *err)
{
	struct fds_entry **at;
	int fd = -ENOENT;

	pthread_mutex_lock(&fds->lock);
	at = find_name(fds, name);
	if (*at) {
		fd = unlink_entry(fds, at);
		gw_vm_drop_fd(fds->vm, name, NULL);
	}
	pthread_mutex_unlock(&fds->lock);
	return fd < 0 ? error_set(err, fd, "no descriptor has the name \"%s\"", name) : fd;
}

int fds_drop(struct fds *fds, const char *name, struct gw_error *err)
{
	int fd = fds_take(fds, name, err);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* ---- sets -------------------------------------------------------------------------------------
 */

static bool has_set(const struct fds *fds, int64_t set)
{
	for (const struct fds_entry *e = fds->list; e; e = e->next)
		if (e->set == set)
			return true;
	return false;
}

static int64_t first_free_set(const struct fds *fds)
{
	int64_t set = 0;

	while (has_set(fds, set))
		set++;
	return set;
}

/* The VM gets the member that can do most. */
static int tell_vm(struct fds *fds, int64_t set, struct gw_error *err)
{
	static const int rank[] = { [O_RDONLY] = 0, [O_WRONLY] = 1, [O_RDWR] = 2 };
	int best = -1, best_rank = -1;
	char name[48];

	for (const struct fds_entry *e = fds->list; e; e = e->next) {
		const int mode = e->set == set ? fcntl(e->fd, F_GETFL) & O_ACCMODE : O_ACCMODE;

		if (mode != O_ACCMODE && rank[mode] > best_rank) {
			best = e->fd;
			best_rank = rank[mode];
		}
	}
	snprintf(name, sizeof(name), "/dev/fdset/%lld", (long long)set);
	if (best >= 0)
		return gw_vm_give_fd(fds->vm, name, best, err);
	gw_vm_drop_fd(fds->vm, name, NULL);
	return 0;
}

int fds_add(struct fds *fds, int64_t *set, int fd, const char *opaque, struct gw_error *err)
{
	int64_t number;
	int r;

	pthread_mutex_lock(&fds->lock);
	number = *set < 0 ? first_free_set(fds) : *set;
	r = put(fds, number, opaque, fd, err);
	if (!r) {
		r = tell_vm(fds, number, err);
		if (r < 0)
			unlink_entry(fds, &fds->list);
	}
	pthread_mutex_unlock(&fds->lock);
	if (!r)
		*set = number;
	return r;
}

int fds_remove(struct fds *fds, int64_t set, int64_t fd, struct gw_error *err)
{
	bool found = false;
	int r = 0;

	pthread_mutex_lock(&fds->lock);
	for (struct fds_entry **at = &fds->list; *at;) {
		if ((*at)->set == set && (fd < 0 || (*at)->fd == fd)) {
			close(unlink_entry(fds, at));
			found = true;
		} else {
			at = &(*at)->next;
		}
	}
	if (found)
		r = tell_vm(fds, set, err);
	pthread_mutex_unlock(&fds->lock);
	if (found)
		return r;
	if (fd < 0)
		return error_set(err, -ENOENT, "there is no set %lld", (long long)set);
	return error_set(err, -ENOENT, "set %lld has no descriptor %lld", (long long)set,
	                 (long long)fd);
}

/* The set's object in the list, made if it is not there yet. */
static cJSON *set_in(cJSON *list, int64_t set)
{
	cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "fdset-id");

		if (id && (int64_t)id->valuedouble == set)
			return cJSON_GetObjectItemCaseSensitive(item, "fds");
	}
	item = cJSON_CreateObject();
	if (!cJSON_AddItemToArray(list, item) ||
	    !cJSON_AddNumberToObject(item, "fdset-id", (double)set))
		return NULL;
	return cJSON_AddArrayToObject(item, "fds");
}

cJSON *fds_describe(struct fds *fds)
{
	cJSON *list = cJSON_CreateArray();
	bool ok = list;

	pthread_mutex_lock(&fds->lock);
	for (const struct fds_entry *e = fds->list; e && ok; e = e->next) {
		cJSON *item, *members = e->set == NO_SET ? NULL : set_in(list, e->set);

		if (e->set == NO_SET)
			continue;
		item = cJSON_CreateObject();
		ok = cJSON_AddItemToArray(members, item) &&
		     cJSON_AddNumberToObject(item, "fd", e->fd) &&
		     (!e->name || cJSON_AddStringToObject(item, "opaque", e->name));
	}
	pthread_mutex_unlock(&fds->lock);
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}
