/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/state.h"

#include "vfio/mig_v1.h"
#include "vfio/mig_v2.h"

#include <string.h>
#include <time.h>

#define RETRIES 10
#define RETRY_NS 10000000l

/* The newer one first: a device that offers both is best known by it. */
static int (*const protocols[])(struct vfio_dev *dev, struct vfio_state **out,
                                struct gw_error *err) = {
	mig_v2_create,
	mig_v1_create,
};

int vfio_state_create(struct vfio_dev *dev, const struct vfio_state_owner *owner,
                      struct vfio_state **out, struct gw_error *err)
{
	*out = NULL;
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]) && !*out; i++) {
		int r = protocols[i](dev, out, err);

		if (r < 0)
			return error_context(err, "%s: migration", dev->name);
	}
	if (*out) {
		(*out)->owner = *owner;
		(*out)->features &= ~owner->without;
	}
	return 0;
}

static unsigned feature_of(const char *name, size_t len)
{
	static const struct {
		const char *name;
		unsigned feature;
	} names[] = {
		{ "pre-copy", VFIO_STATE_PRE_COPY },
		{ "p2p", VFIO_STATE_QUIESCE },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == len && !memcmp(names[i].name, name, len))
			return names[i].feature;
	return 0;
}

int vfio_state_without(const char *names, unsigned *out, struct gw_error *err)
{
	*out = 0;
	for (;;) {
		size_t len = strcspn(names, ",");
		unsigned feature = feature_of(names, len);

		if (!feature && (*out || *names))
			return error_set(
			        err, -EINVAL,
			        "\"%.*s\" is no feature that one can do without; pre-copy and "
			        "p2p are",
			        (int)(len < 64 ? len : 64), names);
		*out |= feature;
		if (!names[len])
			return 0;
		names += len + 1;
	}
}

int vfio_state_check_without(const char *names, struct gw_error *err)
{
	unsigned set;

	return vfio_state_without(names, &set, err);
}

void vfio_state_destroy(struct vfio_state *s)
{
	if (s)
		s->ops->destroy(s);
}

void vfio_state_now_in(struct vfio_state *s, unsigned state)
{
	if (s->now == state)
		return;
	s->now = state;
	if (s->owner.changed)
		s->owner.changed(s->owner.opaque, s->ops->name(state));
}

/* ---- when a request fails ------------------------------------------------------------------ */

int vfio_state_request(struct vfio_state *s, unsigned to)
{
	const struct timespec pause = { 0, RETRY_NS };
	int r = s->ops->request(s, to);

	for (int i = 0; i < RETRIES && (r == -EAGAIN || r == -EBUSY); i++) {
		nanosleep(&pause, NULL);
		r = s->ops->request(s, to);
	}
	return r;
}

static void recover_by_reset(struct vfio_state *s, struct gw_error *err)
{
	enum vfio_trouble trouble = VFIO_WAS_RESET;
	struct gw_error why;

	if (s->owner.reset(s->owner.opaque, &why) < 0 || s->ops->refresh(s, &why) < 0) {
		error_append(err, "reset: %s: the device has failed", why.text);
		trouble = VFIO_HAS_FAILED;
	} else {
		error_append(err, "the device was reset and is %s", vfio_state_name(s));
	}
	if (s->owner.trouble)
		s->owner.trouble(s->owner.opaque, trouble, err->text);
}

static void recover(struct vfio_state *s, unsigned to, struct gw_error *err)
{
	struct gw_error why;
	int r;

	if (s->ops->refresh(s, &why) < 0) {
		error_append(err, "reading the state back: %s", why.text);
		recover_by_reset(s, err);
		return;
	}
	if (s->now == s->ops->error || s->now == s->ops->resuming) {
		error_append(err, "the device is in state \"%s\"", vfio_state_name(s));
		recover_by_reset(s, err);
		return;
	}
	if (s->now == to) {
		error_append(err, "the device is still %s", s->ops->name(to));
		return;
	}
	r = s->ops->may(s, s->now, to) ? vfio_state_request(s, to) : -EINVAL;
	if (!r) {
		error_append(err, "the device was taken back to %s", s->ops->name(to));
		return;
	}
	error_append(err, "it does not go from %s to %s: %s", vfio_state_name(s), s->ops->name(to),
	             strerror(-r));
	recover_by_reset(s, err);
}

int vfio_state_recover(struct vfio_state *s, unsigned to, int r, unsigned recover_to,
                       struct gw_error *err)
{
	struct gw_error own;

	error_set_sys(&own, r, "%s: from %s to %s", s->ops->how, vfio_state_name(s),
	              s->ops->name(to));
	recover(s, recover_to, &own);
	if (err)
		*err = own;
	return r;
}

int vfio_state_go(struct vfio_state *s, unsigned to, unsigned recover_to, struct gw_error *err)
{
	int r;

	if (!s->ops->may(s, s->now, to))
		return error_set(err, -EINVAL, "there is no way from state %s to %s",
		                 vfio_state_name(s), s->ops->name(to));
	if (s->now == to)
		return 0;
	r = vfio_state_request(s, to);
	return r ? vfio_state_recover(s, to, r, recover_to, err) : 0;
}

/* ---- resets by others --------------------------------------------------------------------- */

void vfio_state_was_reset(struct vfio_state *s)
{
	if (s)
		atomic_store(&s->reset, true);
}

/* Whatever the device was in, it runs (Linux uAPI, VFIO_DEVICE_RESET). A device that cannot be
 * asked now is asked the next time. */
static int heed_reset(struct vfio_state *s, struct gw_error *err)
{
	int r = atomic_exchange(&s->reset, false) ? s->ops->refresh(s, err) : 0;

	if (r < 0)
		atomic_store(&s->reset, true);
	return r;
}

/* An error in a session that nobody here has ended: was it a reset? */
static int explain(struct vfio_state *s, unsigned was, int r, struct gw_error *err)
{
	if (was != s->ops->copying || s->ops->refresh(s, NULL) < 0 || !vfio_state_runs(s))
		return r;
	return error_set(err, -ESTALE, "the device was reset while its state was copied");
}

/* ---- what the owner calls ------------------------------------------------------------------- */

int vfio_state_step(struct vfio_state *s, enum vfio_step step, struct gw_error *err)
{
	int r = heed_reset(s, err);

	return r ? r : s->ops->step(s, step, err);
}

int vfio_state_run_again(struct vfio_state *s, struct gw_error *err)
{
	int r = heed_reset(s, err);

	if (r || vfio_state_runs(s))
		return r;
	if (s->now != s->ops->error)
		return vfio_state_go(s, s->ops->running, s->ops->running, err);
	r = s->owner.reset(s->owner.opaque, err);
	return r ? r : s->ops->refresh(s, err);
}

int vfio_state_discard(struct vfio_state *s, struct gw_error *err)
{
	int r = heed_reset(s, err);

	if (!r && vfio_state_runs(s))
		return 0;
	r = s->owner.reset(s->owner.opaque, err);
	return r ? r : s->ops->refresh(s, err);
}

int vfio_state_pending(struct vfio_state *s, struct vfio_state_pending *out, struct gw_error *err)
{
	const unsigned was = s->now;
	int r = heed_reset(s, err);

	*out = (struct vfio_state_pending){ 0 };
	if (!r && s->now != was && was == s->ops->copying)
		return explain(s, was, 0, err);
	if (!r)
		r = s->ops->pending(s, out, err);
	return r < 0 ? explain(s, was, r, err) : 0;
}

uint64_t vfio_state_stop_size(struct vfio_state *s)
{
	return s->ops->stop_size(s);
}

ssize_t vfio_state_read(struct vfio_state *s, void *buf, size_t len, struct gw_error *err)
{
	const unsigned was = s->now;
	ssize_t n = heed_reset(s, err);

	if (!n && s->now != was && was == s->ops->copying)
		return explain(s, was, 0, err);
	if (!n)
		n = s->ops->read(s, buf, len, err);
	return n < 0 ? explain(s, was, (int)n, err) : n;
}

int vfio_state_write(struct vfio_state *s, const void *buf, size_t len, struct gw_error *err)
{
	int r = heed_reset(s, err);

	return r ? r : s->ops->write(s, buf, len, err);
}
