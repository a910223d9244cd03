/* SPDX-License-Identifier: Apache-2.0 */
#include "faults.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ld's --wrap: a call of f comes to __wrap_f, and __real_f is what f was. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *p);
int __real_fsync(int fd);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *p);
int __wrap_fsync(int fd);

#define WATCHED_MAX 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool armed, hit; /* atomic: whether `armed` is looked at without the lock */
static enum fault wanted;
static unsigned left;
static void *watched[WATCHED_MAX];
static size_t watched_count;
static bool any; /* something is, or was, watched (atomic) */

static bool fails(enum fault kind)
{
	bool mine = false;

	if (!__atomic_load_n(&armed, __ATOMIC_ACQUIRE))
		return false;
	pthread_mutex_lock(&lock);
	if (armed && kind == wanted && left && !--left)
		mine = hit = true;
	pthread_mutex_unlock(&lock);
	return mine;
}

static void *watch(void *p)
{
	if (!p || !__atomic_load_n(&armed, __ATOMIC_ACQUIRE))
		return p;
	pthread_mutex_lock(&lock);
	if (watched_count == WATCHED_MAX)
		abort();
	watched[watched_count++] = p;
	__atomic_store_n(&any, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
	return p;
}

static bool unwatch(const void *p)
{
	bool found = false;

	if (!p || !__atomic_load_n(&any, __ATOMIC_ACQUIRE))
		return false;
	pthread_mutex_lock(&lock);
	for (size_t i = watched_count; i-- > 0 && !found;)
		if (watched[i] == p) {
			watched[i] = watched[--watched_count];
			found = true;
		}
	pthread_mutex_unlock(&lock);
	return found;
}

void *__wrap_malloc(size_t size)
{
	if (!fails(FAULT_ALLOC))
		return watch(__real_malloc(size));
	errno = ENOMEM;
	return NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (!fails(FAULT_ALLOC))
		return watch(__real_calloc(count, size));
	errno = ENOMEM;
	return NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	bool was;
	void *more;

	if (fails(FAULT_ALLOC)) {
		errno = ENOMEM;
		return NULL;
	}
	was = unwatch(p);
	more = __real_realloc(p, size);
	return was || !p ? watch(more) : more;
}

char *__wrap_strdup(const char *text)
{
	if (!fails(FAULT_ALLOC))
		return watch(__real_strdup(text));
	errno = ENOMEM;
	return NULL;
}

void __wrap_free(void *p)
{
	unwatch(p);
	__real_free(p);
}

int __wrap_fsync(int fd)
{
	if (!fails(FAULT_FSYNC))
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

void faults_arm(enum fault kind, unsigned nth)
{
	pthread_mutex_lock(&lock);
	wanted = kind;
	left = nth;
	hit = false;
	watched_count = 0;
	__atomic_store_n(&armed, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}

bool faults_disarm(void)
{
	bool was;

	pthread_mutex_lock(&lock);
	__atomic_store_n(&armed, false, __ATOMIC_RELEASE);
	was = hit;
	pthread_mutex_unlock(&lock);
	return was;
}

size_t faults_left(void)
{
	size_t count;

	pthread_mutex_lock(&lock);
	count = watched_count;
	pthread_mutex_unlock(&lock);
	return count;
}
