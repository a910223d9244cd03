/* SPDX-License-Identifier: Apache-2.0 */
/* How the configuration arranges vCPUs: sockets of dies of cores of threads. */
#ifndef VMM_TOPOLOGY_H
#define VMM_TOPOLOGY_H

#include "godwit.h"

struct config;

struct topology {
	unsigned sockets, dies, cores, threads;
};

/* Works out what the configuration leaves open; by default all are cores of one socket, or of
 * as few as it takes for no die to have CPUs of two NUMA nodes. -EINVAL: they are not as many as
 * there are vCPUs. */
int topology_make(const struct config *config, struct topology *out, struct gw_error *err);

#endif
