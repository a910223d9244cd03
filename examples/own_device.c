/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the program's own, in a VM that is saved and restored while its
 * guest uses it.
 *
 * The device counts. The guest rings its doorbell with an address in guest
 * memory; a thread of the device counts one up, writes the number there, and
 * raises an interrupt. Its state is the counter, and the ring that has not
 * been answered yet, if there is one.
 *
 *      BAR 0: 0x00 counter (read), 0x08 doorbell (write: an address), 0x10 limit (read)
 *
 * usage: own_device GUEST      (tests/guests/x86/doorbell.S, tests/guests/arm64/doorbell.S)
 */
#include <errno.h>
#include <godwit.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT 20000

struct counter {
	struct gw_device *handle;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	uint64_t count, limit;
	uint64_t address; /* of the ring that is to be answered; 0: none */
	bool may_run, busy, quit;
};

/* ---- the device ------------------------------------------------------------------------- */

/* One number for one ring. The lock is not held while the library is called. */
static void answer(struct counter *c)
{
	const uint64_t address = c->address, count = c->count + 1;

	c->busy = true;
	pthread_mutex_unlock(&c->lock);
	/* An address that is no RAM is the guest's mistake: nothing is written. */
	gw_device_write_memory(c->handle, address, &count, sizeof(count));
	pthread_mutex_lock(&c->lock);
	c->count = count;
	c->address = 0;
	/* Before `busy` ends: pause() must find it either done or not begun. */
	gw_device_raise(c->handle, 0);
	c->busy = false;
	pthread_cond_broadcast(&c->changed);
}

static void *work(void *opaque)
{
	struct counter *c = opaque;

	pthread_mutex_lock(&c->lock);
	while (!c->quit) {
		if (c->may_run && c->address)
			answer(c);
		else
			pthread_cond_wait(&c->changed, &c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static int counter_create(void *opaque, struct gw_device *handle, const char *options,
                          void **device, struct gw_error *err)
{
	struct counter *c = calloc(1, sizeof(*c));
	unsigned long long limit = LIMIT;

	(void)opaque;
	if (!c)
		return -ENOMEM;
	/* A program with more to configure would use a JSON library here. */
	if (strcmp(options, "{}") && sscanf(options, "{\"limit\":%llu}", &limit) != 1) {
		snprintf(err->text, sizeof(err->text), "options: only \"limit\" is known");
		free(c);
		return -EINVAL;
	}
	c->handle = handle;
	c->limit = limit;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	if (pthread_create(&c->thread, NULL, work, c)) {
		free(c);
		return -EAGAIN;
	}
	*device = c;
	return 0;
}

static void counter_destroy(void *device)
{
	struct counter *c = device;

	pthread_mutex_lock(&c->lock);
	c->quit = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void counter_reset(void *device)
{
	struct counter *c = device;

	pthread_mutex_lock(&c->lock);
	c->count = c->address = 0;
	pthread_mutex_unlock(&c->lock);
}

static uint64_t counter_read(void *device, unsigned bar, uint64_t offset, unsigned size)
{
	struct counter *c = device;
	uint64_t value = 0;

	(void)bar;
	(void)size;
	pthread_mutex_lock(&c->lock);
	if (offset == 0x00)
		value = c->count;
	else if (offset == 0x10)
		value = c->limit;
	pthread_mutex_unlock(&c->lock);
	return value;
}

static void counter_write(void *device, unsigned bar, uint64_t offset, unsigned size,
                          uint64_t value)
{
	struct counter *c = device;

	(void)bar;
	if (offset != 0x08 || size != 8)
		return;
	pthread_mutex_lock(&c->lock);
	c->address = value;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static void counter_run(void *device)
{
	struct counter *c = device;

	pthread_mutex_lock(&c->lock);
	c->may_run = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

/* Returns once the thread has nothing half done. */
static void counter_pause(void *device)
{
	struct counter *c = device;

	pthread_mutex_lock(&c->lock);
	c->may_run = false;
	while (c->busy)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* The saved state. x86 is little-endian: it is written as it lies in memory. */
struct counter_state {
	uint64_t count, limit, address;
};

static int counter_save(void *device, struct gw_state_out *out, struct gw_error *err)
{
	struct counter *c = device;
	struct counter_state state;

	(void)err;
	pthread_mutex_lock(&c->lock);
	state = (struct counter_state){ c->count, c->limit, c->address };
	pthread_mutex_unlock(&c->lock);
	return gw_state_write(out, &state, sizeof(state));
}

static int counter_load(void *device, uint32_t version, const void *data, size_t len,
                        struct gw_error *err)
{
	struct counter *c = device;
	struct counter_state state;

	(void)version; /* there has been but one */
	if (len != sizeof(state)) {
		snprintf(err->text, sizeof(err->text), "%zu bytes, %zu expected", len,
		         sizeof(state));
		return -EINVAL;
	}
	memcpy(&state, data, sizeof(state));
	pthread_mutex_lock(&c->lock);
	c->count = state.count;
	c->limit = state.limit;
	c->address = state.address;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static char *counter_describe(void *device)
{
	struct counter *c = device;
	char *text = malloc(64);

	pthread_mutex_lock(&c->lock);
	if (text)
		snprintf(text, 64, "{\"count\":%llu}", (unsigned long long)c->count);
	pthread_mutex_unlock(&c->lock);
	return text;
}

static const struct gw_device_type counter_type = {
	.size = sizeof(struct gw_device_type),
	.name = "counter",
	.state_version = 1,
	.vendor = 0x1234,
	.device = 0x6777,
	.class_code = 0xff0000, /* of no class that PCI defines */
	.bars = { { .size = 4096 } },
	.vectors = 1,
	.create = counter_create,
	.destroy = counter_destroy,
	.reset = counter_reset,
	.read = counter_read,
	.write = counter_write,
	.run = counter_run,
	.pause = counter_pause,
	.save = counter_save,
	.load = counter_load,
	.describe = counter_describe,
};

/* ---- the VMs ----------------------------------------------------------------------------------
 */

static struct gw_error error;

static void check(int r)
{
	if (r < 0) {
		fprintf(stderr, "own_device: %s\n", error.text);
		exit(1);
	}
}

/* An empty VM that may have counters. */
static struct gw_vm *new_vm(void)
{
	struct gw_vm *vm;

	check(gw_vm_new(NULL, &vm, &error));
	check(gw_vm_register_device_type(vm, &counter_type, NULL, &error));
	return vm;
}

static void print_devices(struct gw_vm *vm)
{
	char *json;

	check(gw_vm_query_devices(vm, &json, &error));
	printf("%s\n", json);
	gw_free(json);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/own-device-XXXXXX", snapshot[64], out[64], device[128], line[64],
	     command[64];
	const char *const devices[] = { device };
	struct gw_config config = {
		.size = sizeof(config),
		.memory = 64 << 20,
		.serial_log = out,
		.devices = devices,
		.device_count = 1,
	};
	const struct timespec moment = { .tv_nsec = 100000000 };
	unsigned lines = 0;
	struct gw_vm *vm;
	FILE *file;

	if (argc != 2 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: own_device GUEST\n");
		return 2;
	}
	snprintf(snapshot, sizeof(snapshot), "%s/snapshot", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	snprintf(device, sizeof(device),
	         "{\"type\":\"counter\",\"id\":\"c0\",\"slot\":3,\"options\":{\"limit\":%d}}",
	         LIMIT);
	config.kernel = argv[1];

	vm = new_vm();
	check(gw_vm_configure_with(vm, &config, &error));
	check(gw_vm_cont(vm, false, &error));
	nanosleep(&moment, NULL);
	check(gw_vm_stop(vm, &error));
	print_devices(vm);
	check(gw_vm_save(vm, snapshot, &error));
	gw_vm_free(vm);

	vm = new_vm();
	check(gw_vm_restore(vm, snapshot, NULL, 0, false, &error));
	print_devices(vm);
	check(gw_vm_cont(vm, false, &error));
	check(gw_vm_wait(vm, 120000, &error));
	print_devices(vm);
	gw_vm_free(vm);

	/* What the guest has printed: the last number that it found in its mailbox. */
	file = fopen(out, "r");
	line[0] = 0;
	while (file && fgets(line, sizeof(line), file)) {
		printf("guest: %s", line);
		lines++;
	}
	if (file)
		fclose(file);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	if (system(command))
		return 1;
	/* "S" once: it went on where it was. */
	return lines == 2 && strtoull(line, NULL, 16) == LIMIT ? 0 : 1;
}
