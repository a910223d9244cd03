/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the caller has given the VM, by name. */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <string.h>

static struct vm_fd **find(struct gw_vm *vm, const char *name)
{
	struct vm_fd **at = &vm->fds;

	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	return at;
}

static void drop(struct vm_fd **at)
{
	struct vm_fd *gone = *at;

	*at = gone->next;
	close(gone->fd);
	free(gone);
}

static int check_name(const char *name, struct gw_error *err)
{
	const size_t len = strlen(name);

	if (len && len < sizeof(((struct vm_fd *)0)->name))
		return 0;
	return error_set(err, -EINVAL, "descriptor \"%.64s\": a name has 1 to %zu bytes", name,
	                 sizeof(((struct vm_fd *)0)->name) - 1);
}

int gw_vm_give_fd(struct gw_vm *vm, const char *name, int fd, struct gw_error *err)
{
	struct vm_fd *entry, **at;
	autoclose int copy = -1;
	int r = check_name(name, err);

	if (r < 0)
		return r;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return error_set_sys(err, errno == EBADF ? -EINVAL : -errno,
		                     "descriptor \"%s\": %d", name, fd);
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return error_set(err, -ENOMEM, "descriptor \"%s\": out of memory", name);
	strcpy(entry->name, name);
	entry->fd = take_fd(&copy);
	pthread_mutex_lock(&vm->fd_lock);
	at = find(vm, name);
	if (*at)
		drop(at);
	entry->next = vm->fds;
	vm->fds = entry;
	pthread_mutex_unlock(&vm->fd_lock);
	return 0;
}

int gw_vm_drop_fd(struct gw_vm *vm, const char *name, struct gw_error *err)
{
	struct vm_fd **at;
	int r = 0;

	pthread_mutex_lock(&vm->fd_lock);
	at = find(vm, name);
	if (*at)
		drop(at);
	else
		r = error_set(err, -ENOENT, "there is no descriptor \"%s\"", name);
	pthread_mutex_unlock(&vm->fd_lock);
	return r;
}

int vm_take_fd(void *opaque, const char *name)
{
	struct gw_vm *vm = opaque;
	struct vm_fd *entry;
	int fd = -ENOENT;

	pthread_mutex_lock(&vm->fd_lock);
	entry = *find(vm, name);
	if (entry) {
		fd = fcntl(entry->fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			fd = -errno;
	}
	pthread_mutex_unlock(&vm->fd_lock);
	return fd;
}

void vm_fds_free(struct gw_vm *vm)
{
	while (vm->fds)
		drop(&vm->fds);
}
