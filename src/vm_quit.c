/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for something outside of the VM, and is to know at once that it is told to quit. */
#include "vm.h"

void vm_on_quit(void *opaque, struct machine_quit_hook *hook, bool on)
{
	struct gw_vm *vm = opaque;
	struct machine_quit_hook **pp;

	pthread_mutex_lock(&vm->quit_lock);
	for (pp = &vm->quit_hooks; *pp && *pp != hook; pp = &(*pp)->next)
		;
	if (on) {
		hook->next = vm->quit_hooks;
		vm->quit_hooks = hook;
		if (vm->quitting)
			hook->call(hook->opaque);
	} else if (*pp) {
		*pp = hook->next;
	}
	pthread_mutex_unlock(&vm->quit_lock);
}

void vm_call_quit_hooks(struct gw_vm *vm)
{
	pthread_mutex_lock(&vm->quit_lock);
	vm->quitting = true;
	for (struct machine_quit_hook *h = vm->quit_hooks; h; h = h->next)
		h->call(h->opaque);
	pthread_mutex_unlock(&vm->quit_lock);
}
