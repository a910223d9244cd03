/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The participant: what stands between migration and everything that has
 * state. Migration never names a device, and a device never names migration.
 *
 * Guest RAM, each vCPU, the interrupt chips, the PIT, the clock, the PCI
 * bus, the serial port and each VFIO device are participants. A participant
 * leaves out (NULL) what it has no use for. (S) source side, (D) destination.
 *
 * Calls to one participant are made by one thread at a time; which phase
 * follows which, what undoes each, and which class goes through it side by
 * side, is the sequencer's table (src/migration/sequence.c). So calls to two
 * PASSTHROUGH participants may come at once, on two threads; and load() of
 * one of them beside calls to any other.
 */
#ifndef VMM_PARTICIPANT_H
#define VMM_PARTICIPANT_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct participant;

/* What kind of thing it is: the sequencer orders by this and by nothing else. */
enum participant_class {
	PARTICIPANT_BOOT,        /* boot images: constant, needed for a reset only */
	PARTICIPANT_RAM,         /* guest memory */
	PARTICIPANT_CHIP,        /* interrupt chips, timers in KVM */
	PARTICIPANT_DEVICE,      /* emulated devices and buses */
	PARTICIPANT_PASSTHROUGH, /* devices that another driver or process runs */
	PARTICIPANT_VCPU,
	PARTICIPANT_CLOCK, /* guest time: last, so that it stands still longest */
	PARTICIPANT_CLASSES
};

/* What a participant still has to send, in bytes. */
struct participant_pending {
	uint64_t precopy; /* iterate() could send this much while the guest runs */
	uint64_t stop;    /* save() will send about this much, on top of precopy */
	bool not_yet;     /* a switchover now would be too early (initial data left). Once it is
	                   * false, what was sent so far has to be loaded there first. */
};

/*
 * Where a participant's state goes. One record is what one call of load()
 * gets on the other side: `head` and `body` one after the other (either may
 * be NULL with length 0). `type` is the participant's own numbering.
 * Records of one participant arrive in order. At most RECORD_MAX bytes each. One that is saved
 * beside others waits here for its turn, and gets -ECANCELED once another has failed.
 * Errors come with text; -ECANCELED if the migration was cancelled.
 */
#define RECORD_MAX (1u << 20)

struct sink;
struct sink_ops {
	int (*record)(struct sink *sink, struct participant *p, uint16_t type, const void *head,
	              size_t head_len, const void *body, size_t body_len, struct gw_error *err);
	/* `count` pages of guest memory at gpa, to be found at hva. Zero pages are noticed; hva
	 * NULL: all of them are. */
	int (*pages)(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
	             size_t count, struct gw_error *err);
	/* True when iterate() should return, so that others get their turn. */
	bool (*pause_wanted)(struct sink *sink);
	/* RAM only, may be NULL: the guest stands, and the last look has found so many pages,
	 * which come next. */
	void (*last_pass)(struct sink *sink, uint64_t pages);
};
struct sink {
	const struct sink_ops *ops;
};

static inline int sink_record(struct sink *s, struct participant *p, uint16_t type, const void *buf,
                              size_t len, struct gw_error *err)
{
	return s->ops->record(s, p, type, buf, len, NULL, 0, err);
}

/* How much of the remaining state pending() should find out. */
enum pending_effort {
	PENDING_ESTIMATE, /* cheap: no ioctl that takes long, no dirty sync */
	PENDING_EXACT,    /* dirty logs fetched, devices asked */
};

struct participant_ops {
	const char *kind; /* "ram", "vcpu", "vfio-pci", ...: in the stream */
	uint32_t version; /* of the records' format */
	enum participant_class class;

	/* RAM only: bytes of guest memory that there are. Any thread. */
	uint64_t (*ram_size)(struct participant *p);
	/* (S) NULL, or why it cannot be saved or moved now: text valid until the next call. */
	const char *(*blocker)(struct participant *p);
	/* (S) The same for what hinders a move while the guest runs, but not a save, for which all
	 * of it stands. */
	const char *(*live_blocker)(struct participant *p);
	/* True: a failed migration has left it in a state that the guest notices, and `why` says
	 * which. Until the guest has mended it. Any thread. */
	bool (*trouble)(struct participant *p, char *why, size_t size);
	/* (S) setup; the guest runs: tracking on. `live` is false for a save to disk, where the
	 * guest is stopped already and iterate() will not be called. */
	int (*prepare)(struct participant *p, bool live, struct gw_error *err);
	/* (S) the guest runs, or is stopped already (last estimate). */
	int (*pending)(struct participant *p, enum pending_effort effort,
	               struct participant_pending *out, struct gw_error *err);
	/* (S) the guest runs: sends what there is. 0: nothing more for now; 1: paused by the sink.
	 */
	int (*iterate)(struct participant *p, struct sink *sink, struct gw_error *err);
	/* (S) vCPUs stopped: starts no DMA of its own any more, still answers others'. */
	int (*quiesce)(struct participant *p, struct gw_error *err);
	/* (S) stopped: changes neither its state nor memory any more. */
	int (*stop)(struct participant *p, struct gw_error *err);
	/* (S) stopped: the final state, to its end. */
	int (*save)(struct participant *p, struct sink *sink, struct gw_error *err);
	/* (S) the destination runs the guest, or the save is complete and the VM is given up or
	 * goes on (`goes_on`): saving sessions end, tracking off. Cannot fail. */
	void (*finish)(struct participant *p, bool goes_on);
	/* (S) before finish() with goes_on, and before rollback() where it may have been quiesced:
	 * over all participants, before any of them starts DMA again: answers others' DMA. What
	 * cannot do that is left to finish() and rollback(), which come in any case. */
	int (*answer_again)(struct participant *p, struct gw_error *err);
	/* (S) undoes everything from prepare on; the guest is about to run again. A failure is
	 * described in err, and the device is then degraded or was reset; not fatal. */
	int (*rollback)(struct participant *p, struct gw_error *err);

	/* (D) before the first record: ready to load. */
	int (*begin_load)(struct participant *p, struct gw_error *err);
	/* (D) one record, its checksum verified already. When it returns the data count as loaded:
	 * that is what the source waits for where they are initial data (not_yet). */
	int (*load)(struct participant *p, uint32_t version, uint16_t type, const void *buf,
	            size_t len, struct gw_error *err);
	/* (D) RAM only: `count` verified pages; data NULL: they are zero. */
	int (*load_pages)(struct participant *p, uint64_t gpa, const void *data, size_t count,
	                  struct gw_error *err);
	/* (D) RAM only: [gpa, gpa+size) is to be a private mapping of fd at offset. */
	int (*map_file)(struct participant *p, uint64_t gpa, uint64_t size, int fd, uint64_t offset,
	                struct gw_error *err);
	/* (D) everything has been loaded: take the state, or refuse it. */
	int (*settle)(struct participant *p, struct gw_error *err);
	/* (D) pass 1 and 2 of starting, over all participants, before vCPUs run: devices answer
	 * DMA (pass 0), then run (pass 1). Where the guest stays paused it comes for PASSTHROUGH
	 * only when it runs; until then they may be saved again: prepare() with live false, no
	 * quiesce(), and finish() with goes_on false takes them back to where they lay. */
	int (*resume)(struct participant *p, int pass, struct gw_error *err);
	/* (D) any failure; it never ran. */
	void (*discard)(struct participant *p);
};

struct participant {
	const struct participant_ops *ops;
	char name[40];    /* unique in the machine: "ram", "vcpu0", "net0" */
	char leaves[160]; /* why it does not come along, but has to be gone before prepare(); "" */
	struct participant *next; /* in the machine's list, in order of registration */
};

struct participant_list {
	struct participant *first;
};

/* Registration; -EEXIST if the name is taken. */
int participant_add(struct participant_list *list, struct participant *p, struct gw_error *err);
void participant_remove(struct participant_list *list, struct participant *p);
struct participant *participant_find(const struct participant_list *list, const char *name);
/* Bytes of guest memory. */
uint64_t participant_ram_size(const struct participant_list *list);

#endif
