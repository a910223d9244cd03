/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk behind the vfio-user server: rings in the client's memory, interrupts by its
 * eventfds, kicks by message and by doorbell, memory that goes and comes back, its state moved. */
#include "server_client.h"

#include "base/bytes.h"
#include "vfio/mig_v2.h"

#include <sys/eventfd.h>

#define RAM_AT 0x40000000ull
#define RAM_SIZE (2 * MIB)
#define RW (WIRE_DMA_FLAG_READ | WIRE_DMA_FLAG_WRITE)
#define SIZE 16 /* of the ring */

/* Places in RAM, and in the BAR (as its capabilities say). */
enum {
	DESC = 0x1000,
	AVAIL = 0x2000,
	USED = 0x3000,
	HEAD = 0x4000,
	DATA = 0x5000,
	STATUS = 0x7000
};
enum { COMMON = 0, NOTIFY = 0x3000 };

struct disk {
	struct sclient *c;
	char file[64];
	int fd, irq;
	uint8_t *ram;
	uint16_t avail, used;
};

static void open_disk(struct disk *d)
{
	char device[128];

	snprintf(device, sizeof(device), "\"type\":\"virtio-blk\",\"file\":\"%s\"", d->file);
	d->c = sclient_new(device, GW_SERVER_V2, GW_SERVER_TRAPPED);
	sclient_version(d->c, true);
	cr_assert_eq(sclient_map(d->c, RAM_AT, RAM_SIZE, 0, RW, d->fd), 0);
	cr_assert_eq(sclient_irqs(d->c, VFIO_PCI_MSIX_IRQ_INDEX,
	                          VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
	                          &d->irq, 1),
	             0);
}

static void new_disk(struct disk *d)
{
	*d = (struct disk){ .fd = memfd_create("guest", MFD_CLOEXEC) };
	snprintf(d->file, sizeof(d->file), "/tmp/gw-server-disk-%d", (int)getpid());
	d->irq = eventfd(0, EFD_NONBLOCK);
	cr_assert_eq(ftruncate(d->fd, RAM_SIZE), 0);
	d->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	close(open(d->file, O_CREAT | O_TRUNC | O_RDWR, 0600));
	cr_assert_eq(truncate(d->file, MIB), 0);
	open_disk(d);
}

static void free_disk(struct disk *d)
{
	sclient_free(d->c);
	munmap(d->ram, RAM_SIZE);
	close(d->fd);
	close(d->irq);
	unlink(d->file);
}

static void set_command(struct disk *d, uint64_t value)
{
	sclient_set(d->c, VFIO_PCI_CONFIG_REGION_INDEX, 4, 2, value);
}

/* VIRTIO 1.2, 3.1.1, with one queue on vector 0. */
static void start_driver(struct disk *d)
{
	struct sclient *c = d->c;

	set_command(d, 6); /* memory, bus master */
	sclient_set(c, 0, COMMON + 0x14, 1, 0);
	sclient_set(c, 0, COMMON + 0x14, 1, 3);
	sclient_set(c, 0, COMMON + 0x08, 4, 1);
	sclient_set(c, 0, COMMON + 0x0c, 4, 1); /* VERSION_1 */
	sclient_set(c, 0, COMMON + 0x14, 1, 11);
	cr_assert_eq(sclient_get(c, 0, COMMON + 0x14, 1), 11);
	sclient_set(c, 0, COMMON + 0x16, 2, 0);
	sclient_set(c, 0, COMMON + 0x18, 2, SIZE);
	sclient_set(c, 0, COMMON + 0x1a, 2, 0);
	sclient_set(c, 0, COMMON + 0x20, 8, RAM_AT + DESC);
	sclient_set(c, 0, COMMON + 0x28, 8, RAM_AT + AVAIL);
	sclient_set(c, 0, COMMON + 0x30, 8, RAM_AT + USED);
	sclient_set(c, 0, COMMON + 0x1c, 2, 1);
	sclient_set(c, 0, COMMON + 0x14, 1, 15);
	d->avail = d->used = 0;
}

/* A request of one sector in the ring; type 0 reads it into DATA, 1 writes it. */
static void add_request(struct disk *d, uint32_t type, uint64_t sector)
{
	struct {
		uint64_t address;
		uint32_t len;
		uint16_t flags, next;
	} desc[3] = {
		{ RAM_AT + HEAD, 16, 1, 1 },
		{ RAM_AT + DATA, 512, type ? 1 : 3, 2 },
		{ RAM_AT + STATUS, 1, 2, 0 },
	};
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head = { type, 0, sector };
	uint16_t *avail = (uint16_t *)(void *)(d->ram + AVAIL);

	memcpy(d->ram + DESC, desc, sizeof(desc));
	memcpy(d->ram + HEAD, &head, sizeof(head));
	d->ram[STATUS] = 0xff;
	avail[2 + d->avail++ % SIZE] = 0;
	__atomic_store_n(&avail[1], d->avail, __ATOMIC_RELEASE);
}

static void expect_done(struct disk *d)
{
	const uint16_t *used = (uint16_t *)(void *)(d->ram + USED);

	cr_assert(sclient_signalled(d->irq, patience_ms()), "no interrupt");
	d->used++;
	cr_assert_eq(__atomic_load_n(&used[1], __ATOMIC_ACQUIRE), d->used);
	cr_assert_eq(d->ram[STATUS], 0);
}

static void kick(struct disk *d)
{
	sclient_set(d->c, 0, NOTIFY, 2, 0);
}

static void do_request(struct disk *d, uint32_t type, uint64_t sector, char fill)
{
	memset(d->ram + DATA, fill, 512);
	add_request(d, type, sector);
	kick(d);
	expect_done(d);
}

Test(server_virtio, a_disk_reads_and_writes)
{
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	do_request(&d, 1, 3, 'w');
	do_request(&d, 0, 3, 0);
	cr_assert_eq(d.ram[DATA], 'w');
	cr_assert_eq(d.ram[DATA + 511], 'w');
	free_disk(&d);
}

Test(server_virtio, doorbells_are_eventfds)
{
	struct wire_io_fds ask = { .argsz = 1000 }, got;
	struct wire_io_fd bell;
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	cr_assert_eq(sclient_call(d.c, WIRE_DEVICE_GET_REGION_IO_FDS, &ask, sizeof(ask), NULL, 0),
	             0);
	memcpy(&got, d.c->reply.payload, sizeof(got));
	memcpy(&bell, d.c->reply.payload + sizeof(got), sizeof(bell));
	cr_assert_eq(got.count, 1);
	cr_assert_eq(got.argsz, sizeof(got) + sizeof(bell));
	cr_assert_eq(bell.offset, NOTIFY);
	cr_assert_eq(bell.type, WIRE_IO_FD_EVENTFD);
	cr_assert_eq(d.c->reply.fd_count, 1);
	memset(d.ram + DATA, 'k', 512);
	add_request(&d, 1, 0);
	io_eventfd_signal(d.c->reply.fds[bell.fd_index]);
	expect_done(&d);
	/* Too little room: how much it takes. */
	ask.argsz = sizeof(ask);
	cr_assert_eq(sclient_call(d.c, WIRE_DEVICE_GET_REGION_IO_FDS, &ask, sizeof(ask), NULL, 0),
	             0);
	cr_assert_eq(d.c->reply.len, sizeof(ask));
	cr_assert_eq(d.c->reply.fd_count, 0);
	free_disk(&d);
}

/* Its rings go, and come back elsewhere in the server: it stands still meanwhile. */
Test(server_virtio, memory_goes_and_comes_back)
{
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	do_request(&d, 1, 0, 'a');
	cr_assert_eq(sclient_unmap(d.c, RAM_AT, RAM_SIZE), 0);
	add_request(&d, 0, 0);
	kick(&d);
	cr_assert_not(sclient_signalled(d.irq, 50));
	cr_assert_eq(sclient_get(d.c, 0, COMMON + 0x14, 1), 15, "it is not broken by that");
	cr_assert_eq(sclient_map(d.c, 0x1000, MIB, 0, RW, d.fd), 0);
	cr_assert_eq(sclient_map(d.c, RAM_AT, RAM_SIZE, 0, RW, d.fd), 0);
	expect_done(&d);
	cr_assert_eq(d.ram[DATA], 'a');
	free_disk(&d);
}

/* A buffer that is nowhere: the device needs a reset, and works after it. */
Test(server_virtio, a_buffer_that_is_not_mapped_breaks_the_device)
{
	const uint64_t nowhere = 0x123000;
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	add_request(&d, 0, 0);
	memcpy(d.ram + DESC + 16, &nowhere, sizeof(nowhere));
	kick(&d);
	wait_until(sclient_get(d.c, 0, COMMON + 0x14, 1) & 64);
	memset(d.ram + DESC, 0, HEAD - DESC);
	start_driver(&d);
	do_request(&d, 1, 1, 'r');
	free_disk(&d);
}

Test(server_virtio, what_it_writes_is_logged)
{
	const struct {
		uint64_t page_size;
		uint32_t count, reserved;
	} start = { 4096, 0, 0 };
	const struct wire_logging_report ask = { RAM_AT, 64 * 4096, 4096 };
	uint8_t reply[32];
	uint64_t bits;
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	cr_assert_geq(sclient_feature(
	                      d.c, VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET,
	                      &start, sizeof(start), NULL, 0),
	              0);
	do_request(&d, 0, 0, 'x');
	cr_assert_eq(sclient_feature(
	                     d.c, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET,
	                     &ask, sizeof(ask), reply, sizeof(reply)),
	             32);
	memcpy(&bits, reply + 24, 8);
	cr_assert_eq(bits, 1ull << (USED / 4096) | 1ull << (DATA / 4096) | 1ull << (STATUS / 4096),
	             "0x%llx", (unsigned long long)bits);
	free_disk(&d);
}

/* Requests wait in the ring when it is stopped; where it arrives they are done. */
Test(server_virtio, its_state_is_moved)
{
	struct bytes state = { 0 };
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	do_request(&d, 1, 7, 'm');
	cr_assert_eq(sclient_state(d.c, MIG_RUNNING_P2P), 0);
	add_request(&d, 0, 7);
	kick(&d);
	cr_assert_eq(sclient_state(d.c, MIG_STOP_COPY), 0);
	cr_assert_eq(sclient_pull(d.c, &state, 1000), 0);
	cr_assert_not(sclient_signalled(d.irq, 50), "it stands");
	sclient_free(d.c);
	memset(d.ram + DATA, 0, 512);

	open_disk(&d);
	cr_assert_eq(sclient_state(d.c, MIG_RESUMING), 0);
	cr_assert_eq(sclient_push(d.c, state.data, state.len, 333), 0);
	cr_assert_eq(sclient_state(d.c, MIG_STOP), 0);
	cr_assert_eq(sclient_get(d.c, 0, COMMON + 0x14, 1), 15);
	cr_assert_not(sclient_signalled(d.irq, 50), "not before it runs");
	cr_assert_eq(sclient_state(d.c, MIG_RUNNING), 0);
	expect_done(&d);
	cr_assert_eq(d.ram[DATA], 'm');
	do_request(&d, 1, 8, 'n');
	bytes_free(&state);
	free_disk(&d);
}

/* The client goes and comes back: what the guest's driver has set up is still there. */
Test(server_virtio, a_client_that_comes_back_finds_its_device)
{
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	do_request(&d, 1, 0, 'c');
	sclient_disconnect(d.c);
	sclient_connect(d.c);
	sclient_version(d.c, false);
	cr_assert_eq(sclient_get(d.c, 0, COMMON + 0x14, 1), 15);
	cr_assert_eq(sclient_irqs(d.c, VFIO_PCI_MSIX_IRQ_INDEX,
	                          VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
	                          &d.irq, 1),
	             0);
	add_request(&d, 0, 0);
	memset(d.ram + DATA, 0, 512);
	cr_assert_eq(sclient_map(d.c, RAM_AT, RAM_SIZE, 0, RW, d.fd), 0);
	expect_done(&d);
	cr_assert_eq(d.ram[DATA], 'c');
	free_disk(&d);
}

Test(server_virtio, without_the_bus_master_bit_it_is_quiet)
{
	struct disk d;

	new_disk(&d);
	start_driver(&d);
	set_command(&d, 2);
	add_request(&d, 1, 0);
	kick(&d);
	/* The second command is answered behind the kick; the disk's own thread has been told. */
	cr_assert_eq(sclient_get(d.c, 0, COMMON + 0x14, 1), 15);
	cr_assert_not(sclient_signalled(d.irq, 50));
	cr_assert_eq(d.ram[STATUS], 0xff);
	set_command(&d, 6);
	expect_done(&d);
	free_disk(&d);
}
