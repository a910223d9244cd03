/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU: one thread that runs it, parks when told to, and loses no wake-up.
 *
 * The kick signal is blocked in the thread everywhere but inside KVM_RUN
 * (KVM_SET_SIGNAL_MASK), so that a kick which comes at any other moment stays
 * pending and makes the next KVM_RUN return at once. No handler is installed.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include "vmm/machine.h"
#include "vmm/participant.h"

#include <linux/kvm.h>

struct arch_vcpu;

struct vcpu {
	struct participant participant;
	struct machine *machine;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	struct arch_vcpu *arch;

	pthread_t thread;
	bool thread_started;
	int tid;
	pthread_mutex_t lock; /* guards the three below */
	pthread_cond_t changed;
	bool run_wanted;
	bool parked;
	bool quit;
};

int vcpu_create(struct machine *m, unsigned index, struct vcpu **out, struct gw_error *err);
/* Parks and joins its thread first. NULL is fine. */
void vcpu_destroy(struct vcpu *v);

/* Lets it run; returns at once. */
void vcpu_run(struct vcpu *v);
/* Asks it to park; returns at once. Any thread. */
void vcpu_request_pause(struct vcpu *v);
/* Waits until it has parked: its state is then complete in KVM (pending I/O finished). */
void vcpu_wait_paused(struct vcpu *v);

#endif
