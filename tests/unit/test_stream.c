/* SPDX-License-Identifier: Apache-2.0 */
/* What the writer writes the reader reads; and nothing that is not whole. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "fake_vm.h"
#include "migration/lanes.h"
#include "migration/reader.h"
#include "migration/writer.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

struct tape {
	struct output output;
	struct input input;
	uint8_t *buf;
	size_t len, at;
};

static int tape_write(struct output *out, struct iovec *iov, int count, struct gw_error *err)
{
	struct tape *t = container_of(out, struct tape, output);

	(void)err;
	for (int i = 0; i < count; i++) {
		t->buf = realloc(t->buf, t->len + iov[i].iov_len + 1);
		if (iov[i].iov_len)
			memcpy(t->buf + t->len, iov[i].iov_base, iov[i].iov_len);
		t->len += iov[i].iov_len;
	}
	return 0;
}

static int tape_read(struct input *in, void *buf, size_t len, struct gw_error *err)
{
	struct tape *t = container_of(in, struct tape, input);

	if (len > t->len - t->at)
		return error_set(err, -EPIPE, "the end");
	memcpy(buf, t->buf + t->at, len);
	t->at += len;
	return 0;
}

static struct tally tally;
#define CONFIG "{\"name\":\"fake\"}"

struct setting {
	struct tape tape;
	struct fake_vm *src, *dst;
	struct writer w;
	struct reader r;
};

static void begin(struct setting *x)
{
	memset(x, 0, sizeof(*x));
	x->tape.output.write = tape_write;
	x->tape.input.read = tape_read;
	x->src = fake_vm_new(&tally, false, false);
	x->dst = fake_vm_new(&tally, false, false);
	memset(x->dst->mem, 0x77, FAKE_PAGES * PAGE_SIZE);
	for (size_t i = 0; i < FAKE_PARTS; i++)
		x->dst->parts[i].state = LOADING;
	cr_assert_eq(writer_init(&x->w, &x->tape.output, &x->src->list, NULL, NULL), 0);
	cr_assert_eq(reader_init(&x->r, &x->tape.input, NULL), 0);
}

static void end(struct setting *x)
{
	writer_fini(&x->w);
	reader_fini(&x->r);
	fake_vm_free(x->src);
	fake_vm_free(x->dst);
	free(x->tape.buf);
}

/* Reads and delivers all up to END. */
static int read_all(struct setting *x, bool *run, struct gw_error *err)
{
	struct lanes *lanes = NULL;
	const char *config;
	int r = reader_begin(&x->r, &config, err);

	if (!r && strcmp(config, CONFIG))
		r = error_set(err, -EINVAL, "config");
	if (!r)
		r = reader_table(&x->r, err);
	if (!r)
		r = reader_match(&x->r, &x->dst->list, err);
	if (!r)
		r = lanes_create(&x->r, NULL, &lanes, err);
	while (!r) {
		r = reader_next(&x->r, err);
		if (r || x->r.h.type == FRAME_END)
			break;
		r = lanes_deliver(lanes, err);
	}
	if (!r)
		r = lanes_drain(lanes, err);
	lanes_destroy(lanes);
	return r ? r : reader_end(&x->r, run, err);
}

static void rewind_tape(struct setting *x, size_t len)
{
	x->tape.at = 0;
	x->tape.len = len;
	reader_fini(&x->r);
	cr_assert_eq(reader_init(&x->r, &x->tape.input, NULL), 0);
}

Test(stream, pages_and_zeros_arrive)
{
	struct setting x;
	struct participant *ram;
	struct gw_error err;
	bool run = false;

	begin(&x);
	ram = &fake_part(x.src, "ram")->p;
	cr_assert_eq(writer_begin(&x.w, CONFIG, NULL), 0);
	x.w.sink.ops->pages(&x.w.sink, ram, FAKE_BASE, x.src->mem, FAKE_SPLIT, NULL);
	x.w.sink.ops->pages(&x.w.sink, ram, FAKE_HIGH, x.src->mem + FAKE_SPLIT * PAGE_SIZE,
	                    FAKE_PAGES - FAKE_SPLIT, NULL);
	cr_assert_eq(writer_end(&x.w, true, NULL), 0);
	cr_assert_eq(x.w.bytes, x.tape.len);
	cr_assert_eq(read_all(&x, &run, &err), 0, "%s", err.text);
	cr_assert(run);
	cr_assert_arr_eq(x.src->mem, x.dst->mem, FAKE_PAGES * PAGE_SIZE);
	end(&x);
}

/* Runs of every length around what a frame holds, with and without zeros between. */
Test(stream, runs_of_any_length_arrive)
{
	for (unsigned run = 1; run <= 130; run++) {
		struct setting x;
		struct participant *ram;
		struct gw_error err;
		bool ran;

		begin(&x);
		ram = &fake_part(x.src, "ram")->p;
		memset(x.src->mem, 0, FAKE_PAGES * PAGE_SIZE);
		for (unsigned i = 0; i < FAKE_PAGES - FAKE_SPLIT; i++)
			if (i / run % 2 == 0)
				x.src->mem[(FAKE_SPLIT + i) * PAGE_SIZE + i] = 1;
		cr_assert_eq(writer_begin(&x.w, CONFIG, NULL), 0);
		x.w.sink.ops->pages(&x.w.sink, ram, FAKE_HIGH, x.src->mem + FAKE_SPLIT * PAGE_SIZE,
		                    FAKE_PAGES - FAKE_SPLIT, NULL);
		writer_end(&x.w, false, NULL);
		cr_assert_eq(read_all(&x, &ran, &err), 0, "%s", err.text);
		cr_assert_not(ran);
		cr_assert_arr_eq(x.src->mem + FAKE_SPLIT * PAGE_SIZE,
		                 x.dst->mem + FAKE_SPLIT * PAGE_SIZE,
		                 (FAKE_PAGES - FAKE_SPLIT) * PAGE_SIZE);
		end(&x);
	}
}

Test(stream, end_anywhere_is_noticed)
{
	struct setting x;
	struct gw_error err;
	uint64_t value = 42;
	size_t whole;
	bool run;

	begin(&x);
	cr_assert_eq(writer_begin(&x.w, CONFIG, NULL), 0);
	for (size_t i = 0; i < FAKE_PARTS; i++)
		if (x.dst->parts[i].ops.load)
			sink_record(&x.w.sink, &x.src->parts[i].p,
			            strcmp(x.src->parts[i].p.name, "tty") ? 1 : 3, &value, 8, NULL);
	writer_end(&x.w, true, NULL);
	whole = x.tape.len;
	for (size_t len = 0; len < whole; len++) {
		rewind_tape(&x, len);
		cr_assert_eq(read_all(&x, &run, &err), -EPIPE, "%zu of %zu bytes", len, whole);
		cr_assert(strstr(err.text, "frame "), "%s", err.text);
	}
	rewind_tape(&x, whole);
	cr_assert_eq(read_all(&x, &run, &err), 0, "%s", err.text);
	cr_assert_eq(fake_part(x.dst, "cpu1")->value, 42);
	end(&x);
}

struct gate {
	unsigned asked;
	bool closed;
};

static int pass_gate(void *opaque, struct gw_error *err)
{
	struct gate *gate = opaque;

	gate->asked++;
	return gate->closed ? error_set(err, -ECANCELED, "closed") : 0;
}

/* A device's data wait for max-bandwidth as pages do, before they go out. */
Test(stream, records_and_pages_wait_for_the_limit)
{
	struct participant *tty, *ram;
	struct gate gate = { 0 };
	struct setting x;
	struct gw_error err;
	uint64_t sent;

	begin(&x);
	tty = &fake_part(x.src, "tty")->p;
	ram = &fake_part(x.src, "ram")->p;
	x.w.watch.opaque = &gate;
	x.w.watch.throttle = pass_gate;
	cr_assert_eq(sink_record(&x.w.sink, tty, 1, &gate, 8, &err), 0);
	cr_assert_eq(gate.asked, 1);
	memset(x.src->mem, 1, PAGE_SIZE);
	cr_assert_eq(x.w.sink.ops->pages(&x.w.sink, ram, FAKE_BASE, x.src->mem, 1, &err), 0);
	cr_assert_eq(gate.asked, 2);
	sent = x.w.bytes;
	gate.closed = true;
	cr_assert_eq(sink_record(&x.w.sink, tty, 1, &gate, 8, &err), -ECANCELED);
	cr_assert_eq(x.w.sink.ops->pages(&x.w.sink, ram, FAKE_BASE, x.src->mem, 1, &err),
	             -ECANCELED);
	cr_assert_eq(x.w.bytes, sent);
	end(&x);
}

Test(stream, too_long_a_record_is_not_sent)
{
	static uint8_t buf[RECORD_MAX + 1];
	struct participant *p;
	struct gw_error err;
	struct setting x;

	begin(&x);
	p = &fake_part(x.src, "chip")->p;
	cr_assert_eq(sink_record(&x.w.sink, p, 1, buf, RECORD_MAX, &err), 0);
	cr_assert_eq(sink_record(&x.w.sink, p, 1, buf, RECORD_MAX + 1, &err), -EMSGSIZE);
	cr_assert_eq(x.w.sink.ops->record(&x.w.sink, p, 1, buf, 2, buf, RECORD_MAX - 1, &err),
	             -EMSGSIZE);
	end(&x);
}

/* A whole stream whose TABLE is this text. */
static int read_table(const char *table, size_t len, struct gw_error *err)
{
	struct frame_hello hello = { .version = htole32(STREAM_VERSION),
		                     .machine = htole32(frame_machine()) };
	struct setting x;
	bool run;
	int r;

	begin(&x);
	memcpy(hello.magic, STREAM_MAGIC, 8);
	writer_frame(&x.w, FRAME_HELLO, 0, NULL, &hello, sizeof(hello), NULL, 0, NULL);
	writer_frame(&x.w, FRAME_CONFIG, 0, NULL, CONFIG, strlen(CONFIG), NULL, 0, NULL);
	writer_frame(&x.w, FRAME_TABLE, 0, NULL, table, len, NULL, 0, NULL);
	writer_end(&x.w, true, NULL);
	r = read_all(&x, &run, err);
	end(&x);
	return r;
}

Test(stream, hostile_tables_are_refused)
{
	static const struct {
		const char *table;
		int code;
	} rows[] = {
		{ "", -EPROTO },
		{ "{}", -EPROTO },
		{ "null", -EPROTO },
		{ "[1]", -EPROTO },
		{ "[{}]", -EPROTO },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\"}]", -EPROTO },
		{ "[{\"name\":\"ram\",\"kind\":1,\"version\":1}]", -EPROTO },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\",\"version\":-1}]", -EPROTO },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\",\"version\":1e300}]", -EPROTO },
		{ "[{\"name\":\"0123456789012345678901234567890123456789\",\"kind\":\"k\","
		  "\"version\":1}]",
		  -EPROTO },
		{ "[{\"name\":\"ram\",\"kind\":\"0123456789012345678901234\",\"version\":1}]",
		  -EPROTO },
		{ "[]", -ENOENT },
		{ "[{\"name\":\"fan\",\"kind\":\"fan\",\"version\":1}]", -ENOENT },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\",\"version\":1}]", -ENOENT },
		{ "[{\"name\":\"ram\",\"kind\":\"fan\",\"version\":1}]", -EINVAL },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\",\"version\":2}]", -EPROTONOSUPPORT },
		{ "[{\"name\":\"ram\",\"kind\":\"ram\",\"version\":1},"
		  "{\"name\":\"ram\",\"kind\":\"ram\",\"version\":1}]",
		  -EPROTO },
	};
	char many[READER_PARTICIPANTS_MAX * 2 + 8] = "[";
	struct gw_error err;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = read_table(rows[i].table, strlen(rows[i].table), &err);

		cr_assert_eq(r, rows[i].code, "%s: %d, %s", rows[i].table, r, err.text);
	}
	cr_assert_eq(read_table("[]\0[]", 5, &err), -EPROTO);
	cr_assert(strstr(err.text, "NUL"), "%s", err.text);
	for (int i = 0; i <= READER_PARTICIPANTS_MAX; i++)
		strcat(many, i ? ",1" : "1");
	strcat(many, "]");
	cr_assert_eq(read_table(many, strlen(many), &err), -EPROTO);
}

Test(stream, frames_out_of_order_are_refused)
{
	static const enum frame_type first[] = { FRAME_CONFIG, FRAME_TABLE, FRAME_RECORD, FRAME_END,
		                                 FRAME_GO };

	for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
		struct gw_error err;
		struct setting x;
		bool run;

		begin(&x);
		writer_frame(&x.w, first[i], 0, NULL, "x", 1, NULL, 0, NULL);
		writer_flush(&x.w, NULL);
		cr_assert_eq(read_all(&x, &run, &err), -EPROTO, "%s", err.text);
		cr_assert(strstr(err.text, "not hello"), "%s", err.text);
		end(&x);
	}
}
