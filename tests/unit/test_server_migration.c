/* SPDX-License-Identifier: Apache-2.0 */
/* A served device's state: by protocol v2 and v1, whole, cut short, changed, failing on purpose. */
#include "server_client.h"

#include "base/bytes.h"
#include "vfio/mig_v2.h"

#define BALLAST "\"type\":\"ballast\",\"size\":\"1M\""
#define DIGEST 0x18

static uint64_t digest(struct sclient *c)
{
	return sclient_get(c, 0, DIGEST, 8);
}

static struct sclient *ballast(const char *more)
{
	char device[256];
	struct sclient *c;

	snprintf(device, sizeof(device), BALLAST "%s", more);
	c = sclient_new(device, GW_SERVER_V2, GW_SERVER_TRAPPED);
	sclient_version(c, true);
	return c;
}

/* A client frees its path's server first: the next takes the same path. */
static void save(const char *more, bool live, struct bytes *out, uint64_t *was)
{
	struct sclient *c = ballast(more);

	sclient_set(c, 0, 0x3c, 4, 5); /* some blocks change */
	sclient_set(c, 0, 0x1010, 8, 0x1122334455667788);
	if (live) {
		cr_assert_eq(sclient_state(c, MIG_PRE_COPY), 0);
		cr_assert_eq(sclient_pull(c, out, 100000), 0);
		cr_assert_gt(out->len, MIB, "the bulk comes while it runs");
		sclient_set(c, 0, 0x3c, 4, 3);
	}
	cr_assert_eq(sclient_state(c, MIG_STOP_COPY), 0);
	*was = digest(c);
	if (live) {
		const size_t before = out->len;

		cr_assert_eq(sclient_pull(c, out, 1 << 20), 0);
		cr_assert_lt(out->len - before, 4 * 66000u, "only what has changed comes again");
	} else {
		cr_assert_eq(sclient_pull(c, out, 100000), 0);
	}
	cr_assert_eq(sclient_state(c, MIG_STOP), 0);
	sclient_free(c);
}

static void round_trip(const char *more, bool live)
{
	struct bytes state = { 0 };
	struct sclient *c;
	uint64_t was;

	save(more, live, &state, &was);
	c = ballast(more);
	cr_assert_neq(digest(c), was);
	cr_assert_eq(sclient_state(c, MIG_RESUMING), 0);
	cr_assert_eq(sclient_push(c, state.data, state.len, 77777), 0);
	cr_assert_eq(sclient_state(c, MIG_RUNNING), 0);
	cr_assert_eq(digest(c), was);
	cr_assert_eq(sclient_get(c, 0, 0x1010, 8), 0x1122334455667788);
	cr_assert_eq(sclient_get(c, 0, 0x40, 8), 1);
	bytes_free(&state);
	sclient_free(c);
}

Test(server_migration, stopped_first)
{
	round_trip("", false);
}

Test(server_migration, while_it_runs)
{
	round_trip(",\"pre-copy\":true", true);
}

Test(server_migration, with_dirty_rate_and_rate)
{
	round_trip(",\"pre-copy\":true,\"rate\":\"100M\",\"dirty-rate\":0", true);
}

Test(server_migration, flags_follow_the_options)
{
	struct sclient *c = ballast("");
	uint64_t flags = 0;
	const uint32_t get = VFIO_DEVICE_FEATURE_MIGRATION | VFIO_DEVICE_FEATURE_GET;

	cr_assert_eq(sclient_feature(c, get, NULL, 0, &flags, 8), 8);
	cr_assert_eq(flags, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P);
	cr_assert_eq(sclient_state(c, MIG_PRE_COPY), -EINVAL);
	cr_assert_eq(sclient_get_state(c), MIG_RUNNING);
	sclient_free(c);
	c = ballast(",\"pre-copy\":true");
	cr_assert_eq(sclient_feature(c, get, NULL, 0, &flags, 8), 8);
	cr_assert_eq(flags,
	             VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY);
	sclient_free(c);
	c = sclient_new(BALLAST, GW_SERVER_NO_MIGRATION, GW_SERVER_TRAPPED);
	sclient_version(c, false);
	cr_assert_eq(sclient_feature(c, get, NULL, 0, &flags, 8), -ENOTTY);
	sclient_free(c);
}

/* Cut short, changed in one bit anywhere, with a piece doubled: refused, and a reset leads out. */
static void refused(const uint8_t *data, size_t len, bool at_once)
{
	struct sclient *c = ballast("");
	const uint64_t before = digest(c);
	int r;

	cr_assert_eq(sclient_state(c, MIG_RESUMING), 0);
	r = sclient_push(c, data, len, 1 << 20);
	if (at_once)
		cr_assert_lt(r, 0);
	cr_assert_lt(sclient_state(c, MIG_STOP), 0);
	cr_assert_eq(sclient_get_state(c), MIG_ERROR);
	cr_assert_eq(sclient_state(c, MIG_RUNNING), -EINVAL);
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	cr_assert_eq(sclient_get_state(c), MIG_RUNNING);
	cr_assert_eq(digest(c), before);
	sclient_free(c);
}

Test(server_migration, what_is_not_whole_is_refused)
{
	struct bytes state = { 0 };
	uint64_t was;

	save("", false, &state, &was);
	refused(state.data, state.len - 1, false);
	refused(state.data, state.len - 32, false);
	refused(state.data, 0, false);
	for (size_t at = 0; at < state.len; at += state.len / 7) {
		state.data[at] ^= 4;
		refused(state.data, state.len, false);
		state.data[at] ^= 4;
	}
	/* Something behind the end. */
	bytes_put8(&state, 0);
	refused(state.data, state.len, true);
	bytes_free(&state);
}

Test(server_migration, another_size_is_refused)
{
	struct bytes state = { 0 };
	struct sclient *c;
	uint64_t was;

	save("", false, &state, &was);
	c = sclient_new("\"type\":\"ballast\",\"size\":\"2M\"", GW_SERVER_V2, GW_SERVER_TRAPPED);
	sclient_version(c, false);
	cr_assert_eq(sclient_state(c, MIG_RESUMING), 0);
	cr_assert_eq(sclient_push(c, state.data, state.len, 1 << 20), -EINVAL);
	sclient_free(c);
	c = sclient_new("\"type\":\"virtio-rng\"", GW_SERVER_V2, GW_SERVER_TRAPPED);
	sclient_version(c, false);
	cr_assert_eq(sclient_state(c, MIG_RESUMING), 0);
	cr_assert_eq(sclient_push(c, state.data, state.len, 1 << 20), -EINVAL);
	sclient_free(c);
	bytes_free(&state);
}

/* What <linux/vfio.h> says of the way from each state to each other, in short: 1 where it goes. */
static const struct {
	uint32_t from;
	const char
	        *to; /* ERROR STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P */
} ways[] = {
	{ MIG_STOP, "01111111" },      { MIG_RUNNING, "01111111" },
	{ MIG_STOP_COPY, "01111100" }, { MIG_RUNNING_P2P, "01111111" },
	{ MIG_PRE_COPY, "01111111" },  { MIG_PRE_COPY_P2P, "01111111" },
};

Test(server_migration, each_state_from_each)
{
	struct sclient *c = ballast(",\"pre-copy\":true");

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		for (uint32_t to = 0; to < MIG_STATES; to++) {
			int r;

			cr_assert_eq(sclient_call(c, WIRE_DEVICE_RESET, NULL, 0, NULL, 0), 0);
			cr_assert_eq(sclient_get_state(c), MIG_RUNNING);
			cr_assert_eq(sclient_state(c, ways[i].from), 0);
			r = sclient_state(c, to);
			cr_assert_eq(r, ways[i].to[to] == '1' ? 0 : -EINVAL, "%u to %u: %d",
			             ways[i].from, to, r);
			cr_assert_eq(sclient_get_state(c), r ? ways[i].from : to);
		}
	}
	sclient_free(c);
}

/* Its state changes by the clock while it runs, and only then. */
static void await_running(struct sclient *c)
{
	const uint64_t was = digest(c);

	wait_until(digest(c) != was);
}

static bool stands(struct sclient *c)
{
	const uint64_t was = digest(c);

	usleep(20000);
	return digest(c) == was;
}

/* From any state, a half loaded one and the error state too, a reset leads to RUNNING and ends the
 * session; the next one is whole. */
static void reset_in(uint32_t state, bool by_function)
{
	struct sclient *c = ballast(",\"pre-copy\":true,\"dirty-rate\":\"64M\""), *to;
	const struct wire_mig_data ask = { 108, 100 };
	const uint32_t write[3] = { 12, 4, 0 };
	struct bytes data = { 0 };
	uint64_t was;

	sclient_set(c, 0, 0x1010, 8, 0x1122334455667788);
	if (state == MIG_ERROR) {
		cr_assert_eq(sclient_state(c, MIG_RESUMING), 0);
		cr_assert_lt(sclient_state(c, MIG_STOP), 0);
	} else {
		cr_assert_eq(sclient_state(c, state), 0);
		sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0);
		sclient_call(c, WIRE_MIG_DATA_WRITE, write, sizeof(write), NULL, 0);
	}
	sclient_reset(c, by_function);
	cr_assert_eq(sclient_get_state(c), MIG_RUNNING);
	cr_assert_eq(sclient_get(c, 0, 0x1010, 8), 0);
	await_running(c);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), -EINVAL);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_WRITE, write, sizeof(write), NULL, 0), -EINVAL);
	cr_assert_eq(sclient_state(c, MIG_PRE_COPY), 0);
	cr_assert_eq(sclient_pull_past(c, &data, 100000, MIB), 0);
	cr_assert_gt(data.len, MIB, "from the beginning");
	cr_assert_eq(sclient_state(c, MIG_STOP_COPY), 0);
	cr_assert(stands(c));
	was = digest(c);
	cr_assert_eq(sclient_pull(c, &data, 100000), 0);
	sclient_free(c);
	to = ballast("");
	cr_assert_eq(sclient_state(to, MIG_RESUMING), 0);
	cr_assert_eq(sclient_push(to, data.data, data.len, 77777), 0);
	cr_assert_eq(sclient_state(to, MIG_RUNNING), 0);
	cr_assert_eq(digest(to), was);
	bytes_free(&data);
	sclient_free(to);
}

Test(server_migration, a_reset_in_any_state_leads_to_running)
{
	for (uint32_t state = 0; state < MIG_STATES; state++) {
		reset_in(state, false);
		reset_in(state, true);
	}
}

Test(server_migration, a_session_ends_with_its_state)
{
	struct sclient *c = ballast(",\"pre-copy\":true");
	const struct wire_mig_data ask = { 108, 100 };
	const uint32_t write[3] = { 12, 4, 0 };

	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), -EINVAL);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_WRITE, write, sizeof(write), NULL, 0), -EINVAL);
	cr_assert_eq(sclient_state(c, MIG_PRE_COPY), 0);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), 0);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_WRITE, write, sizeof(write), NULL, 0), -EINVAL);
	cr_assert_eq(sclient_state(c, MIG_RUNNING), 0);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), -EINVAL);
	/* And a client that goes in the middle leaves a device that runs for the next one. */
	cr_assert_eq(sclient_state(c, MIG_STOP_COPY), 0);
	sclient_disconnect(c);
	sclient_connect(c);
	sclient_version(c, false);
	cr_assert_eq(sclient_get_state(c), MIG_RUNNING);
	sclient_free(c);
}

Test(server_migration, fails_on_purpose)
{
	struct sclient *c = ballast(
	        ",\"fail\":\"RUNNING_P2P-STOP:EIO,STOP-RESUMING:EBUSY:error\",\"pre-copy\":true");

	cr_assert_eq(sclient_state(c, MIG_STOP), -EIO);
	cr_assert_eq(sclient_get_state(c), MIG_RUNNING_P2P);
	cr_assert_eq(sclient_state(c, MIG_RUNNING), 0);
	cr_assert_eq(sclient_state(c, MIG_PRE_COPY), 0);
	cr_assert_eq(sclient_state(c, MIG_STOP_COPY), 0);
	cr_assert_eq(sclient_state(c, MIG_RESUMING), -EBUSY);
	cr_assert_eq(sclient_get_state(c), MIG_ERROR);
	sclient_free(c);
}

Test(server_migration, dies_on_purpose)
{
	struct sclient *c = ballast(",\"die-at\":\"MIG_DATA_READ:2\"");
	const struct wire_mig_data ask = { 108, 100 };
	struct gw_error err;

	cr_assert_eq(gw_device_server_wait(c->server, 0, &err), -ETIMEDOUT);
	cr_assert_eq(sclient_state(c, MIG_STOP_COPY), 0);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), 0);
	cr_assert_eq(sclient_call(c, WIRE_MIG_DATA_READ, &ask, sizeof(ask), NULL, 0), -EPIPE);
	cr_assert_eq(gw_device_server_wait(c->server, patience_ms(), &err), -ESHUTDOWN);
	sclient_free(c);
}

/* ---- v1 ---------------------------------------------------------------------------------- */

#define V1 9 /* region */
enum { STATE = 0, PENDING = 8, OFFSET = 16, SIZE = 24 };

static uint32_t v1_state(struct sclient *c)
{
	return (uint32_t)sclient_get(c, V1, STATE, 4);
}

static int v1_set(struct sclient *c, uint32_t bits)
{
	uint32_t value = (v1_state(c) & ~7u) | bits;

	return sclient_write(c, V1, STATE, &value, 4);
}

static struct sclient *v1_ballast(enum gw_server_v1_data data, uint8_t **mapped, uint64_t *from)
{
	struct sclient *c = sclient_new(BALLAST ",\"pre-copy\":true", GW_SERVER_V1, data);
	struct vfio_region_info *info, ask = { .argsz = 200, .index = V1 };
	const struct vfio_region_info_cap_sparse_mmap *sparse;
	const struct vfio_info_cap_header *cap;

	sclient_version(c, false);
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_GET_REGION_INFO, &ask, sizeof(ask), NULL, 0), 0);
	info = (void *)c->reply.payload;
	cap = (void *)(c->reply.payload + info->cap_offset);
	*mapped = NULL;
	*from = UINT64_MAX;
	if (data != GW_SERVER_TRAPPED) {
		cr_assert_eq(cap->id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
		sparse = (const void *)cap;
		cr_assert_eq(sparse->nr_areas, 1);
		*from = sparse->areas[0].offset;
		cr_assert_eq(c->reply.fd_count, 1);
		*mapped = mmap(NULL, sparse->areas[0].size, PROT_READ | PROT_WRITE, MAP_SHARED,
		               c->reply.fds[0], (off_t)(info->offset + *from));
		cr_assert_neq(*mapped, MAP_FAILED);
		cr_assert_lt(ftruncate(c->reply.fds[0], 0), 0, "it must not be cut short");
		cap = (void *)(c->reply.payload + cap->next);
	}
	cr_assert_eq(cap->id, VFIO_REGION_INFO_CAP_TYPE);
	cr_assert_eq(((const struct vfio_region_info_cap_type *)cap)->type, 3);
	cr_assert_eq(((const struct vfio_region_info_cap_type *)cap)->subtype, 1);
	return c;
}

/* A stretch of the data section, by whichever way leads to each byte. */
static void v1_copy(struct sclient *c, uint64_t at, uint8_t *buf, uint64_t len, uint8_t *mapped,
                    uint64_t from, bool write)
{
	for (uint64_t n; len; at += n, buf += n, len -= n) {
		n = at < from ? MIN(MIN(len, from - at), (uint64_t)65536) : len;
		if (at >= from)
			memcpy(write ? mapped + (at - from) : buf,
			       write ? buf : mapped + (at - from), n);
		else if (write)
			cr_assert_eq(sclient_write(c, V1, at, buf, (uint32_t)n), 0);
		else
			cr_assert_eq(sclient_read(c, V1, at, buf, (uint32_t)n), 0);
	}
}

struct chunks {
	struct bytes data;
	uint64_t sizes[16];
	unsigned count;
};

static void v1_pull(struct sclient *c, struct chunks *to, uint8_t *mapped, uint64_t from)
{
	while (sclient_get(c, V1, PENDING, 8)) {
		const uint64_t offset = sclient_get(c, V1, OFFSET, 8);
		const uint64_t size = sclient_get(c, V1, SIZE, 8);
		uint8_t *buf = malloc(size);

		v1_copy(c, offset, buf, size, mapped, from, false);
		bytes_put(&to->data, buf, size);
		to->sizes[to->count++] = size;
		free(buf);
	}
}

static void v1_round_trip(enum gw_server_v1_data data)
{
	struct chunks chunks = { 0 };
	uint8_t *mapped, *at;
	uint64_t from, was;
	struct sclient *c = v1_ballast(data, &mapped, &from);

	cr_assert_eq(v1_state(c) & 7, 1);
	cr_assert_eq(v1_set(c, 3), 0);
	v1_pull(c, &chunks, mapped, from);
	cr_assert_gt(chunks.data.len, MIB);
	sclient_set(c, 0, 0x3c, 4, 2);
	cr_assert_eq(v1_set(c, 2), 0);
	was = digest(c);
	v1_pull(c, &chunks, mapped, from);
	cr_assert_eq(v1_set(c, 0), 0);
	sclient_free(c);

	c = v1_ballast(data, &mapped, &from);
	at = chunks.data.data;
	cr_assert_eq(v1_set(c, 4), 0);
	for (unsigned i = 0; i < chunks.count; at += chunks.sizes[i++]) {
		v1_copy(c, sclient_get(c, V1, OFFSET, 8), at, chunks.sizes[i], mapped, from, true);
		sclient_set(c, V1, SIZE, 8, chunks.sizes[i]);
	}
	cr_assert_eq(v1_set(c, 1), 0);
	cr_assert_eq(digest(c), was);
	bytes_free(&chunks.data);
	sclient_free(c);
}

Test(server_migration, v1_trapped)
{
	v1_round_trip(GW_SERVER_TRAPPED);
}

Test(server_migration, v1_mapped)
{
	v1_round_trip(GW_SERVER_MAPPED);
}

Test(server_migration, v1_mixed)
{
	v1_round_trip(GW_SERVER_MIXED);
}

Test(server_migration, v1_states)
{
	uint8_t *mapped;
	uint64_t from, value = 1;
	struct sclient *c = v1_ballast(GW_SERVER_TRAPPED, &mapped, &from);

	/* Reserved bits have to be kept as they were read. */
	cr_assert_eq(sclient_write(c, V1, STATE, &value, 4), -EINVAL);
	for (uint32_t bits = 5; bits < 8; bits++)
		cr_assert_eq(v1_set(c, bits), -EINVAL);
	/* Other widths, read-only registers, what is behind them. */
	cr_assert_eq(sclient_read(c, V1, STATE, &value, 8), -EINVAL);
	cr_assert_eq(sclient_write(c, V1, PENDING, &value, 8), -EINVAL);
	cr_assert_eq(sclient_read(c, V1, 32, &value, 8), -EINVAL);
	cr_assert_eq(v1_set(c, 2), 0);
	cr_assert_eq(v1_set(c, 3), -EINVAL, "not back from stop-and-copy into pre-copy");
	cr_assert_eq(v1_state(c) & 7, 2);
	cr_assert_eq(v1_set(c, 1), 0);
	/* Resuming with nothing: the error state, which only a reset leaves. */
	cr_assert_eq(v1_set(c, 4), 0);
	cr_assert_lt(v1_set(c, 1), 0);
	cr_assert_eq(v1_state(c) & 7, 6);
	cr_assert_eq(v1_set(c, 1), -EIO);
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	cr_assert_eq(v1_state(c) & 7, 1);
	/* No v2 beside it. */
	cr_assert_eq(sclient_state(c, MIG_STOP), -ENOTTY);
	sclient_free(c);
}
