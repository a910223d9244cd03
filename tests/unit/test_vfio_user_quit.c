/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: a server that answers nothing delays the end of a VM by one timeout, whatever there is
 * to ask of it. */
#include "vfu_world.h"

#include "vm.h"

static void begin_short(struct world *w)
{
	begin(w);
	w->options.timeout = (uint32_t)patience_ms() / 60;
	cr_assert(add(w), "%s", w->vm->error);
}

/* No reply from now on. */
static void hang(struct world *w, enum wire_command on)
{
	w->s.seen[on] = 0;
	w->s.on = on;
	w->s.lie = LIE_SILENCE;
}

/* The last thing that is asked of a device is a reset, which may take six times as long as others.
 */
Test(vfio_user, a_server_that_hangs_when_its_device_is_given_back)
{
	struct world w;
	int64_t begun;

	begin_short(&w);
	hang(&w, WIRE_DEVICE_RESET);
	begun = now_ms();
	vmachine_quit(w.vm);
	vmachine_free(w.vm);
	cr_assert_lt(now_ms() - begun, 3 * w.options.timeout);
	vfu_server_free(&w.s);
	cr_assert_eq(w.s.seen[WIRE_DEVICE_RESET], 1);
}

static void *ask_state(void *opaque)
{
	struct vfio_device_feature_mig_state state = { 0 };
	struct world *w = opaque;

	cr_assert_eq(
	        vfio_dev_feature(&w->pci->dev,
	                         VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
	                         &state, sizeof(state)),
	        -ENOTCONN);
	return NULL;
}

/* Somebody waits already, a migration say. */
Test(vfio_user, a_server_that_hangs_while_it_is_asked)
{
	struct world w;
	pthread_t thread;
	int64_t begun;

	begin_short(&w);
	hang(&w, WIRE_DEVICE_FEATURE);
	cr_assert_eq(pthread_create(&thread, NULL, ask_state, &w), 0);
	wait_until(__atomic_load_n(&w.s.seen[WIRE_DEVICE_FEATURE], __ATOMIC_ACQUIRE));
	begun = now_ms();
	vmachine_quit(w.vm);
	pthread_join(thread, NULL);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), "told to quit"), "%s",
	          vmachine_event(w.vm, "DEVICE_BROKEN"));
	vmachine_free(w.vm);
	cr_assert_lt(now_ms() - begun, 3 * w.options.timeout);
	vfu_server_free(&w.s);
}

static void count(void *opaque)
{
	++*(unsigned *)opaque;
}

/* What a VM does with those that want to know. */
Test(vfio_user, hooks_of_a_vm_that_is_told_to_quit)
{
	unsigned calls[3] = { 0 };
	struct machine_quit_hook hooks[3];
	struct gw_error err;
	struct gw_vm *vm;

	for (unsigned i = 0; i < 3; i++)
		hooks[i] = (struct machine_quit_hook){ .call = count, .opaque = &calls[i] };
	cr_assert_eq(gw_vm_new(NULL, &vm, &err), 0, "%s", err.text);
	vm_on_quit(vm, &hooks[0], true);
	vm_on_quit(vm, &hooks[1], true);
	vm_on_quit(vm, &hooks[0], false);
	gw_vm_quit(vm);
	cr_assert_eq(calls[0], 0, "it does not want to know any more");
	cr_assert_geq(calls[1], 1);
	vm_on_quit(vm, &hooks[2], true);
	cr_assert_eq(calls[2], 1, "it comes late");
	vm_on_quit(vm, &hooks[1], false);
	vm_on_quit(vm, &hooks[2], false);
	gw_vm_free(vm);
}
