/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs with guests of our own (tests/guests/), on the real /dev/kvm. Every helper ends the test
 * with the library's own words when a call fails that should not.
 */
#ifndef KVM_HARNESS_H
#define KVM_HARNESS_H

#include "godwit.h"
#include "patience.h"
#include "vm.h"

#include <criterion/criterion.h>

/* A VM, the directory that is its own, and the events that came. */
struct guest {
	struct gw_vm *vm;
	char dir[64];
	pthread_mutex_t lock;
	char events[16384]; /* names, each with a space behind it */
};

/* An empty VM. */
struct guest *guest_new(void);
/* Makes it one with this guest ("mixer"), `cpus` vCPUs, `memory_mib` of RAM, and `more` keys in its
 * configuration ("": none). What gw_vm_configure() returns. */
int guest_configure(struct guest *g, const char *name, unsigned cpus, unsigned memory_mib,
                    const char *more, struct gw_error *err);
/* The same with a new VM, which has to be made; not running yet. */
struct guest *guest_made(const char *name, unsigned cpus, unsigned memory_mib, const char *more);
struct guest *guest_boot(const char *name, unsigned cpus, unsigned memory_mib);
/* The image of a guest that is booted. */
void guest_image(const char *name, char *out, size_t size);
void guest_free(struct guest *g);

/* What it has printed so far; valid until the next call. */
const char *guest_output(struct guest *g);
/* Waits until `text` has been printed. */
void guest_await(struct guest *g, const char *text);
/* Waits for an event. */
void guest_await_event(struct guest *g, const char *name);
/* An event, and then another; whatever is between them. */
void guest_await_behind(struct guest *g, const char *first, const char *then);
/* Waits until it has powered off. */
void guest_await_end(struct guest *g);
/* Its migration has this status: "active". */
bool guest_migration_is(struct guest *g, const char *status);
/* Waits until its migration has ended; what query-migrate then says. */
void guest_await_migrated(struct guest *g, char *text, size_t size);
/* Fills the 64 MiB from 32 MiB into RAM on with what is not zero, before it is moved: what is to
 * happen in the middle of a migration that is slow enough has its time, even where the guest has
 * written nothing yet. */
void guest_fill(struct guest *g);
/* Lets it run for about that long. */
void guest_run_us(struct guest *g, unsigned us);

/* Into its directory, and from there into a new VM, which runs if it ran and `run`. */
void guest_save(struct guest *g);
struct guest *guest_restored(struct guest *from, bool run);

/* Fails unless all of two stopped VMs' vCPU state and RAM is the same; excepted are time and the
 * generation id, which a restore renews (guest_same_generation). */
void guest_compare(struct guest *a, struct guest *b);
/* The part of it that is the architecture's: vCPUs, interrupt controller (compare.c). */
void guest_compare_chips(struct machine *a, struct machine *b);
bool guest_same_generation(struct guest *a, struct guest *b);

/* Deterministic: the same numbers in each run, printed by the test that takes them. */
unsigned next_random(unsigned *state, unsigned limit);

#endif
