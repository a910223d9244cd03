/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sends to the vfio-user server: after the versions, messages whose payload and kind
 * the fuzzer chooses, with a descriptor here and there; to a device that speaks v2, or v1. */
#include "vfio/user/ballast.h"
#include "vfio/user/server.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct loop *loop;
	struct server *server;
	int listen_fd, client;
	uint8_t *room;
};

static int listen_somewhere(struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*sun);

	/* An abstract name that the kernel picks (unix(7), autobind). */
	sun->sun_family = AF_UNIX;
	if (bind(fd, (struct sockaddr *)sun, sizeof(sa_family_t)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)sun, &len) < 0)
		abort();
	return fd;
}

static void make(struct world *w, enum server_migration migration)
{
	static struct config_device config = { .id = "dev", .type = "ballast" };
	struct ballast_options *o = (void *)config.options;
	struct sockaddr_un sun = { 0 };
	struct server_options options = { .pre_copy = true, .migration = migration };
	struct device *device;
	struct gw_error err;

	o->size = 2 * BALLAST_BLOCK;
	w->room = malloc(WIRE_MESSAGE_MAX);
	w->listen_fd = listen_somewhere(&sun);
	if (loop_create(&w->loop, &err) < 0)
		abort();
	options.loop = w->loop;
	options.listen_fd = w->listen_fd;
	if (server_create(&options, &w->server, &err) < 0 ||
	    ballast_driver.create(server_machine(w->server), &config, false, &device, &err) < 0)
		abort();
	server_machine(w->server)->devices = device;
	if (server_open(w->server, device, &err) < 0)
		abort();
	w->client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(w->client, (struct sockaddr *)&sun,
	            (socklen_t)(sizeof(sa_family_t) + 1 + strlen(sun.sun_path + 1))) < 0)
		abort();
	loop_once(w->loop, 0);
}

static void say(struct world *w, unsigned command, const void *payload, size_t len, int fd)
{
	const struct wire_header header = { .command = (uint16_t)command };
	const struct iovec part = { (void *)(uintptr_t)payload, len };
	struct wire_message reply = { .payload = w->room };

	if (wire_send(w->client, &header, &part, 1, &fd, fd >= 0, 0) < 0)
		return;
	loop_once(w->loop, 0);
	if (recv(w->client, w->room, 1, MSG_PEEK | MSG_DONTWAIT) == 1 &&
	    wire_receive(w->client, &reply, 0) == 0)
		wire_close_fds(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct wire_version version = { WIRE_MAJOR, WIRE_MINOR };
	int memory = memfd_create("fuzz", MFD_CLOEXEC), event = eventfd(0, EFD_NONBLOCK);
	struct world w = { 0 };

	if (ftruncate(memory, 1 << 20) < 0)
		abort();
	/* By its last bit: which protocol of state. */
	make(&w, size && data[size - 1] & 1 ? SERVER_MIGRATION_V1 : SERVER_MIGRATION_V2);
	say(&w, WIRE_VERSION, &version, sizeof(version), -1);
	/* Two bytes of kind and length, then the payload. DMA without a descriptor would make the
	 * server wait for answers. */
	while (size >= 2) {
		const unsigned command = data[0] % (WIRE_COMMANDS + 1);
		const size_t len = MIN((size_t)data[1], size - 2);
		int fd = data[0] & 0x80 ? event : -1;

		if (command == WIRE_DMA_MAP)
			fd = memory;
		say(&w, command, data + 2, len, fd);
		data += 2 + len;
		size -= 2 + len;
	}
	close(w.client);
	loop_once(w.loop, 0);
	server_destroy(w.server);
	loop_destroy(w.loop);
	close(w.listen_fd);
	close(memory);
	close(event);
	free(w.room);
	return 0;
}
