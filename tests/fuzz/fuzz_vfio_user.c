/* SPDX-License-Identifier: Apache-2.0 */
/* What a vfio-user server answers. The input is a list of replies, one for each request that comes:
 * how the header is to be wrong, a length, and the payload. When it ends, so does the connection.
 */
#include "vfio/user/client_device.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define TIMEOUT_MS 50
#define RAM (1u << 20)

struct server {
	const uint8_t *data;
	size_t size;
	int socket, client;
};

struct world {
	struct machine machine;
	struct memory memory;
	struct vfio_pci pci;
	struct vfu_device device;
	struct server server;
};

/* Bits of a reply's first byte. */
enum { OTHER_ID = 1, OTHER_COMMAND = 2, FAILS = 4, COMMAND = 8, TWICE = 16, WITH_FDS = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool reply(struct server *s, const struct wire_header *to)
{
	struct wire_header h = { to->id, to->command, 0, WIRE_TYPE_REPLY, 0 };
	const int fds[] = { s->socket, s->socket };
	struct iovec part;
	uint8_t how;
	size_t len;

	if (s->size < 3)
		return false;
	how = s->data[0];
	len = MIN(s->data[1] | (size_t)s->data[2] << 8, s->size - 3);
	part = (struct iovec){ (void *)(uintptr_t)(s->data + 3), len };
	s->data += 3 + len;
	s->size -= 3 + len;
	if (how & OTHER_ID)
		h.id++;
	if (how & OTHER_COMMAND)
		h.command = how >> 4;
	if (how & FAILS) {
		h.flags |= WIRE_ERROR;
		h.error = how;
	}
	if (how & COMMAND)
		h.flags &= ~WIRE_TYPE_MASK;
	wire_send(s->socket, &h, &part, 1, fds, how & WITH_FDS ? 2 : 0, TIMEOUT_MS);
	if (how & TWICE)
		wire_send(s->socket, &h, &part, 1, NULL, 0, TIMEOUT_MS);
	return true;
}

static void *server_main(void *opaque)
{
	static const char caps[] = "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":4}}";
	struct server *s = opaque;
	struct wire_message m = { .payload = malloc(WIRE_MESSAGE_MAX) };
	bool more = true;

	while (more && wire_receive(s->socket, &m, TIMEOUT_MS) == 0) {
		const struct wire_header h = { m.header.id, WIRE_VERSION, 0, WIRE_TYPE_REPLY, 0 };
		const struct iovec part = { (void *)(uintptr_t)caps, sizeof(caps) };

		wire_close_fds(&m);
		/* Most inputs get past the first message. */
		if (m.header.command == WIRE_VERSION && s->size && s->data[0] < 200)
			wire_send(s->socket, &h, &part, 1, NULL, 0, TIMEOUT_MS);
		else if (!(m.header.flags & WIRE_NO_REPLY))
			more = reply(s, &m.header);
	}
	shutdown(s->socket, SHUT_RDWR);
	free(m.payload);
	return NULL;
}

static int on_connect(void *opaque, struct gw_error *err)
{
	struct world *w = opaque;

	return w->server.client < 0 ? error_set(err, -ECONNREFUSED, "gone")
	                            : take_fd(&w->server.client);
}

static int on_dma(void *opaque, bool write, uint64_t address, void *buf, size_t len)
{
	struct world *w = opaque;

	return vfu_space_access(w->device.space, write, address, buf, len);
}

static void on_lost(void *opaque, const char *why)
{
	(void)opaque;
	(void)why;
}

static void on_ready(void *opaque)
{
	(void)opaque;
}

/* All that a device asks of its server. */
static void use(struct world *w, int ram_fd, void *ram)
{
	const struct vfio_mapping mapping = { .size = RAM, .hva = ram, .fd = ram_fd };
	struct vfio_space *space = vfu_space_base(w->device.space);
	struct vfio_dev *dev = &w->pci.dev;
	uint64_t bits[RAM / 4096 / 64];
	struct gw_error err;
	uint8_t buf[600];

	*dev = (struct vfio_dev){
		.ops = &vfu_host_ops, .fd = -1, .connection = &w->device, .name = "fuzz"
	};
	if (vfio_dev_read(dev, &err) < 0)
		return;
	vfu_identify(dev, &w->device.identity, &err);
	space->ops->map(space, &mapping, &err);
	vfu_ios_read(&w->device);
	for (unsigned region = 0; region < VFIO_REGIONS; region++) {
		for (unsigned i = 0; i < dev->regions[region].area_count; i++) {
			const struct vfio_area *area = &dev->regions[region].areas[i];
			void *at = vfio_area_map(dev, region, area);

			if (at != MAP_FAILED)
				munmap(at, area->size);
		}
		vfio_region_read(dev, region, 0, buf, MIN(dev->regions[region].size, sizeof(buf)));
	}
	vfio_irq_count(dev, VFIO_PCI_MSIX_IRQ_INDEX, NULL);
	vfu_session_read(dev, 0, buf, sizeof(buf));
	vfu_session_write(dev, 0, buf, sizeof(buf));
	vfu_space_report(w->device.space, 0, RAM, 4096, bits);
	vfio_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, buf, 64);
	space->ops->unmap(space, 0, RAM);
	vfio_dev_reset(dev, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct vfu_owner owner = {
		.opaque = w,
		.name = "fuzz",
		.timeout_ms = TIMEOUT_MS,
		.connect = on_connect,
		.dma = on_dma,
		.lost = on_lost,
		.ready = on_ready,
	};
	int fd = memfd_create("ram", MFD_CLOEXEC), pair[2];
	struct gw_error err;
	pthread_t thread;
	void *ram;

	if (!w || fd < 0 || ftruncate(fd, RAM) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		abort();
	ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	w->machine.memory = &w->memory;
	w->memory.machine = &w->machine;
	pthread_mutex_init(&w->memory.lock, NULL);
	w->pci.device.machine = &w->machine;
	w->device.pci = &w->pci;
	for (unsigned i = 0; i < VFIO_REGIONS; i++)
		w->device.region_fds[i] = -1;
	w->server = (struct server){ data, size, pair[0], pair[1] };
	pthread_create(&thread, NULL, server_main, &w->server);
	if (vfu_space_create(&w->machine, "fuzz", &w->device.space, &err) == 0 &&
	    vfu_create(&owner, &w->device.vfu, &err) == 0) {
		vfu_space_set(w->device.space, w->device.vfu);
		use(w, fd, ram);
		vfu_space_set(w->device.space, NULL);
		vfu_destroy(w->device.vfu);
	}
	shutdown(pair[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	vfio_space_put(vfu_space_base(w->device.space));
	vfu_ios_free(&w->device);
	for (unsigned i = 0; i < VFIO_REGIONS; i++)
		if (w->device.region_fds[i] >= 0)
			close(w->device.region_fds[i]);
	close(pair[0]);
	if (w->server.client >= 0)
		close(w->server.client);
	munmap(ram, RAM);
	close(fd);
	free(w);
	return 0;
}
