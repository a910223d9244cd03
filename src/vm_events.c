/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks: events and log lines on their way out, one at a time. */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

void vm_emit(struct gw_vm *vm, const char *name, const char *data)
{
	int64_t now = wall_us();
	struct gw_event event = {
		.name = name,
		.data = data ? data : "{}",
		.seconds = now / 1000000,
		.microseconds = now % 1000000,
	};

	pthread_mutex_lock(&vm->event_lock);
	if (vm->callbacks.event)
		vm->callbacks.event(vm->callbacks.opaque, &event);
	for (struct vm_listener *l = vm->listeners; l; l = l->next)
		l->event(l->opaque, &event);
	pthread_mutex_unlock(&vm->event_lock);
}

void vm_emit_device(struct gw_vm *vm, const char *name, const char *id)
{
	/* The id twice, and what is around it. */
	char data[2 * sizeof(((struct config_device *)0)->id) + 64];

	snprintf(data, sizeof(data), "{\"device\":\"%s\",\"path\":\"/machine/%s\"}", id, id);
	vm_emit(vm, name, data);
}

void vm_log_sink(void *opaque, enum gw_log_level level, const char *text)
{
	struct gw_vm *vm = opaque;

	if (!vm->callbacks.log)
		return;
	pthread_mutex_lock(&vm->event_lock);
	vm->callbacks.log(vm->callbacks.opaque, level, text);
	pthread_mutex_unlock(&vm->event_lock);
}

int gw_vm_listen(struct gw_vm *vm, void (*event)(void *opaque, const struct gw_event *event),
                 void *opaque, struct gw_error *err)
{
	struct vm_listener *l = calloc(1, sizeof(*l));
	struct vm_listener **pp;

	if (!l)
		return error_set(err, -ENOMEM, "listener: out of memory");
	l->event = event;
	l->opaque = opaque;
	pthread_mutex_lock(&vm->event_lock);
	for (pp = &vm->listeners; *pp; pp = &(*pp)->next)
		;
	*pp = l;
	pthread_mutex_unlock(&vm->event_lock);
	return 0;
}

int gw_vm_unlisten(struct gw_vm *vm, void (*event)(void *opaque, const struct gw_event *event),
                   void *opaque)
{
	int r = -ENOENT;

	pthread_mutex_lock(&vm->event_lock);
	for (struct vm_listener **pp = &vm->listeners; *pp; pp = &(*pp)->next) {
		struct vm_listener *l = *pp;

		if (l->event != event || l->opaque != opaque)
			continue;
		*pp = l->next;
		free(l);
		r = 0;
		break;
	}
	pthread_mutex_unlock(&vm->event_lock);
	return r;
}
