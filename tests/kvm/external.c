/* SPDX-License-Identifier: Apache-2.0 */
#include "external.h"

#include "base/util.h"

#include <poll.h>
#include <string.h>

struct guest *external(void)
{
	struct guest *g = guest_new();
	const struct gw_callbacks callbacks = g->vm->callbacks;
	const struct gw_options options = {
		.size = sizeof(options),
		.callbacks = &callbacks,
		.external_loop = true,
	};
	struct gw_error err_;

	gw_vm_free(g->vm);
	cr_assert(gw_vm_new_with(&options, &g->vm, &err_) == 0, "%s", err_.text);
	return g;
}

struct guest *external_boot(const char *name, unsigned memory_mib)
{
	struct guest *g = external();
	struct gw_error err_;

	cr_assert(guest_configure(g, name, 1, memory_mib, "", &err_) == 0, "%s", err_.text);
	return g;
}

void run(struct guest *g)
{
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
}

/* One round for up to two VMs: waits on their descriptors alone. */
void turn(struct guest *a, struct guest *b)
{
	struct pollfd fds[2] = {
		{ .fd = gw_vm_fd(a->vm), .events = POLLIN },
		{ .fd = b ? gw_vm_fd(b->vm) : -1, .events = POLLIN },
	};
	struct gw_error err_;

	poll(fds, 2, 20);
	if (fds[0].revents)
		cr_assert(gw_vm_dispatch(a->vm, 0, &err_) == 0, "%s", err_.text);
	if (fds[1].revents)
		cr_assert(gw_vm_dispatch(b->vm, 0, &err_) == 0, "%s", err_.text);
}

void turn_until_output(struct guest *g, const char *text)
{
	wait_turning(strstr(guest_output(g), text), turn(g, NULL), "no \"%s\" but \"%s\"", text,
	             guest_output(g));
}

void turn_until_state(struct guest *g, struct guest *other, enum gw_state state)
{
	wait_turning(gw_vm_state(g->vm) == state, turn(g, other), "state %s",
	             gw_state_name(gw_vm_state(g->vm)));
}

bool seen(struct guest *g, const char *event)
{
	bool yes;

	pthread_mutex_lock(&g->lock);
	yes = strstr(g->events, event);
	pthread_mutex_unlock(&g->lock);
	return yes;
}

void turn_until_event(struct guest *g, const char *event)
{
	wait_turning(seen(g, event), turn(g, NULL), "no event %s", event);
}
