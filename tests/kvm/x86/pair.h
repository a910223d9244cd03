/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM with a pair of devices, one of which stands in for the other while it is moved. The guest
 * knows of no device; what its drivers would do is done by the test, by the registers that they
 * would use.
 */
#ifndef KVM_PAIR_H
#define KVM_PAIR_H

#include "harness.h"

#include "vmm/x86/pm_ports.h"
#include "vmm/virtio/net.h"

/* A VM with its events, those of migration with their status. */
struct side {
	struct guest *g;
	int nic; /* the other end of the virtio-net */
	pthread_mutex_t lock;
	char trace[4096];
};

#define PAIR_NET                                                                                   \
	"{\"id\":\"net0\",\"type\":\"virtio-net\",\"fd\":\"nic\",\"standby\":true,"                \
	"\"mac\":\"52:54:00:12:34:56\",\"vhost\":\"off\"}"
#define PAIR_PRIMARY "{\"id\":\"nic0\",\"type\":\"virtio-rng\",\"failover\":\"net0\"}"

struct side *side_new(struct guest *g);
void side_free(struct side *s);

/* Has this come, " PLUG_PRIMARY:nic0 "? Waits until it has. Forgets all that came. */
bool pair_traced(struct side *s, const char *text);
void pair_await(struct side *s, const char *text);
void pair_forget(struct side *s);
/* In this order, whatever is between them; ends with NULL. */
void pair_order(struct side *s, const char *const *names);

void pair_add(struct side *s, const char *json);
bool pair_has(struct side *s, const char *id);
/* A guest that runs, with a pair that it has not been told of; one that has both. */
struct side *pair_boot(void);
struct side *pair_boot_both(void);

/* The virtio-net's driver accepts these features, and is ready. */
void pair_drive(struct side *s, uint64_t features);
uint32_t pair_read_pm(struct side *s, unsigned offset);
/* Waits until the guest is asked for a slot; that bit. Lets go of it. */
uint32_t pair_await_asked(struct side *s);
void pair_eject(struct side *s, uint32_t bits);

/* Begins to move it, to a VM with this in its map (NULL: nothing). */
struct side *pair_migrate(struct side *from, const char *path, const char *value);
/* query-migrate has this text. */
void pair_says(struct side *s, const char *text);

#endif
