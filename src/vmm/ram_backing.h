/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guest RAM is made of on this host: memfds or a descriptor that the
 * owner gave, pages of which size, on which NUMA nodes, taken at once or when
 * used, locked or not.
 */
#ifndef VMM_RAM_BACKING_H
#define VMM_RAM_BACKING_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;

/* A piece of RAM before it is a region. */
struct ram_backing {
	int fd;          /* the caller's to close */
	uint64_t offset; /* in fd */
	uint8_t *hva;
	uint64_t page; /* size of the host's pages; more than 4096 only where they are huge pages
	                  that were reserved */
	/* A file's private mapping may not stand in for it, since somebody else has the descriptor
	 * or the page cache would not be what was asked for: data have to be copied in. */
	bool copy_in;
	/* Of a piece that is used block by block: take the host's pages (ram_backing_take) before a
	 * block is used, since they are reserved ones or the owner wants them taken beforehand. */
	bool take_pages;
};

/* Makes `size` bytes of zeros. `before` is how much RAM the machine has already: where in a
 * descriptor that was given this piece begins. Errors name the configuration's key. */
int ram_backing_create(struct machine *m, uint64_t before, uint64_t size, struct ram_backing *out,
                       struct gw_error *err);

/* As that, of memory beyond what the machine has: all of it is NUMA node `node`'s, nothing is taken
 * from the host yet, and not all of it may ever be. */
int ram_backing_create_blocks(struct machine *m, uint64_t before, uint64_t size, unsigned node,
                              struct ram_backing *out, struct gw_error *err);

/* Takes the host's pages for `len` bytes at `offset` of fd, or says that there are too few. */
int ram_backing_take(int fd, uint64_t offset, uint64_t len, struct gw_error *err);

/* For what is mapped anew in place of a part of it: the same advice to the kernel, locked again. */
int ram_backing_advise(const struct machine *m, uint8_t *hva, uint64_t size, struct gw_error *err);

/* Copies [offset, offset+size) of a file to RAM that is all zeros. */
int ram_backing_copy_in(uint8_t *hva, uint64_t size, int fd, uint64_t offset, struct gw_error *err);

#endif
