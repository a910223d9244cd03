/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving to a directory, atomically: all files are written into a directory
 * beside the target, synced, and renamed; what goes wrong takes it away again.
 */
#include "migration/migration_internal.h"
#include "migration/snapshot.h"
#include "migration/sums.h"
#include "migration/writer.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const file_names[] = { "manifest.json", "state", "memory", "memory.sums" };

struct save {
	struct sink sink; /* records to `writer`, pages to `memory` */
	struct output output;
	struct migration *mig;
	struct writer writer;
	struct sequence sequence;
	enum phase phase;
	struct snapshot_manifest manifest;
	XXH3_state_t state_sum;
	struct block_sums memory_sums;
	char tmp[PATH_MAX];
	int parent_fd, dir_fd, state_fd, memory_fd;
	bool was_running, stopped;
};

/* ---- memory ------------------------------------------------------------------------------ */

/* Pages follow each other in `memory` as they come; what touches the range before it, in both
 * address spaces, lengthens that one. */
static int note_range(struct save *s, const struct participant *p, uint64_t gpa, uint64_t size,
                      struct gw_error *err)
{
	struct snapshot_manifest *m = &s->manifest;
	struct snapshot_range *last = m->range_count ? &m->ranges[m->range_count - 1] : NULL;

	if (last && !strcmp(last->participant, p->name) && last->gpa + last->size == gpa) {
		last->size += size;
	} else {
		if (m->range_count == SNAPSHOT_RANGES_MAX)
			return error_set(err, -ENOSPC, "memory: more than %d ranges",
			                 SNAPSHOT_RANGES_MAX);
		last = &m->ranges[m->range_count++];
		snprintf(last->participant, sizeof(last->participant), "%s", p->name);
		last->gpa = gpa;
		last->size = size;
		last->offset = m->memory_size;
	}
	m->memory_size += size;
	return 0;
}

/* Pages that are not zero; whoever quits does not wait for the rest. */
static int save_run(struct save *s, const void *from, size_t len, uint64_t offset,
                    struct gw_error *err)
{
	struct pollfd cancel = { .fd = s->mig->cancel_fd, .events = POLLIN };
	int r;

	if (poll(&cancel, 1, 0) > 0)
		return error_set(err, -ECANCELED, "cancelled");
	r = io_pwrite_full(s->memory_fd, from, len, (off_t)offset);
	if (r < 0)
		return error_set_sys(err, r, "%s/memory", s->tmp);
	block_sums_add(&s->memory_sums, from, len);
	return 0;
}

/* The guest stands still, so what is summed is what was written. */
static int save_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                      size_t count, struct gw_error *err)
{
	struct save *s = container_of(sink, struct save, sink);
	const uint8_t *from = hva;
	uint64_t offset = s->manifest.memory_size;
	int r = note_range(s, p, gpa, count * PAGE_SIZE, err);

	for (size_t i = 0, n; i < count && !r; i += n) {
		const bool zeros = !hva || page_is_zero(from + i * PAGE_SIZE);

		for (n = hva ? 1 : count; i + n < count && n < 256; n++)
			if (page_is_zero(from + (i + n) * PAGE_SIZE) != zeros)
				break;
		if (zeros)
			block_sums_add_zeros(&s->memory_sums, n * PAGE_SIZE);
		else
			r = save_run(s, from + i * PAGE_SIZE, n * PAGE_SIZE, offset + i * PAGE_SIZE,
			             err);
	}
	return r;
}

static int save_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                       size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct save *s = container_of(sink, struct save, sink);

	return s->writer.sink.ops->record(&s->writer.sink, p, type, head, head_len, body, body_len,
	                                  err);
}

static const struct sink_ops save_sink_ops = { .record = save_record, .pages = save_pages };

static int write_sums(struct save *s, struct gw_error *err)
{
	struct snapshot_manifest *m = &s->manifest;
	struct block_sums *b = &s->memory_sums;
	autoclose int fd =
	        openat(s->dir_fd, "memory.sums", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (!block_sums_end(b))
		return error_set(err, -ENOMEM, "memory.sums: out of memory");
	m->sums_size = b->count * sizeof(b->sums[0]);
	m->sums_sum = sum_of(b->sums, m->sums_size);
	r = fd < 0 ? -errno : io_write_full(fd, b->sums, m->sums_size);
	if (!r && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? error_set_sys(err, r, "%s/memory.sums", s->tmp) : 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int state_write(struct output *output, struct iovec *iov, int count, struct gw_error *err)
{
	struct save *s = container_of(output, struct save, output);
	int r;

	for (int i = 0; i < count; i++) {
		XXH3_64bits_update(&s->state_sum, iov[i].iov_base, iov[i].iov_len);
		s->manifest.state_size += iov[i].iov_len;
	}
	r = io_writev_full(s->state_fd, iov, count);
	return r < 0 ? error_set_sys(err, r, "%s/state", s->tmp) : 0;
}

/* Before anything is written, so that nothing is left to go wrong at the end but the sync. */
static int open_parent(struct save *s, const char *dir, size_t len, struct gw_error *err)
{
	char parent[PATH_MAX];
	char *slash;

	snprintf(parent, sizeof(parent), "%.*s", (int)len, dir);
	slash = strrchr(parent, '/');
	if (slash == parent)
		slash[1] = 0;
	else if (slash)
		*slash = 0;
	else
		strcpy(parent, ".");
	s->parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->parent_fd < 0 ? error_set_sys(err, -errno, "%s", parent) : 0;
}

static int open_files(struct save *s, const char *dir, struct gw_error *err)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	size_t len = strlen(dir);
	int r;

	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (len + 16 >= sizeof(s->tmp))
		return error_set(err, -ENAMETOOLONG, "path too long");
	if (access(dir, F_OK) == 0)
		return error_set(err, -EEXIST, "it exists already");
	r = open_parent(s, dir, len, err);
	if (r < 0)
		return r;
	snprintf(s->tmp, sizeof(s->tmp), "%.*s.tmp-XXXXXX", (int)len, dir);
	if (!mkdtemp(s->tmp)) {
		int code = -errno;

		s->tmp[0] = 0;
		return error_set_sys(err, code, "making a directory beside it");
	}
	s->dir_fd = open(s->tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->state_fd = openat(s->dir_fd, "state", flags, 0600);
	s->memory_fd = openat(s->dir_fd, "memory", flags, 0600);
	if (s->dir_fd < 0 || s->state_fd < 0 || s->memory_fd < 0)
		return error_set_sys(err, -errno, "%s", s->tmp);
	return 0;
}

static int write_manifest(struct save *s, const char *config, struct gw_error *err)
{
	autoclose int fd = -1;
	autofree char *text = NULL;
	int r;

	s->manifest.version = SNAPSHOT_VERSION;
	s->manifest.machine = frame_machine();
	s->manifest.state_sum = XXH3_64bits_digest(&s->state_sum);
	text = manifest_print(&s->manifest, config);
	if (!text)
		return error_set(err, -ENOMEM, "manifest.json: out of memory");
	fd = openat(s->dir_fd, "manifest.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
	if (!r && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? error_set_sys(err, r, "%s/manifest.json", s->tmp) : 0;
}

/* A file system may have no sync of a directory. */
static int sync_directory(int fd)
{
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

/* Not every file system knows RENAME_NOREPLACE. Without it rename(2) of a directory replaces
 * nothing but an empty directory. */
static int name_it(const char *from, const char *to)
{
	if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return rename(from, to) ? -errno : 0;
}

/* Everything on disk first; then the name, which makes it a snapshot. */
static int publish(struct save *s, const char *dir, struct gw_error *err)
{
	int r;

	if (ftruncate(s->memory_fd, (off_t)s->manifest.memory_size) < 0 ||
	    fsync(s->memory_fd) < 0 || fsync(s->state_fd) < 0)
		return error_set_sys(err, -errno, "%s: sync", s->tmp);
	r = sync_directory(s->dir_fd);
	if (r < 0)
		return error_set_sys(err, r, "%s: sync", s->tmp);
	r = name_it(s->tmp, dir);
	if (r < 0)
		return error_set_sys(err, r, "naming it");
	s->tmp[0] = 0;
	r = sync_directory(s->parent_fd);
	if (r < 0) {
		error_set_sys(err, r, "sync of the directory above");
		error_append(err, "the snapshot is there and whole, but may be gone when this "
		                  "host loses power");
	}
	return r;
}

static void remove_files(struct save *s)
{
	if (!s->tmp[0])
		return;
	for (size_t i = 0; i < ARRAY_SIZE(file_names); i++)
		unlinkat(s->dir_fd, file_names[i], 0);
	rmdir(s->tmp);
}

/* ---- the guest ---------------------------------------------------------------------------------
 */

static int save_guest(struct save *s, const char *config, struct gw_error *err)
{
	const struct migration_host *host = &s->mig->host;
	int r = host->stop_guest(host->opaque, GW_STATE_SAVE_VM, &s->was_running, err);

	if (r < 0)
		return r;
	s->stopped = true;
	r = writer_begin(&s->writer, config, err);
	for (enum phase phase = PHASE_PREPARE; phase <= PHASE_SAVE && !r; phase++) {
		if (phase == PHASE_ITERATE)
			continue;
		s->phase = phase;
		r = sequence_run(&s->sequence, phase, err);
	}
	return r ? r : writer_end(&s->writer, s->was_running, err);
}

/* All of the guest is in the files: it goes on, whatever becomes of them. The disk need not
 * keep it waiting. */
static void let_go(struct save *s)
{
	sequence_run_all(&s->sequence, PHASE_ANSWER_AGAIN, NULL);
	sequence_run_all(&s->sequence, PHASE_FINISH, NULL);
	s->sequence.begun = false;
	s->mig->host.resume_guest(s->mig->host.opaque);
	s->stopped = false;
}

static int save(struct save *s, const char *dir, bool let_leave, struct gw_error *err)
{
	const struct migration_host *host = &s->mig->host;
	autofree char *config = host->config(host->opaque);
	const char *why =
	        sequence_blocker(s->sequence.list, let_leave ? SEQUENCE_MAY_LEAVE : 0, NULL, NULL);
	int r;

	if (why)
		return error_set(err, -ENOTSUP, "%s", why);
	if (!config)
		return error_set(err, -ENOMEM, "configuration: out of memory");
	r = open_files(s, dir, err);
	if (!r && let_leave)
		r = migration_let_leave(s->mig, false, err);
	if (!r)
		r = writer_init(&s->writer, &s->output, s->sequence.list, NULL, err);
	if (!r)
		r = save_guest(s, config, err);
	if (!r)
		let_go(s);
	if (!r && ftruncate(s->memory_fd, (off_t)s->manifest.memory_size) < 0)
		r = error_set_sys(err, -errno, "%s/memory", s->tmp);
	if (!r)
		r = write_sums(s, err);
	if (!r)
		r = write_manifest(s, config, err);
	return r ? r : publish(s, dir, err);
}

int migration_save(struct migration *mig, const char *dir, bool let_leave, struct gw_error *err)
{
	struct gw_error own = { 0 };
	struct save s = {
		.sink.ops = &save_sink_ops,
		.output.write = state_write,
		.mig = mig,
		.sequence = { .log = mig->host.log, .goes_on = true },
		.phase = PHASE_PREPARE,
		.parent_fd = -1,
		.dir_fd = -1,
		.state_fd = -1,
		.memory_fd = -1,
	};
	int r = migration_begin(mig, false, err);

	if (r < 0)
		return r;
	XXH3_64bits_reset(&s.state_sum);
	block_sums_init(&s.memory_sums);
	s.sequence.asleep = mig->asleep;
	s.sequence.sink = &s.sink;
	s.sequence.list = mig->host.participants(mig->host.opaque);
	r = s.sequence.list ? save(&s, dir, let_leave, &own)
	                    : error_set(&own, -ENODATA, "the VM is empty");
	if (r < 0) {
		migration_explain_cancel(mig, &own);
		sequence_undo(&s.sequence, s.phase, &own);
	}
	if (s.stopped)
		mig->host.resume_guest(mig->host.opaque);
	if (r < 0)
		remove_files(&s);
	sequence_end(&s.sequence);
	snapshot_close_files(s.dir_fd, s.state_fd, s.memory_fd);
	if (s.parent_fd >= 0)
		close(s.parent_fd);
	block_sums_fini(&s.memory_sums);
	writer_fini(&s.writer);
	migration_call_off(mig);
	if (r < 0 && err)
		*err = own;
	return r;
}
