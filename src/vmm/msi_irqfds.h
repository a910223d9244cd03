/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors by irqfd: one eventfd and one GSI for each MSI or MSI-X vector, so
 * that an interrupt goes from the device to the guest inside the kernel.
 *
 * An eventfd is made when its vector is unmasked for the first time, and
 * stays until the capability is disabled. While the vector is on, the eventfd
 * is attached to KVM and its GSI routed to the vector's message; while it is
 * masked, it is detached, and a signal stays in it until the guest looks at
 * the pending bit or unmasks.
 *
 * In a machine with a guest elsewhere (outside.h) a vector that is on signals
 * the eventfd that the machine's owner has for it, and one that is masked none.
 *
 * Give msi_irqfds_ops and the struct msi_irqfds to msi_create() or
 * msix_create(); destroy it after those. A function that has both MSI and
 * MSI-X makes one for each.
 */
#ifndef VMM_MSI_IRQFDS_H
#define VMM_MSI_IRQFDS_H

#include "vmm/msi_vectors.h"

struct machine;
struct msi_irqfds;
struct pci_function;

struct msi_irqfds_source {
	/* The eventfds that the device has to signal have changed. fds[i] is vector i's, or -1
	 * while nobody has used that vector yet. `count` is the number of vectors of the
	 * capability, always the same, or 0 when none is in use any more: the capability was
	 * disabled. fds stay valid until the next call; they are closed only after a call
	 * without them. Masking changes nothing here. Called at most once for each access
	 * of the guest, with the device lock held. A failure is logged, with its text; the
	 * vectors then stay silent until the next call. May be NULL: the device signals the
	 * eventfds of msi_irqfds_fd() by itself. */
	int (*set_vectors)(void *opaque, const int *fds, unsigned count, struct gw_error *err);
};

/* The function is the messages' sender. It and `name`, which is for the log, must live as long. */
int msi_irqfds_create(struct machine *m, struct pci_function *f, const char *name, unsigned vectors,
                      const struct msi_irqfds_source *source, void *opaque, struct msi_irqfds **out,
                      struct gw_error *err);
/* The function has got another requester ID: messages go by that from now on. */
void msi_irqfds_renumbered(struct pci_function *f);
/* NULL is fine. */
void msi_irqfds_destroy(struct msi_irqfds *q);

/* With a struct msi_irqfds as opaque. */
extern const struct msi_vector_ops msi_irqfds_ops;

/* A vector's eventfd, to be signalled by the device; -1 while nobody has used the vector. */
int msi_irqfds_fd(const struct msi_irqfds *q, unsigned vector);

#endif
