/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of the vfio-user protocol: one emulated PCI function,
 * offered on a UNIX socket to one client at a time.
 *
 * The function lives in a machine without KVM (vmm/outside.h), of which this
 * is the owner: guest memory is what the client maps, interrupts are the
 * eventfds that it gives. Everything happens on one loop, but for what the
 * device's own threads do.
 *
 *      server.c           made and gone, clients that come and go, the table of commands
 *      server_info.c      what the client can ask of device, regions and interrupts
 *      server_region.c    accesses to configuration space and BARs
 *      server_irq.c       eventfds, masking
 *      server_dma.c       guest memory, by descriptor or by message; the dirty log
 *      server_feature.c   DEVICE_FEATURE
 *      server_mig.c       the states of migration v2, and what is done on each arc
 *      server_mig_v1.c    the migration region of v1, over the same arcs
 *      server_stream.c    the device's state as a checked stream of bytes
 *      server_faults.c    failing on purpose, for tests
 *
 * A client is not trusted: whatever it sends is checked, what is wrong is
 * answered with an error, and what breaks the framing ends its connection.
 * Source: the vfio-user protocol specification, version 0.9.2.
 */
#ifndef VFIO_USER_SERVER_H
#define VFIO_USER_SERVER_H

#include "base/log.h"
#include "base/loop.h"
#include "vfio/mig_v2.h"
#include "vfio/user/wire.h"
#include "vmm/machine.h"

struct server;

enum server_migration { SERVER_MIGRATION_V2, SERVER_MIGRATION_V1, SERVER_MIGRATION_NONE };
/* How the client reaches the data section of v1's region. */
enum server_v1_data { SERVER_V1_TRAPPED, SERVER_V1_MAPPED, SERVER_V1_MIXED };

#define SERVER_FAULTS_MAX 8

/* What is to go wrong, for tests of clients. All zero: nothing. */
struct server_faults {
	/* These arcs fail; v1's states are numbers above MIG_STATES. */
	struct {
		uint8_t from, to;
		bool to_error; /* and leave the device in its error state */
		int error;     /* errno */
	} arcs[SERVER_FAULTS_MAX];
	unsigned count;
	/* The server ends, without a reply, when it has been sent so many commands of this kind
	 * (0: any). */
	unsigned die_command, die_at; /* die_at 0: never */
};
/* "FROM-TO:ERRNO[:error],..." and "N", "COMMAND" or "COMMAND:N"; "" is nothing. */
int server_faults_parse_arcs(const char *text, struct server_faults *out, struct gw_error *err);
int server_faults_parse_die(const char *text, struct server_faults *out, struct gw_error *err);

struct server_options {
	struct loop *loop;
	const struct log *log;
	int listen_fd; /* non-blocking; stays the caller's */
	enum server_migration migration;
	enum server_v1_data v1_data;
	bool pre_copy; /* the device's iterate() is of use: PRE_COPY is offered */
	uint64_t rate; /* bytes of state a second that it gives out at most; 0: no limit */
	struct server_faults faults;
	/* It will serve no more: it was made to fail. On the loop. */
	void *opaque;
	void (*ended)(void *opaque);
};

/* The machine is there afterwards; nobody is listened to yet. */
int server_create(const struct server_options *options, struct server **out, struct gw_error *err);
/* For the one device, which the caller makes by its driver. */
struct machine *server_machine(struct server *s);
/* Serves that device from now on. */
int server_open(struct server *s, struct device *device, struct gw_error *err);
/* On the loop's thread, or after the loop has ended. Destroys the device, too. NULL is fine. */
void server_destroy(struct server *s);

#endif
