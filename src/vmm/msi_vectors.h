/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MSI and MSI-X have in common: vectors that are off, masked or on, each
 * with a message and a pending bit, and an owner who is told what to do.
 *
 * msi.c and msix.c decode their capability into calls of msi_vector_set();
 * this turns changes of state into calls of the owner's ops:
 *
 *      off -> masked   nothing: a vector costs nothing before it is unmasked
 *      any -> on       use(message); fire() after commit() if its pending bit was set
 *      on  -> masked   mask()
 *      any -> off      release(), if use() was called before; its pending bit is cleared
 *
 * All calls are made with the device lock held. Most owners take their ops
 * from msi_irqfds.h and write none themselves.
 * Sources: PCI Local Bus 3.0, 6.8.1 (MSI), 6.8.2 (MSI-X), 6.8.3 (masking, pending bits).
 */
#ifndef VMM_MSI_VECTORS_H
#define VMM_MSI_VECTORS_H

#include "base/error.h"
#include "vmm/irq.h"

#include <stdbool.h>
#include <stdint.h>

struct msi_vector_ops {
	/* From now on the vector delivers `msg`: it has been unmasked with its capability enabled,
	 * or its message changed while it was on. */
	void (*use)(void *opaque, unsigned vector, const struct msi_message *msg);
	/* Holds the vector's interrupts back until the next use(); raised() reports them. */
	void (*mask)(void *opaque, unsigned vector);
	/* The capability was disabled: gives up what use() took. */
	void (*release)(void *opaque, unsigned vector);
	/* Was a masked vector raised since the last call? Moves it into the pending bit. May be
	 * NULL, if the owner itself calls msi_vector_raise(). */
	bool (*raised)(void *opaque, unsigned vector);
	/* Delivers one interrupt that was pending; the vector is on. */
	void (*fire)(void *opaque, unsigned vector, const struct msi_message *msg);
	/* Comes once after all the calls above that one access of the guest has caused (fire()
	 * comes after it), so that the owner can do costly things once. May be NULL. */
	void (*commit)(void *opaque);
};

enum msi_vector_state { MSI_VECTOR_OFF, MSI_VECTOR_MASKED, MSI_VECTOR_ON };

struct msi_vector {
	struct msi_message msg;
	enum msi_vector_state state;
	bool used; /* use() was called and not yet release() */
	bool pending;
	bool fire_due; /* fire() is due after commit() */
};

struct msi_vectors {
	const struct msi_vector_ops *ops;
	void *opaque;
	unsigned count;
	bool uncommitted;
	struct msi_vector *v;
};

int msi_vectors_init(struct msi_vectors *set, unsigned count, const struct msi_vector_ops *ops,
                     void *opaque, struct gw_error *err);
/* Releases all vectors that are in use, and frees. */
void msi_vectors_fini(struct msi_vectors *set);

/* What a vector is to be now; then, after the last of them, the commit. */
void msi_vector_set(struct msi_vectors *set, unsigned vector, enum msi_vector_state state,
                    const struct msi_message *msg);
void msi_vectors_commit(struct msi_vectors *set);

/* The device raises a vector: fires if it is on, becomes pending if it is masked. */
void msi_vector_raise(struct msi_vectors *set, unsigned vector);
/* The pending bit, with the owner asked by raised(). */
bool msi_vector_pending(struct msi_vectors *set, unsigned vector);
/* Loads a pending bit. */
void msi_vector_set_pending(struct msi_vectors *set, unsigned vector, bool pending);

#endif
