/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manner of speaking of libvfio-user, the library that most device servers
 * are made with, wherever it differs from that of our own server: a filter
 * around wire_send() and wire_receive() (the linker's --wrap). What a server of
 * this process replies is changed on its way out, and what reaches it is cut
 * short, as the library would do it. Clients in the same process speak as they
 * always do. With MANNER_STAYS_STOPPED there may be one server at a time.
 *
 * Unit tests switch rows on one by one. tests/manner/main.c is godwit with all
 * rows on, for the lab's device servers.
 */
#ifndef TESTS_MANNER_H
#define TESTS_MANNER_H

enum manner {
	MANNER_EINVAL = 1 << 0,        /* EINVAL for a feature that it does not have */
	MANNER_PADDED = 1 << 1,        /* MIG_DATA_READ: as long as what was asked for */
	MANNER_ERROR_PAYLOAD = 1 << 2, /* an error, and the payload that was made for the reply */
	/* DEVICE_GET_REGION_IO_FDS, for a region that has any: */
	MANNER_MANY_IO_FDS = 1 << 3,   /* 80 of them */
	MANNER_SURPLUS_FDS = 1 << 4,   /* 200 descriptors, whatever the client takes */
	MANNER_SHADOW_IO_FDS = 1 << 5, /* one of type 2, shadow ioeventfd */
	MANNER_WIDE_IO_FDS = 1 << 6,   /* entries of 48 bytes, datamatch at 40 */
	MANNER_FD_PER_AREA = 1 << 7,   /* a descriptor for each mappable area of a region */
	MANNER_SHORT_RECV = 1 << 8,    /* gets no more than a piece of a long payload */
	MANNER_STAYS_STOPPED = 1 << 9, /* a client lost in STOP_COPY: no other is served */
	MANNER_ALL = (1 << 10) - 1
};

/* From now on, in all threads: a set of those; 0: the server's own manner. */
void manner_set(unsigned rows);
/* The longest payload of a command that has come to a server. */
unsigned manner_longest(void);

#endif
