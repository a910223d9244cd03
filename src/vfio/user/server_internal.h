/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the vfio-user server share. All on the loop's thread unless it says otherwise.
 */
#ifndef VFIO_USER_SERVER_INTERNAL_H
#define VFIO_USER_SERVER_INTERNAL_H

#include "base/bytes.h"
#include "vfio/uapi.h"
#include "vfio/user/server.h"
#include "vmm/msix.h"
#include "vmm/outside.h"
#include "vmm/pci.h"

#include <pthread.h>

/* The most that the rest of a message, or an answer of the client's, may take. */
#define SERVER_TIMEOUT_MS 10000
/* Commands that may come while an answer of the client's is waited for on the same socket. */
#define SERVER_PENDING_MAX 64
#define SERVER_DMA_MAPS_MAX 4096u

#define SERVER_REGION_V1 VFIO_PCI_NUM_REGIONS

/* A command in hand, and its reply. */
struct request {
	struct wire_message *message;
	const uint8_t *data; /* payload */
	size_t len;
	uint8_t *reply; /* room of WIRE_MESSAGE_MAX bytes */
	size_t reply_len;
	int fds[WIRE_MAX_FDS]; /* that go with the reply; stay their owners' */
	unsigned fd_count;
};

/* ---- guest memory ---- */

struct dma_map {
	uint64_t address, size;
	uint8_t *hva;  /* NULL: by message */
	void *mapping; /* what mmap() gave, and its length: whole pages of the file's */
	size_t mapping_len;
	bool writable;
	uint64_t *dirty; /* one bit a page of 4 KiB, while logging is on and hva is there */
};

struct server_dma {
	pthread_rwlock_t lock; /* of the list; changed on the loop only */
	struct dma_map *maps;  /* sorted by address */
	unsigned count, room;
	bool logging; /* atomic */
};

/* ---- interrupts: with the device lock ---- */

struct server_irqs {
	unsigned vectors;
	struct msix_layout layout;
	unsigned msix_cap; /* 0: the function has none */
	int *vector_fds;   /* -1: none */
	bool has_pin;
	int pin_fd, unmask_fd;
	struct loop_watch *unmask_watch;
	bool pin_high, pin_masked;
};

/* ---- migration ---- */

enum stream_kind { STREAM_NONE, STREAM_SAVING, STREAM_LOADING };

struct server_stream {
	enum stream_kind kind;
	struct sink sink;
	struct bytes buf; /* made and not yet given out; come and not yet whole */
	size_t at;        /* of buf, given out */
	uint64_t sequence;
	bool begun;         /* the first frame is out, or has come */
	bool final;         /* saving: the device stands for good */
	bool drained;       /* saving: iterate() has no more */
	bool ended;         /* the last frame is out, or has come */
	bool broken;        /* loading: what came was refused */
	uint32_t version;   /* loading: of the records */
	int64_t allowed_us; /* saving: when the next byte may leave (options.rate) */
};

struct server_v1 {
	int fd; /* memfd behind the region; -1: no such region */
	uint8_t *memory;
	uint32_t state; /* with its reserved bits */
	uint64_t data_offset, data_size;
	bool staged; /* the chunk at data_offset is the client's until it asks for the next */
	bool error;
};

/* ---- all ---- */

struct server {
	struct server_options options;
	struct machine_outside outside;
	struct machine *machine;
	struct device *device;
	struct pci_function *function;
	unsigned af_cap; /* of the function: Advanced Features */
	struct participant *participant;

	struct loop_watch *listening;
	int socket, twin; /* of the client; -1 */
	struct loop_watch *connected;
	bool agreed;           /* the versions have been exchanged */
	struct wire_caps caps; /* of this connection */
	bool hang_up;          /* the connection is of no use any more */
	bool dead;             /* died on purpose */
	unsigned commands_seen;
	uint16_t next_id;
	struct wire_message in;
	uint8_t *reply;
	/* Commands that came while an answer was waited for: copies. */
	struct wire_message pending[SERVER_PENDING_MAX];
	unsigned pending_first, pending_count;

	struct server_dma dma;
	struct server_irqs irqs;
	enum mig_state state;
	bool paused; /* by the protocol, or since nobody is there */
	struct server_stream stream;
	struct server_v1 v1;
};

/* Commands: 0 and a reply in `q`, or a negative errno. */
typedef int (*server_command)(struct server *s, struct request *q);

/* server.c: sends a command to the client and takes its reply, which has at most `room` bytes
 * behind its header; returns their number, or a negative errno. */
ssize_t server_ask(struct server *s, uint16_t command, const struct iovec *parts, unsigned count,
                   void *reply, size_t room);
void server_pause(struct server *s);
void server_run(struct server *s);
/* Power-on state; it stands still afterwards. */
void server_reset_device(struct server *s);
/* What a client asks for: from whatever state to RUNNING, and a session is over. Memory, eventfds
 * and the dirty log, which are the client's, stay. */
void server_reset(struct server *s);

/* server_info.c */
int server_get_info(struct server *s, struct request *q);
int server_get_region_info(struct server *s, struct request *q);
int server_get_region_io_fds(struct server *s, struct request *q);
int server_get_irq_info(struct server *s, struct request *q);
uint64_t server_region_size(const struct server *s, unsigned region);
/* Where the function has this capability; 0: nowhere. */
unsigned server_find_capability(const struct pci_function *f, uint8_t id);

/* server_region.c */
int server_region_read(struct server *s, struct request *q);
int server_region_write(struct server *s, struct request *q);
int server_region_write_multi(struct server *s, struct request *q);

/* server_irq.c */
int server_irqs_init(struct server *s, struct gw_error *err);
void server_irqs_fini(struct server *s);
/* All eventfds are given up. */
void server_irqs_drop(struct server *s);
unsigned server_irq_count(const struct server *s, unsigned index);
int server_set_irqs(struct server *s, struct request *q);
/* The function lost or got other settings: reset, state loaded. */
void server_irqs_apply(struct server *s);
int server_irqs_vector_fd(void *opaque, unsigned vector);
void server_irqs_set_pin(void *opaque, bool high);

/* server_dma.c */
int server_dma_init(struct server *s, struct gw_error *err);
void server_dma_fini(struct server *s);
/* Nothing is mapped any more, no log kept. */
void server_dma_drop(struct server *s);
int server_dma_map(struct server *s, struct request *q);
int server_dma_unmap(struct server *s, struct request *q);
void *server_dma_hva(void *opaque, uint64_t address, uint64_t len);
int server_dma_access(void *opaque, uint64_t address, void *buf, size_t len, bool write);
void server_dma_dirty(void *opaque, uint64_t address, uint64_t len);
/* The first map that ends at `address` or behind it; count if there is none. Any thread, with the
 * lock. */
unsigned server_dma_find_after(const struct server_dma *dma, uint64_t address);
/* The log: server_log.c. */
int server_log_start(struct server *s, struct gw_error *err);
void server_log_stop(struct server *s);
/* Takes the bits of a range: one for each `page_size` bytes, into a zeroed bitmap. */
void server_log_report(struct server *s, const struct wire_logging_report *range, uint64_t *bitmap);
int server_log_attach(struct server *s, struct dma_map *map);

/* server_feature.c */
int server_feature(struct server *s, struct request *q);

/* server_mig.c */
uint64_t server_mig_flags(const struct server *s);
int server_mig_set(struct server *s, enum mig_state to, struct gw_error *err);
int server_mig_data_read(struct server *s, struct request *q);
int server_mig_data_write(struct server *s, struct request *q);
/* The client is gone: what it had begun ends. */
void server_mig_drop(struct server *s);
/* What arcs consist of, for both protocols. */
int server_begin_save(struct server *s, bool final, struct gw_error *err);
void server_end_save(struct server *s);
int server_begin_load(struct server *s, struct gw_error *err);
int server_end_load(struct server *s, struct gw_error *err);

/* server_mig_v1.c */
int server_v1_create(struct server *s, struct gw_error *err);
void server_v1_destroy(struct server *s);
void server_v1_reset(struct server *s);
uint64_t server_v1_size(const struct server *s);
/* The mappable part of the region; its size is 0 if there is none. */
void server_v1_mappable(const struct server *s, uint64_t *offset, uint64_t *size);
int server_v1_read(struct server *s, uint64_t offset, void *buf, size_t len);
int server_v1_write(struct server *s, uint64_t offset, const void *buf, size_t len);

/* server_stream.c */
int stream_begin_save(struct server *s, bool final, struct gw_error *err);
int stream_begin_load(struct server *s, struct gw_error *err);
void stream_end(struct server *s);
/* What goes wrong in these is logged. Up to `len` bytes; fewer: there are no more, for now or (when
 * final) for good. */
ssize_t stream_pull(struct server *s, void *buf, size_t len);
/* Bytes that a pull would give without waiting for the device to change; at least 1 if any. */
int64_t stream_pending(struct server *s);
int stream_push(struct server *s, const void *buf, size_t len);

/* server_faults.c */
/* Is this arc to fail? A negative errno, and whether it leads to the error state. */
int server_faults_arc(const struct server_faults *f, unsigned from, unsigned to, bool *to_error);
/* Counts a command; true: it is the last. */
bool server_faults_die(struct server *s, unsigned command);
/* v1's states in struct server_faults: the three bits behind this. */
#define SERVER_FAULT_V1 MIG_STATES

#endif
