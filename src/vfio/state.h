/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's state as it is stopped, saved and loaded, whatever protocol it
 * speaks: v2 (states by VFIO_DEVICE_FEATURE, mig_v2.h) or v1 (a region,
 * mig_v1.h). One thread at a time drives it; vfio_state_was_reset() is for any.
 *
 * What fails is answered here, for both: the state is read back; out of an
 * error state leads only a reset; from anywhere else a state to recover in is
 * asked for, and where that fails too, a reset. The error is the first one,
 * with what was done about it behind it.
 */
#ifndef VFIO_STATE_H
#define VFIO_STATE_H

#include "base/error.h"
#include "vfio/device.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Features: it gives data while it runs; it can be kept from starting DMA, while it still answers
 * others', before it is stopped. */
#define VFIO_STATE_PRE_COPY 1u
#define VFIO_STATE_QUIESCE 2u

/* What the states are there for. A step for which the device has no state of its own is done
 * already. */
enum vfio_step {
	VFIO_BEGIN_PRE_COPY,
	VFIO_QUIESCE,     /* starts no DMA of its own any more */
	VFIO_STOP,        /* stopped for good: the final data can be read */
	VFIO_END_SAVE,    /* the data were read; it stays stopped */
	VFIO_BEGIN_LOAD,  /* takes data */
	VFIO_FINISH_LOAD, /* takes the state, or refuses it; it does not run */
	VFIO_ANSWER_DMA,
	VFIO_RUN,
	VFIO_STEPS
};

struct vfio_state_pending {
	uint64_t initial; /* better sent before it is stopped */
	uint64_t dirty;
	bool unknown; /* the device does not say: it is read until there is no more */
};

/* What a failure has done to the device. */
enum vfio_trouble {
	VFIO_WELL,
	VFIO_WAS_RESET, /* it runs, but all that its driver had set up is gone */
	VFIO_HAS_FAILED /* not even a reset made it run */
};

struct vfio_state_owner {
	void *opaque;
	/* The device is in a state of this name now. */
	void (*changed)(void *opaque, const char *state);
	/* A reset of the device, and all that has to be pushed to it again; it runs then. */
	int (*reset)(void *opaque, struct gw_error *err);
	/* A failure ended in this; `why` is the whole story. */
	void (*trouble)(void *opaque, enum vfio_trouble trouble, const char *why);
	unsigned without; /* features that are not to be used, VFIO_STATE_* */
};

struct vfio_state;

/* A protocol. States are its own numbers; below, `s->now` is the one that the device is in. */
struct vfio_state_ops {
	const char *protocol; /* "v1", "v2" */
	const char *how;      /* by which states are asked for: for messages */
	unsigned running, error;
	unsigned copying;  /* it runs, and gives data meanwhile */
	unsigned resuming; /* half of a state may be in it */
	const char *(*name)(unsigned state);
	bool (*may)(const struct vfio_state *s, unsigned from, unsigned to);
	/* Reads the state back. */
	int (*refresh)(struct vfio_state *s, struct gw_error *err);
	/* One request, once; a negative errno. */
	int (*request)(struct vfio_state *s, unsigned to);
	int (*step)(struct vfio_state *s, enum vfio_step step, struct gw_error *err);
	int (*pending)(struct vfio_state *s, struct vfio_state_pending *out, struct gw_error *err);
	/* Of the final data, as far as the device can tell; 0: it cannot. */
	uint64_t (*stop_size)(struct vfio_state *s);
	ssize_t (*read)(struct vfio_state *s, void *buf, size_t len, struct gw_error *err);
	int (*write)(struct vfio_state *s, const void *buf, size_t len, struct gw_error *err);
	/* What was read ended inside of something that has to be read on before the state may
	 * change. NULL: that makes no difference. */
	bool (*midway)(const struct vfio_state *s);
	void (*destroy)(struct vfio_state *s);
};

struct vfio_state {
	const struct vfio_state_ops *ops;
	struct vfio_dev *dev; /* stays the owner's */
	struct vfio_state_owner owner;
	unsigned features;
	unsigned now;
	unsigned sessions; /* of saving, that have begun: data of two do not go together */
	atomic_bool reset; /* by the guest, say */
};

/* Names of features that are not to be used, with commas between them ("pre-copy,p2p"), as a set
 * for vfio_state_owner.without; "" is the empty one. */
int vfio_state_without(const char *names, unsigned *out, struct gw_error *err);
/* The same as a check of a configuration's key. */
int vfio_state_check_without(const char *names, struct gw_error *err);

/* By the protocol that the device speaks; *out is NULL, and that no error, where it has none. */
int vfio_state_create(struct vfio_dev *dev, const struct vfio_state_owner *owner,
                      struct vfio_state **out, struct gw_error *err);
/* NULL is fine. */
void vfio_state_destroy(struct vfio_state *s);

/* NULL has no features. */
static inline bool vfio_state_has(const struct vfio_state *s, unsigned features)
{
	return s && (s->features & features) == features;
}

/* A device that was reset runs, also when whoever drives it has not noticed that yet. */
static inline unsigned vfio_state_now(const struct vfio_state *s)
{
	return atomic_load(&s->reset) ? s->ops->running : s->now;
}

static inline const char *vfio_state_name(const struct vfio_state *s)
{
	return s->ops->name(vfio_state_now(s));
}

static inline bool vfio_state_runs(const struct vfio_state *s)
{
	return vfio_state_now(s) == s->ops->running;
}

static inline bool vfio_state_copies(const struct vfio_state *s)
{
	return vfio_state_now(s) == s->ops->copying;
}

static inline bool vfio_state_midway(const struct vfio_state *s)
{
	return s->ops->midway && s->ops->midway(s);
}

/* The device was reset by somebody else: it is running, and what session it had is over. The one
 * who drives it finds out with the next call. Any thread; NULL is fine. */
void vfio_state_was_reset(struct vfio_state *s);

int vfio_state_step(struct vfio_state *s, enum vfio_step step, struct gw_error *err);
/* To running from wherever it is: by a reset where nothing else leads there. */
int vfio_state_run_again(struct vfio_state *s, struct gw_error *err);
/* What was loaded is thrown away, by a reset. */
int vfio_state_discard(struct vfio_state *s, struct gw_error *err);

/*
 * -ESTALE from pending and read: the device was reset while it was copying, and runs; what was
 * read of it is worth nothing, and a new session can begin.
 */
int vfio_state_pending(struct vfio_state *s, struct vfio_state_pending *out, struct gw_error *err);
uint64_t vfio_state_stop_size(struct vfio_state *s);
/* Up to len bytes. 0: no more, for now (it copies) or for good (it is stopped). */
ssize_t vfio_state_read(struct vfio_state *s, void *buf, size_t len, struct gw_error *err);
/* All of them. */
int vfio_state_write(struct vfio_state *s, const void *buf, size_t len, struct gw_error *err);

/* ---- for the protocols ---- */

/* Takes the device to `to`, and answers a failure. EAGAIN and EBUSY may pass: the request is made
 * again for a moment. */
int vfio_state_go(struct vfio_state *s, unsigned to, unsigned recover, struct gw_error *err);
/* The answer alone: the request for `to` has failed with r. Returns r. */
int vfio_state_recover(struct vfio_state *s, unsigned to, int r, unsigned recover,
                       struct gw_error *err);
int vfio_state_request(struct vfio_state *s, unsigned to);
/* Takes note of the state, and tells the owner. */
void vfio_state_now_in(struct vfio_state *s, unsigned state);

#endif
