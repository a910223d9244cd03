/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disktest: a file that is written again and again, and of which every block is known. A write
 * that was lost, came twice or too late, or went elsewhere shows as a block of a wrong generation.
 *
 *   disktest start FILE [MIB [KIB_PER_S]]   makes the file, goes on in the background
 *   disktest status | finish                its line; ends it after reading all of the file
 *   disktest digest FILE                    a number that stands for all of the file; "finish"
 *                                           says it too
 *
 * Two threads, each with a half of the file: one writes and reads with O_DIRECT, the other through
 * the page cache, which it empties (fsync, POSIX_FADV_DONTNEED) before it reads.
 */
#include "report.h"

#define NAME "disktest"
#define BLOCK 4096
#define WORDS (BLOCK / 8)
#define RUN 16 /* blocks written or read at once, at most */

struct block {
	uint64_t index, generation;
	uint64_t data[WORDS - 2];
};

struct half {
	int fd, direct;
	uint64_t first, count; /* blocks */
	uint64_t writes, reads, bad, syncs;
	uint64_t random;
	struct block *buf;
	char fault[160];
};

static struct half halves[2];
static uint64_t *gens, rate;

static void block_make(struct block *b, uint64_t index, uint64_t generation)
{
	uint64_t x = index * 0x9e3779b97f4a7c15ull ^ generation * 0xd1b54a32d192ed03ull;

	b->index = index;
	b->generation = generation;
	for (int i = 0; i < WORDS - 2; i++)
		b->data[i] = x + i * 0xbf58476d1ce4e5b9ull;
}

static uint64_t some(struct half *h, uint64_t below)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random % below;
}

static int fault(struct half *h, const char *what, uint64_t index)
{
	if (!h->fault[0])
		snprintf(h->fault, sizeof(h->fault), "%s at block %llu: %s", what,
		         (unsigned long long)index, strerror(errno));
	return -1;
}

static int write_run(struct half *h, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		block_make(&h->buf[i], at + i, ++gens[at + i]);
	if (pwrite(h->fd, h->buf, n * BLOCK, at * BLOCK) != (ssize_t)(n * BLOCK))
		return fault(h, "write", at);
	h->writes += n;
	return 0;
}

static int read_run(struct half *h, uint64_t at, uint64_t n)
{
	static __thread struct block want;

	memset(h->buf, 0xa5, n * BLOCK);
	if (pread(h->fd, h->buf, n * BLOCK, at * BLOCK) != (ssize_t)(n * BLOCK))
		return fault(h, "read", at);
	for (uint64_t i = 0; i < n; i++) {
		struct block *b = &h->buf[i];

		h->reads++;
		block_make(&want, at + i, gens[at + i]);
		if (!memcmp(b, &want, sizeof(want)))
			continue;
		h->bad++;
		if (!h->fault[0])
			snprintf(h->fault, sizeof(h->fault),
			         "block %llu, generation %llu: found block %llu, generation %llu",
			         (unsigned long long)(at + i), (unsigned long long)want.generation,
			         (unsigned long long)b->index, (unsigned long long)b->generation);
	}
	return 0;
}

static int settle(struct half *h)
{
	if (fsync(h->fd))
		return fault(h, "fsync", h->first);
	h->syncs++;
	if (!h->direct && posix_fadvise(h->fd, 0, 0, POSIX_FADV_DONTNEED))
		return fault(h, "fadvise", h->first);
	return 0;
}

static int step(struct half *h, unsigned turn)
{
	uint64_t n = 1 + some(h, RUN), at = h->first + some(h, h->count - n + 1);

	if (write_run(h, at, n))
		return -1;
	if (turn % 8 == 7 && settle(h))
		return -1;
	/* Now and then what was just written, mostly something older. */
	if (turn % 4)
		at = h->first + some(h, h->count - n + 1);
	return read_run(h, at, n);
}

static void *work(void *arg)
{
	struct half *h = arg;
	uint64_t due = report_now(), before;

	for (unsigned turn = 0; !report_ending; turn++) {
		before = h->writes + h->reads;
		if (step(h, turn))
			return NULL;
		report_pace(&due, (h->writes + h->reads - before) * BLOCK, rate / 2);
	}
	if (settle(h))
		return NULL;
	for (uint64_t at = h->first; at < h->first + h->count; at += RUN)
		if (read_run(h, at, RUN))
			return NULL;
	return NULL;
}

static int digest(const char *path, uint64_t *sum)
{
	int fd = open(path, O_RDONLY);
	static uint64_t words[65536];
	ssize_t n;

	*sum = 0;
	while (fd >= 0 && (n = read(fd, words, sizeof(words))) > 0)
		for (ssize_t i = 0; i < n / 8; i++)
			*sum = (*sum ^ words[i]) * 0x9e3779b97f4a7c15ull + i;
	if (fd < 0 || n < 0) {
		fprintf(stderr, "disktest: %s: %s\n", path, strerror(errno));
		return -1;
	}
	close(fd);
	return 0;
}

static void tell(const char *last)
{
	struct half *a = &halves[0], *b = &halves[1];
	const char *why = a->fault[0] ? a->fault : b->fault;

	if (why[0])
		last = "result=bad";
	report_line(NAME, "writes=%llu reads=%llu syncs=%llu bad=%llu %s%s%s",
	            (unsigned long long)(a->writes + b->writes),
	            (unsigned long long)(a->reads + b->reads),
	            (unsigned long long)(a->syncs + b->syncs),
	            (unsigned long long)(a->bad + b->bad), why, why[0] ? " " : "", last);
}

static int prepare(const char *path, uint64_t mib)
{
	gens = calloc(mib << 8, sizeof(*gens));
	for (int i = 0; i < 2; i++) {
		struct half *h = &halves[i];

		h->direct = !i;
		h->fd = open(path, O_RDWR | O_CREAT | (h->direct ? O_DIRECT : 0), 0600);
		h->count = mib << 7;
		h->first = i * h->count;
		h->random = 88172645463325252ull + i;
		h->buf = aligned_alloc(BLOCK, RUN * BLOCK);
		if (h->fd < 0 || !h->buf || !gens) {
			fprintf(stderr, "disktest: %s: %s\n", path, strerror(errno));
			return -1;
		}
		for (uint64_t at = h->first; at < h->first + h->count; at += RUN)
			if (write_run(h, at, RUN)) {
				fprintf(stderr, "disktest: %s: %s\n", path, h->fault);
				return -1;
			}
	}
	return 0;
}

static int start(const char *path, uint64_t mib)
{
	pthread_t t[2];
	uint64_t sum;
	char last[64] = "result=bad";

	if (prepare(path, mib))
		return 1;
	tell("");
	report_daemon(NAME);
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, work, &halves[i]))
			return 1;
	while (!report_ending) {
		tell("");
		report_nap(200);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	if (!digest(path, &sum))
		snprintf(last, sizeof(last), "digest=%016llx result=ok", (unsigned long long)sum);
	tell(last);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t sum;

	if (argc == 2 && (!strcmp(argv[1], "status") || !strcmp(argv[1], "finish")))
		return report_ask(NAME, argv[1]);
	if (argc == 3 && !strcmp(argv[1], "digest")) {
		if (digest(argv[2], &sum))
			return 1;
		printf("digest=%016llx\n", (unsigned long long)sum);
		return 0;
	}
	if (argc < 3 || argc > 5 || strcmp(argv[1], "start") ||
	    (argc > 3 && strtoull(argv[3], NULL, 0) < 1)) {
		fprintf(stderr, "usage: disktest start FILE [MIB [KIB_PER_S]] | status | finish | "
		                "digest FILE\n");
		return 2;
	}
	rate = argc > 4 ? strtoull(argv[4], NULL, 0) : 2048;
	return start(argv[2], argc > 3 ? strtoull(argv[3], NULL, 0) : 32);
}
