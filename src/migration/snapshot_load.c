/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading from a directory. Every checksum is verified before anything is
 * made of it; then memory is mapped, not read, and the guest runs at once.
 */
#include "migration/lanes.h"
#include "migration/migration_internal.h"
#include "migration/reader.h"
#include "migration/snapshot.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <string.h>

struct load {
	struct input input;
	struct migration *mig;
	struct reader reader;
	struct sequence sequence;
	enum phase phase;
	struct snapshot_manifest manifest;
	int dir_fd, state_fd, memory_fd;
	bool built, ran, run;
};

static int state_read(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct load *l = container_of(input, struct load, input);
	int r = io_read_full(l->state_fd, buf, len);

	return r < 0 ? error_set(err, r, "state: it ends too early") : 0;
}

static int open_and_verify(struct load *l, const char *dir, struct gw_error *err)
{
	const struct snapshot_manifest *m = &l->manifest;
	int r;

	l->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0)
		return error_set_sys(err, -errno, "open");
	r = manifest_read(l->dir_fd, &l->manifest, err);
	if (r < 0)
		return r;
	if (m->machine != frame_machine())
		return error_set(err, -ENOEXEC, "a snapshot of a guest for %s, and this is %s",
		                 frame_machine_name(m->machine),
		                 frame_machine_name(frame_machine()));
	r = l->state_fd = snapshot_open(l->dir_fd, "state", m->state_size, err);
	if (r >= 0)
		r = l->memory_fd = snapshot_open(l->dir_fd, "memory", m->memory_size, err);
	if (r >= 0)
		r = snapshot_verify_state(l->state_fd, m, l->mig->cancel_fd, err);
	if (r >= 0)
		r = snapshot_verify_memory(l->dir_fd, l->memory_fd, m, l->mig->cancel_fd, err);
	return MIN(r, 0);
}

static int run_phase(struct load *l, enum phase phase, struct gw_error *err)
{
	l->phase = phase;
	return sequence_run(&l->sequence, phase, err);
}

static int map_memory(struct load *l, struct gw_error *err)
{
	for (unsigned i = 0; i < l->manifest.range_count; i++) {
		const struct snapshot_range *range = &l->manifest.ranges[i];
		struct participant *p = participant_find(l->sequence.list, range->participant);
		int r;

		if (!p || !p->ops->map_file)
			return error_set(err, -EINVAL, "%s: takes no memory", range->participant);
		r = p->ops->map_file(p, range->gpa, range->size, l->memory_fd, range->offset, err);
		if (r < 0)
			return error_context(err, "%s: load", p->name);
	}
	return 0;
}

static int load_records(struct load *l, struct gw_error *err)
{
	struct lanes *lanes = NULL;
	int r = lanes_create(&l->reader, NULL, &lanes, err);

	l->phase = PHASE_LOAD;
	while (!r) {
		r = reader_next(&l->reader, err);
		if (r || l->reader.h.type == FRAME_END)
			break;
		r = lanes_deliver(lanes, err);
	}
	if (!r)
		r = lanes_drain(lanes, err);
	lanes_destroy(lanes);
	return r ? r : reader_end(&l->reader, &l->ran, err);
}

static int load_state(struct load *l, struct gw_error *err)
{
	const struct migration_host *host = &l->mig->host;
	const char *config;
	int r = reader_begin(&l->reader, &config, err);

	if (!r)
		r = host->build(host->opaque, config, &l->sequence.list, err);
	if (r < 0)
		return r;
	l->built = true;
	r = reader_table(&l->reader, err);
	if (!r)
		r = reader_match(&l->reader, l->sequence.list, err);
	if (!r)
		r = run_phase(l, PHASE_BEGIN_LOAD, err);
	if (!r)
		r = map_memory(l, err);
	return r ? r : load_records(l, err);
}

/* Where the guest stays paused, passthrough devices sleep until it runs. */
static int load(struct load *l, const char *dir, bool run, struct gw_error *err)
{
	int r = open_and_verify(l, dir, err);

	if (!r)
		r = reader_init(&l->reader, &l->input, err);
	if (!r)
		r = load_state(l, err);
	if (!r)
		r = run_phase(l, PHASE_SETTLE, err);
	l->run = run && l->ran;
	l->sequence.asleep = !l->run;
	if (!r)
		r = l->mig->host.claim(l->mig->host.opaque, err);
	if (!r)
		r = run_phase(l, PHASE_ANSWER_DMA, err);
	return r ? r : run_phase(l, PHASE_RUN, err);
}

int migration_load(struct migration *mig, const char *dir, bool run, struct gw_error *err)
{
	struct gw_error own = { 0 };
	struct load l = {
		.input.read = state_read,
		.mig = mig,
		.sequence.log = mig->host.log,
		.phase = PHASE_BEGIN_LOAD,
		.dir_fd = -1,
		.state_fd = -1,
		.memory_fd = -1,
	};
	int r = migration_begin(mig, true, err);

	if (r < 0)
		return r;
	r = load(&l, dir, run, &own);
	if (r < 0)
		migration_explain_cancel(mig, &own);
	if (!r) {
		migration_arrives(mig, l.run);
		mig->host.start(mig->host.opaque, l.run);
	} else if (l.built) {
		sequence_undo(&l.sequence, l.phase, &own);
		mig->host.abandon(mig->host.opaque);
	}
	sequence_end(&l.sequence);
	reader_fini(&l.reader);
	snapshot_close_files(l.dir_fd, l.state_fd, l.memory_fd);
	migration_call_off(mig);
	if (r < 0 && err)
		*err = own;
	return r;
}
