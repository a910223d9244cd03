/* SPDX-License-Identifier: Apache-2.0 */
/* The vfio-user server and guest memory: mapped by descriptor and by message, logged, cut short. */
#include "server_client.h"

#include <signal.h>
#include <sys/wait.h>

#define BALLAST "\"type\":\"ballast\",\"size\":\"64K\""
#define RW (WIRE_DMA_FLAG_READ | WIRE_DMA_FLAG_WRITE)

static struct sclient *ballast(void)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);

	sclient_version(c, false);
	return c;
}

static int memory(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* ---- memory ---- */

/* The ballast copies between guest memory and its own. */
static uint32_t dma(struct sclient *c, uint64_t address, uint32_t len, uint32_t command)
{
	sclient_set(c, 0, 0x20, 8, address);
	sclient_set(c, 0, 0x28, 4, len);
	sclient_set(c, 0, 0x2c, 4, command);
	return (uint32_t)sclient_get(c, 0, 0x30, 4);
}

Test(server_memory, memory_by_descriptor)
{
	struct sclient *c = ballast();
	int fd = memory(4 * MIB);
	uint8_t *ram = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	cr_assert_eq(sclient_map(c, 0x100000, MIB, MIB, RW, fd), 0);
	cr_assert_eq(sclient_map(c, 0x10000000, MIB, 0, WIRE_DMA_FLAG_READ, fd), 0);
	strcpy((char *)ram + MIB + 0x10, "from the guest");
	cr_assert_eq(dma(c, 0x100010, 15, 1), 0);
	cr_assert_eq(dma(c, 0x100800, 15, 2), 0);
	cr_assert_str_eq((char *)ram + MIB + 0x800, "from the guest");
	/* Not wholly inside, outside, not to be written. */
	cr_assert_eq(dma(c, 0x1ffff8, 16, 1), EFAULT);
	cr_assert_eq(dma(c, 0x200000, 1, 2), EFAULT);
	cr_assert_eq(dma(c, UINT64_MAX - 2, 16, 2), EFAULT);
	cr_assert_eq(dma(c, 0x10000000, 16, 1), 0);
	cr_assert_eq(dma(c, 0x10000000, 16, 2), EFAULT);
	cr_assert_eq(sclient_unmap(c, 0x100000, MIB), 0);
	cr_assert_eq(dma(c, 0x100010, 15, 1), EFAULT);
	/* What a client had mapped goes with it. */
	sclient_disconnect(c);
	sclient_connect(c);
	sclient_version(c, false);
	cr_assert_eq(dma(c, 0x10000000, 16, 1), EFAULT);
	munmap(ram, 4 * MIB);
	close(fd);
	sclient_free(c);
}

Test(server_memory, maps_that_make_no_sense_are_refused)
{
	struct sclient *c = ballast();
	int fd = memory(MIB), pair[2];
	struct wire_dma_map map = { sizeof(map), RW, 0, 0, MIB };
	const int two[2] = { fd, fd };

	cr_assert_eq(pipe(pair), 0);
	cr_assert_eq(sclient_map(c, 0x100000, MIB, 0, RW, fd), 0);
	cr_assert_eq(sclient_map(c, 0x100000, MIB, 0, RW, fd), -EEXIST);
	cr_assert_eq(sclient_map(c, 0, MIB + 4096, 0, RW, -1), -EEXIST);
	cr_assert_eq(sclient_map(c, 0x1ff000, 8192, 0, RW, fd), -EEXIST);
	cr_assert_eq(sclient_map(c, 0, 4096, MIB, RW, fd), -EINVAL, "the file is shorter");
	cr_assert_eq(sclient_map(c, 0, 8192, MIB - 4096, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 4096, UINT64_MAX - 4095, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 0, 0, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 100, 0, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 5, 4096, 0, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 4096, 7, RW, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 4096, 0, 0, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, 0, 4096, 0, 0x80, fd), -EINVAL);
	cr_assert_eq(sclient_map(c, UINT64_MAX - 4095, 8192, 0, RW, fd), -EINVAL, "it wraps");
	cr_assert_eq(sclient_map(c, 0, 4096, 0, RW, pair[0]), -EINVAL, "no file");
	cr_assert_eq(sclient_call(c, WIRE_DMA_MAP, &map, sizeof(map), two, 2), -EINVAL);
	cr_assert_eq(sclient_call(c, WIRE_DMA_MAP, &map, sizeof(map) - 1, NULL, 0), -EINVAL);
	/* Only what was mapped as it was mapped. */
	cr_assert_eq(sclient_unmap(c, 0x100000, 4096), -ENOENT);
	cr_assert_eq(sclient_unmap(c, 0x101000, MIB - 4096), -ENOENT);
	cr_assert_eq(sclient_unmap(c, 0x900000, MIB), -ENOENT);
	cr_assert_eq(sclient_unmap(c, 0x100000, MIB), 0);
	cr_assert_eq(sclient_unmap(c, 0x100000, MIB), -ENOENT);
	close(fd);
	close(pair[0]);
	close(pair[1]);
	sclient_free(c);
}

Test(server_memory, all_is_unmapped_at_once)
{
	struct sclient *c = ballast();
	struct wire_dma_unmap all = { sizeof(all), VFIO_DMA_UNMAP_FLAG_ALL, 0, MIB };
	int fd = memory(MIB);

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(sclient_map(c, i * 0x200000, MIB, 0, RW, fd), 0);
	cr_assert_eq(sclient_call(c, WIRE_DMA_UNMAP, &all, sizeof(all), NULL, 0), -EINVAL,
	             "all has no size");
	cr_assert_eq(dma(c, 0x200000, 16, 2), 0);
	all.size = 0;
	cr_assert_eq(sclient_call(c, WIRE_DMA_UNMAP, &all, sizeof(all), NULL, 0), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(dma(c, i * 0x200000, 16, 1), EFAULT);
		cr_assert_eq(sclient_map(c, i * 0x200000, MIB, 0, RW, fd), 0);
	}
	close(fd);
	sclient_free(c);
}

/* Answers one command of the server's on `socket` and leaves the reply to the test's own. */
static void answer(int socket, unsigned command, const char *text, uint32_t flags)
{
	static uint8_t room[WIRE_MESSAGE_MAX];
	struct wire_message m = { .payload = room };
	struct wire_dma_access access;
	struct wire_header header;
	struct iovec parts[2] = { { &access, sizeof(access) },
		                  { (void *)(uintptr_t)text, strlen(text) } };

	cr_assert_eq(wire_receive(socket, &m, patience_ms()), 0);
	cr_assert_eq(m.header.command, command);
	memcpy(&access, room, sizeof(access));
	cr_assert_eq(access.address, 0x5000);
	if (command == WIRE_DMA_WRITE)
		cr_assert_eq(memcmp(room + sizeof(access), "message", 7), 0);
	header = m.header;
	header.flags = flags;
	cr_assert_eq(wire_send(socket, &header, parts,
	                       flags & WIRE_ERROR         ? 0
	                       : command == WIRE_DMA_READ ? 2
	                                                  : 1,
	                       NULL, 0, patience_ms()),
	             0);
}

static void by_message(bool twin)
{
	struct sclient *c = sclient_new(BALLAST, GW_SERVER_V2, GW_SERVER_TRAPPED);
	struct {
		struct wire_region_access access;
		uint32_t value;
	} __attribute__((packed)) m = { { 0x2c, 0, 4 }, 1 };
	int socket;

	sclient_version(c, twin);
	socket = twin ? c->twin : c->socket;
	cr_assert_eq(sclient_map(c, 0x4000, 0x4000, 0, RW, -1), 0);
	sclient_set(c, 0, 0x20, 8, 0x5000);
	sclient_set(c, 0, 0x28, 4, 7);
	sclient_send(c, WIRE_REGION_WRITE, 0, &m, sizeof(m), NULL, 0);
	answer(socket, WIRE_DMA_READ, "message", WIRE_TYPE_REPLY);
	cr_assert_eq(sclient_take(c), 0);
	cr_assert_eq(sclient_get(c, 0, 0x30, 4), 0);
	m.value = 2;
	sclient_send(c, WIRE_REGION_WRITE, 0, &m, sizeof(m), NULL, 0);
	if (!twin) { /* a command of ours comes in between, and has its turn */
		struct wire_region_access read = { 0x1000, 0, 7 };

		sclient_send(c, WIRE_REGION_READ, 0, &read, sizeof(read), NULL, 0);
	}
	answer(socket, WIRE_DMA_WRITE, "", WIRE_TYPE_REPLY);
	cr_assert_eq(sclient_take(c), 0);
	cr_assert_eq(c->reply.header.command, WIRE_REGION_WRITE);
	if (!twin) {
		cr_assert_eq(sclient_take(c), 0);
		cr_assert_eq(c->reply.header.command, WIRE_REGION_READ);
		cr_assert_eq(memcmp(c->reply.payload + 16, "message", 7), 0);
	}
	m.value = 1;
	sclient_send(c, WIRE_REGION_WRITE, 0, &m, sizeof(m), NULL, 0);
	answer(socket, WIRE_DMA_READ, "", WIRE_TYPE_REPLY | WIRE_ERROR);
	cr_assert_eq(sclient_take(c), 0);
	cr_assert_eq(sclient_get(c, 0, 0x30, 4), EFAULT);
	/* An answer that is too short. */
	sclient_send(c, WIRE_REGION_WRITE, 0, &m, sizeof(m), NULL, 0);
	answer(socket, WIRE_DMA_READ, "mess", WIRE_TYPE_REPLY);
	cr_assert_eq(sclient_take(c), 0);
	cr_assert_eq(sclient_get(c, 0, 0x30, 4), EFAULT);
	sclient_free(c);
}

Test(server_memory, memory_by_message_on_a_twin_socket)
{
	by_message(true);
}

Test(server_memory, memory_by_message_on_one_socket)
{
	by_message(false);
}

/* ---- the dirty log ---- */

static int log_start(struct sclient *c, uint64_t page, uint32_t count, uint64_t iova, uint64_t len)
{
	const struct {
		uint64_t page_size;
		uint32_t count, reserved;
		uint64_t range[2];
	} start = { page, count, 0, { iova, len } };

	return sclient_feature(c, VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET,
	                       &start, 16 + (count ? 16 : 0), NULL, 0);
}

static int log_report(struct sclient *c, uint64_t iova, uint64_t len, uint64_t page, uint64_t *bits)
{
	const struct wire_logging_report ask = { iova, len, page };
	uint8_t reply[24 + 64];
	int r = sclient_feature(c, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET,
	                        &ask, sizeof(ask), reply, sizeof(reply));

	if (r >= 32)
		memcpy(bits, reply + 24, 8);
	return r;
}

Test(server_memory, writes_are_logged)
{
	struct sclient *c = ballast();
	int fd = memory(MIB);
	uint64_t bits = 1;

	cr_assert_eq(sclient_map(c, 0x100000, MIB, 0, RW, fd), 0);
	cr_assert_eq(log_report(c, 0x100000, 0x40000, 4096, &bits), -EINVAL, "it is off");
	cr_assert_geq(log_start(c, 4096, 1, 0x100000, MIB), 0);
	cr_assert_eq(log_start(c, 4096, 1, 0x100000, MIB), -EINVAL, "once is enough");
	cr_assert_eq(dma(c, 0x103ff8, 16, 2), 0);
	cr_assert_eq(dma(c, 0x108000, 4096, 1), 0, "reading dirties nothing");
	cr_assert_eq(log_report(c, 0x100000, 0x40000, 4096, &bits), 32);
	cr_assert_eq(bits, 0x18);
	cr_assert_eq(log_report(c, 0x100000, 0x40000, 4096, &bits), 32);
	cr_assert_eq(bits, 0, "reading takes them");
	/* In another unit; and what was taken is what was asked for. */
	cr_assert_eq(dma(c, 0x103ff8, 16, 2), 0);
	cr_assert_eq(dma(c, 0x110000, 16, 2), 0);
	cr_assert_eq(log_report(c, 0x100000, 0x8000, 0x2000, &bits), 32);
	cr_assert_eq(bits, 6);
	cr_assert_eq(log_report(c, 0x110000, 0x1000, 4096, &bits), 32);
	cr_assert_eq(bits, 1);
	/* A reset takes nothing from the log, nor from what is mapped, and ends neither. */
	cr_assert_eq(dma(c, 0x104000, 16, 2), 0);
	sclient_reset(c, false);
	cr_assert_eq(dma(c, 0x105000, 16, 2), 0);
	sclient_reset(c, true);
	cr_assert_eq(dma(c, 0x106000, 16, 2), 0);
	cr_assert_eq(log_report(c, 0x100000, 0x10000, 4096, &bits), 32);
	cr_assert_eq(bits, 0x70);
	/* A map that comes meanwhile is logged as well. */
	cr_assert_eq(sclient_map(c, 0x400000, MIB, 0, RW, fd), 0);
	cr_assert_eq(dma(c, 0x401000, 16, 2), 0);
	cr_assert_eq(log_report(c, 0x400000, 0x4000, 4096, &bits), 32);
	cr_assert_eq(bits, 2);
	/* All of several maps that a report is about: whatever lies before, between and behind. */
	cr_assert_eq(sclient_map(c, 0x80000, 0x1000, 0, RW, fd), 0);
	cr_assert_eq(sclient_map(c, 0x600000, 0x1000, 0, RW, fd), 0);
	cr_assert_eq(dma(c, 0x80000, 16, 2), 0);
	cr_assert_eq(dma(c, 0x1ff000, 16, 2), 0);
	cr_assert_eq(dma(c, 0x400000, 16, 2), 0);
	cr_assert_eq(dma(c, 0x600000, 16, 2), 0);
	cr_assert_eq(log_report(c, 0x100000, 0x400000, 0x10000, &bits), 32);
	cr_assert_eq(bits, 1ull << 15 | 1ull << 48);
	cr_assert_eq(log_report(c, 0, 0x800000, 0x20000, &bits), 32);
	cr_assert_eq(bits, 1ull << 4 | 1ull << 48, "the others have been taken");
	cr_assert_eq(log_report(c, 0x100000, 0, 4096, &bits), -EINVAL);
	cr_assert_eq(log_report(c, 0x100000, 0x1000, 100, &bits), -EINVAL);
	cr_assert_eq(log_report(c, UINT64_MAX - 4095, 0x2000, 4096, &bits), -EINVAL);
	cr_assert_eq(log_report(c, 0, 1ull << 45, 4096, &bits), -E2BIG);
	cr_assert_eq(sclient_feature(c,
	                             VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP | VFIO_DEVICE_FEATURE_SET,
	                             NULL, 0, NULL, 0),
	             0);
	cr_assert_eq(log_report(c, 0x100000, 0x40000, 4096, &bits), -EINVAL);
	close(fd);
	sclient_free(c);
}

Test(server_memory, logging_that_makes_no_sense_is_refused)
{
	struct sclient *c = ballast();

	cr_assert_eq(log_start(c, 0, 1, 0, MIB), -EINVAL);
	cr_assert_eq(log_start(c, 5000, 1, 0, MIB), -EINVAL);
	cr_assert_eq(log_start(c, 4096, 1, 5, MIB), -EINVAL);
	cr_assert_eq(log_start(c, 4096, 1, 0, 0), -EINVAL);
	cr_assert_eq(log_start(c, 4096, 2, 0, MIB), -EINVAL, "one range came");
	cr_assert_eq(log_start(c, 4096, UINT32_MAX, 0, MIB), -E2BIG);
	cr_assert_geq(log_start(c, 4096, 0, 0, 0), 0, "none means all");
	sclient_free(c);
}

/* ---- the program ---- */

/* `godwit device-server` beside this program, on c->path; its process. */
static pid_t run_program(struct sclient *c)
{
	char self[200] = "", *slash;
	pid_t pid;

	cr_assert_gt(readlink("/proc/self/exe", self, sizeof(self) - 20), 0);
	slash = strrchr(self, '/');
	strcpy(slash, "/../godwit");
	if (access(self, X_OK) < 0)
		cr_skip_test("no godwit beside the tests: make all");
	snprintf(c->path, sizeof(c->path), "/tmp/gw-program-%d", (int)getpid());
	pid = fork();
	if (!pid) {
		execl(self, "godwit", "device-server", "ballast", "--socket", c->path, "--size",
		      "64K", "-q", NULL);
		_exit(127);
	}
	wait_until(access(c->path, F_OK) == 0);
	return pid;
}

Test(server_memory, the_program_survives_memory_that_is_cut_short)
{
	struct sclient *c = calloc(1, sizeof(*c));
	int fd = memory(MIB), status = -1;
	pid_t pid;

	c->twin = -1;
	c->reply.payload = malloc(WIRE_MESSAGE_MAX);
	pid = run_program(c);
	sclient_connect(c);
	sclient_version(c, false);
	cr_assert_eq(sclient_map(c, 0, MIB, 0, RW, fd), 0);
	cr_assert_eq(ftruncate(fd, 0), 0);
	sclient_set(c, 0, 0x1000, 8, UINT64_MAX);
	cr_assert_eq(dma(c, 0x2ff8, 16, 1), 0);
	cr_assert_eq(sclient_get(c, 0, 0x1000, 8), 0, "what is gone reads as zeros");
	cr_assert_eq(dma(c, 0x80000, 12288, 2), 0);
	cr_assert_eq(sclient_unmap(c, 0, MIB), 0);
	/* And ends when it is told to, and leaves no socket. */
	kill(pid, SIGTERM);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_lt(access(c->path, F_OK), 0);
	close(fd);
	sclient_free(c);
}
