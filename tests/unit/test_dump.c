/* SPDX-License-Identifier: Apache-2.0 */
/* Core files of a machine without vCPUs. */
#include "virtio_driver.h"

#include "vmm/dump.h"

#include <elf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define RAM (4 * MIB)
#define MARK 0x123456

static struct vmachine *marked(void)
{
	struct vmachine *vm = vmachine_new(RAM);

	memcpy(vmachine_at(vm, MARK), "godwit", 6);
	return vm;
}

/* The file's RAM, which begins at `begin` in it, is the machine's. */
static void expect_ram(struct vmachine *vm, int fd, off_t begin)
{
	uint8_t *now = malloc(RAM);
	Elf64_Ehdr header;
	Elf64_Phdr load;

	cr_assert_eq(pread(fd, &header, sizeof(header), begin), sizeof(header));
	cr_assert_eq(memcmp(header.e_ident, ELFMAG, SELFMAG), 0);
	cr_assert_eq(header.e_phnum, 2);
	cr_assert_eq(pread(fd, &load, sizeof(load), begin + (off_t)(header.e_phoff + sizeof(load))),
	             sizeof(load));
	cr_assert_eq(load.p_filesz, RAM);
	cr_assert_eq(pread(fd, now, RAM, begin + (off_t)load.p_offset), (ssize_t)RAM);
	cr_assert_eq(memcmp(now, vmachine_at(vm, 0), RAM), 0);
	cr_assert_eq(lseek(fd, 0, SEEK_END), begin + (off_t)(load.p_offset + RAM));
	free(now);
}

Test(dump, zeros_are_zeros_where_the_file_held_something_else)
{
	struct vmachine *vm = marked();
	const int fd = memfd_create("core", MFD_CLOEXEC);
	struct gw_error err = { 0 };
	uint8_t old[4096];

	memset(old, 0x5a, sizeof(old));
	for (off_t at = 0; at < (off_t)(2 * RAM); at += (off_t)sizeof(old))
		cr_assert_eq(pwrite(fd, old, sizeof(old), at), (ssize_t)sizeof(old));
	/* What stands before the place where it begins is left alone. */
	cr_assert_eq(lseek(fd, 8192, SEEK_SET), 8192);
	cr_assert_eq(dump_write(vm->m, fd, &err), 0, "%s", err.text);
	expect_ram(vm, fd, 8192);
	memset(old, 0, sizeof(old));
	cr_assert_eq(pread(fd, old, sizeof(old), 4096), (ssize_t)sizeof(old));
	cr_assert_eq(old[0] & old[4095], 0x5a);
	close(fd);
	vmachine_free(vm);
}

Test(dump, a_file_that_only_grows_gets_every_byte)
{
	struct vmachine *vm = marked();
	char path[] = "/var/tmp/godwit-test-dump-XXXXXX";
	struct gw_error err = { 0 };
	const int made = mkstemp(path), fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	unlink(path);
	close(made);
	cr_assert_eq(dump_write(vm->m, fd, &err), 0, "%s", err.text);
	expect_ram(vm, fd, 0);
	close(fd);
	vmachine_free(vm);
}

Test(dump, a_device_is_written_to_without_a_length)
{
	struct vmachine *vm = marked();
	const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct gw_error err = { 0 };

	cr_assert_eq(dump_write(vm->m, fd, &err), 0, "%s", err.text);
	close(fd);
	vmachine_free(vm);
}

static void *read_all(void *opaque)
{
	const int *fds = opaque;
	uint8_t buf[65536];
	ssize_t n;

	while ((n = read(fds[0], buf, sizeof(buf))) > 0)
		cr_assert_eq(write(fds[1], buf, (size_t)n), n);
	return NULL;
}

Test(dump, a_reader_gets_every_byte)
{
	struct vmachine *vm = marked();
	const int file = memfd_create("core", MFD_CLOEXEC);
	struct gw_error err = { 0 };
	pthread_t reader;
	int ends[2], fds[2];

	cr_assert_eq(pipe(ends), 0);
	fds[0] = ends[0];
	fds[1] = file;
	cr_assert_eq(pthread_create(&reader, NULL, read_all, fds), 0);
	cr_assert_eq(dump_write(vm->m, ends[1], &err), 0, "%s", err.text);
	close(ends[1]);
	pthread_join(reader, NULL);
	expect_ram(vm, file, 0);
	close(file);
	close(ends[0]);
	vmachine_free(vm);
}

Test(dump, a_reader_that_does_not_read_is_given_up)
{
	struct vmachine *vm = marked();
	struct gw_error err = { 0 };
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(dump_write(vm->m, ends[1], &err), -ETIMEDOUT);
	close(ends[0]);
	close(ends[1]);
	vmachine_free(vm);
}

static int signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

static bool is_blocked(void)
{
	sigset_t mask;

	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	return sigismember(&mask, SIGPIPE);
}

Test(dump, a_reader_that_is_gone_raises_no_signal)
{
	struct vmachine *vm = marked();
	struct gw_error err = { 0 };
	sigset_t set;
	int ends[2];

	signal(SIGPIPE, on_signal);
	for (int kind = 0; kind < 2; kind++) {
		cr_assert_eq(kind ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
		close(ends[0]);
		cr_assert_eq(dump_write(vm->m, ends[1], &err), -EPIPE, "%s", err.text);
		cr_assert_eq(signals, 0);
		cr_assert_not(is_blocked());
		/* The embedder's own writes raise it as ever. */
		cr_assert_eq(write(ends[1], "", 1), -1);
		cr_assert_eq(signals, 1);
		signals = 0;
		close(ends[1]);
	}
	/* One that is held back by the embedder stays so. */
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	cr_assert_eq(pipe(ends), 0);
	close(ends[0]);
	cr_assert_eq(write(ends[1], "", 1), -1);
	cr_assert_eq(dump_write(vm->m, ends[1], &err), -EPIPE);
	cr_assert_eq(signals, 0);
	cr_assert(is_blocked());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	cr_assert_eq(signals, 1);
	close(ends[1]);
	vmachine_free(vm);
}
