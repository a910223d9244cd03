/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dump.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/memory_internal.h"
#include "vmm/vcpu.h"

#include <elf.h>
#include <limits.h>
#include <poll.h>
#include <fcntl.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/stat.h>

#define NOTE_NAME "CORE"
#define CHUNK (1 * MIB)
#define WAIT_MS 10000

static void put_note(struct bytes *out, const struct elf_prstatus *status)
{
	const Elf64_Nhdr header = { .n_namesz = sizeof(NOTE_NAME),
		                    .n_descsz = sizeof(*status),
		                    .n_type = NT_PRSTATUS };
	static const char padding[4];

	bytes_put(out, &header, sizeof(header));
	bytes_put(out, NOTE_NAME, sizeof(NOTE_NAME));
	bytes_put(out, padding, ALIGN_UP(out->len, (size_t)4) - out->len);
	bytes_put(out, status, sizeof(*status));
	bytes_put(out, padding, ALIGN_UP(out->len, (size_t)4) - out->len);
}

static int put_notes(struct machine *m, struct bytes *out, struct gw_error *err)
{
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		struct elf_prstatus status = { .pr_pid = (pid_t)i + 1 };
		int r = arch_vcpu_core_registers(m->vcpus[i], &status.pr_reg, sizeof(status.pr_reg),
		                                 err);

		if (r < 0)
			return r;
		put_note(out, &status);
	}
	return out->failed ? error_set(err, -ENOMEM, "out of memory") : 0;
}

/* Pieces of memory that are there. */
static unsigned count_runs(const struct memory *mem)
{
	unsigned n = 0;

	for (size_t i = 0; i < memory_region_count(mem); i++)
		for (uint64_t offset = 0, len; memory_next_run(mem, i, &offset, &len);
		     offset += len)
			n++;
	return n;
}

/* A segment for each piece of a region; where in the file the next one begins. */
static uint64_t put_region(const struct memory *mem, size_t i, uint64_t at, struct bytes *out)
{
	for (uint64_t offset = 0, len; memory_next_run(mem, i, &offset, &len); offset += len) {
		const Elf64_Phdr load = {
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = at,
			.p_paddr = memory_region(mem, i)->gpa + offset,
			.p_filesz = len,
			.p_memsz = len,
			.p_align = PAGE_SIZE,
		};

		bytes_put(out, &load, sizeof(load));
		at += len;
	}
	return at;
}

/* Everything before the memory itself, which begins at a page's boundary. */
static int put_headers(struct machine *m, struct bytes *out, uint64_t *memory_at,
                       struct gw_error *err)
{
	const unsigned runs = count_runs(m->memory);
	const uint64_t notes_at = sizeof(Elf64_Ehdr) + (runs + 1) * sizeof(Elf64_Phdr);
	struct bytes notes = { 0 };
	const Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
		             EV_CURRENT },
		.e_type = ET_CORE,
		.e_machine = HOST_ELF_MACHINE,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (Elf64_Half)(runs + 1),
	};
	int r = put_notes(m, &notes, err);
	const Elf64_Phdr note = { .p_type = PT_NOTE, .p_offset = notes_at, .p_filesz = notes.len };
	uint64_t at = ALIGN_UP(notes_at + notes.len, PAGE_SIZE);

	*memory_at = at;
	bytes_put(out, &header, sizeof(header));
	bytes_put(out, &note, sizeof(note));
	if (runs + 1 >= PN_XNUM)
		r = r ? r : error_set(err, -E2BIG, "memory is in %u pieces", runs);
	for (size_t i = 0; i < memory_region_count(m->memory); i++)
		at = put_region(m->memory, i, at, out);
	bytes_put(out, notes.data, notes.len);
	if (!r && (out->failed || notes.failed))
		r = error_set(err, -ENOMEM, "out of memory");
	bytes_free(&notes);
	return r;
}

/* Where it goes. */
struct dump_file {
	int fd;
	bool holes; /* zeros may be passed over */
	bool waits; /* a pipe or socket, whose reader may stop reading */
};

/* A reader that takes nothing for WAIT_MS does not keep the guest waiting any longer. poll(2) tells
 * of room for PIPE_BUF bytes. */
static int put(const struct dump_file *f, const void *data, size_t len)
{
	struct pollfd poll_fd = { .fd = f->fd, .events = POLLOUT };
	int r = 0;

	if (!f->waits)
		return io_write_full(f->fd, data, len);
	for (size_t done = 0; done < len && !r;) {
		const int ready = poll(&poll_fd, 1, WAIT_MS);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		r = io_write_full(f->fd, (const char *)data + done,
		                  MIN(len - done, (size_t)PIPE_BUF));
		done += PIPE_BUF;
	}
	return r;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

static int skip_zeros(const struct dump_file *f, uint64_t len)
{
	static const uint8_t zeros[64 * KIB];
	int r = 0;

	if (f->holes)
		return lseek(f->fd, (off_t)len, SEEK_CUR) < 0 ? -errno : 0;
	for (uint64_t done = 0; done < len && !r; done += sizeof(zeros))
		r = put(f, zeros, MIN(len - done, sizeof(zeros)));
	return r;
}

/* Seeks over zeros, or writes them where that cannot be done (a pipe). */
static int write_data(const struct dump_file *f, const uint8_t *from, uint64_t len)
{
	int r = 0;

	for (uint64_t at = 0; at < len && !r; at += CHUNK) {
		const size_t n = MIN(len - at, CHUNK);

		if (f->holes && is_zero(from + at, n))
			r = skip_zeros(f, n);
		else
			r = put(f, from + at, n);
	}
	return r;
}

/* RAM that was never touched is not touched here: reading it would allocate it. */
static int write_run(const struct dump_file *f, struct memory *mem, size_t region, uint64_t from,
                     uint64_t len, struct gw_error *err)
{
	const struct ram_region *ram = memory_region(mem, region);
	int r = 0;

	for (uint64_t at = from, n; at < from + len && !r; at += n) {
		bool hole;

		n = PAGE_SIZE *
		    memory_alike(mem, region, at / PAGE_SIZE, (from + len - at) / PAGE_SIZE, &hole);
		r = hole ? skip_zeros(f, n) : write_data(f, ram->hva + at, n);
	}
	return r < 0 ? error_set_sys(err, r, "writing memory from 0x%llx on",
	                             (unsigned long long)(ram->gpa + from))
	             : 0;
}

/* Zeros can be passed over in a regular file, once what is there already has been cut off, unless
 * writes go to its end whatever the offset. 0, or an errno. */
static int look_at(struct dump_file *f, off_t begin)
{
	struct stat st;
	const int flags = fcntl(f->fd, F_GETFL);

	if (flags < 0 || fstat(f->fd, &st) < 0)
		return -errno;
	f->waits = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
	f->holes = begin >= 0 && S_ISREG(st.st_mode) && !(flags & O_APPEND);
	return f->holes && ftruncate(f->fd, begin) < 0 ? -errno : 0;
}

static int write_core(struct machine *m, int fd, struct gw_error *err)
{
	const off_t begin = lseek(fd, 0, SEEK_CUR);
	struct dump_file f = { .fd = fd };
	static const uint8_t padding[PAGE_SIZE];
	struct bytes head = { 0 };
	uint64_t memory_at, total;
	int r = put_headers(m, &head, &memory_at, err);

	if (!r)
		bytes_put(&head, padding, memory_at - head.len);
	if (!r && head.failed)
		r = error_set(err, -ENOMEM, "out of memory");
	if (!r && (r = look_at(&f, begin)) < 0)
		error_set_sys(err, r, "the file to write");
	if (!r && (r = put(&f, head.data, head.len)) < 0)
		error_set_sys(err, r, "writing headers");
	total = memory_at;
	bytes_free(&head);
	for (size_t i = 0; i < memory_region_count(m->memory) && !r; i++) {
		for (uint64_t at = 0, len; !r && memory_next_run(m->memory, i, &at, &len);
		     at += len) {
			r = write_run(&f, m->memory, i, at, len, err);
			total += len;
		}
	}
	/* Zeros at the very end leave the file too short. */
	if (!r && f.holes && ftruncate(fd, begin + (off_t)total) < 0)
		r = error_set_sys(err, -errno, "setting the length");
	return r;
}

int dump_write(struct machine *m, int fd, struct gw_error *err)
{
	struct thread_pipe pipe;
	int r;

	thread_pipe_begin(&pipe);
	r = write_core(m, fd, err);
	thread_pipe_end(&pipe);
	return r;
}
