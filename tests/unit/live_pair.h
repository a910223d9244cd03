/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of a live migration in one process, with a wire between them that can do harm. */
#ifndef LIVE_PAIR_H
#define LIVE_PAIR_H

#include "fake_vm.h"
#include "fake_wire.h"
#include "patience.h"

struct pair {
	struct tally *tally;
	struct fake_vm *src, *dst;
	struct wire wire;
	char dir[64], uri[128], label[128];
	char src_error[1024], dst_error[1024];
};

void pair_init(struct pair *x, bool runs);
void pair_fini(struct pair *x);
/* "unix:PATH", until the next call. */
const char *pair_uri(struct pair *x, const char *path);
void pair_listen(struct pair *x);
/* From the source's migrate to the end of both sides. */
void pair_run(struct pair *x);
/* The source after a failure before GO: as if nothing had been. */
void pair_source_goes_on(struct pair *x, bool ran);
void pair_destination_is_gone(struct pair *x);
/* What must hold, whatever happened. */
void pair_check(struct pair *x);

#endif
