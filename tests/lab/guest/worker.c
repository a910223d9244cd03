/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: a program whose memory is to survive. It fills memory with known patterns, keeps
 * rewriting pages, counts, and watches its own clock for gaps.
 *
 *   worker start [MIB [MIB_PER_S]]   128 MiB, 20 MiB/s; returns when the memory is filled
 *   worker status                    one line (below)
 *   worker verify                    reads every page first; exit status 1 when one is wrong
 *   worker rate MIB_PER_S            0: writes no more
 *   worker gaps                      gaps over 30 ms: when (ms since start) and how long, newest
 * last worker reset                     forgets the gaps worker stop
 *
 * status: counter= (ticks of 10 ms) writes= (pages) pages_ok= pages_bad= (of the last verify; wrong
 * pages met while rewriting are counted in pages_bad too) gens= (the lowest and highest generation)
 * max_gap_ms= backward= (times the clock ran backward) uptime_ms=
 *
 * The gaps are those that CLOCK_MONOTONIC shows: time that the VMM hides from the guest is not
 * seen. Its threads wake up seldom: in a guest of an emulated host that is what costs most.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCK "/run/worker"
#define PAGE 4096
#define WORDS (PAGE / 8)
#define TICK_NS (10 * MS)
#define GAP_NS (30 * MS)
#define WRITE_NS (20 * MS)
#define GAPS 64
#define MS 1000000ull

struct page {
	uint64_t index, generation, sum;
	uint64_t data[WORDS - 3];
};

static struct page *pages;
static uint64_t npages, *gens;
static uint64_t verified_ok, verified_bad, bad_met, writes, cursor;
static volatile uint64_t rate = 20; /* MiB/s */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The ticker's alone, but for resets. */
static volatile uint64_t counter, max_gap, backward, started, ngaps;
static struct {
	uint64_t at, length;
} gaps[GAPS];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void nap(uint64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	nanosleep(&t, NULL);
}

static uint64_t seed(uint64_t index, uint64_t generation)
{
	uint64_t x = index * 0x9e3779b97f4a7c15ull ^ generation * 0xd1b54a32d192ed03ull;

	return x ^ x >> 31;
}

static void page_write(uint64_t index, uint64_t generation)
{
	struct page *p = &pages[index];
	uint64_t x = seed(index, generation), sum = 0;

	p->index = index;
	p->generation = generation;
	for (int i = 0; i < WORDS - 3; i++) {
		p->data[i] = x + i * 0xbf58476d1ce4e5b9ull;
		sum += p->data[i] ^ i;
	}
	p->sum = sum;
	gens[index] = generation;
}

static int page_ok(uint64_t index)
{
	const struct page *p = &pages[index];
	uint64_t x = seed(index, gens[index]), sum = 0, wrong = 0;

	for (int i = 0; i < WORDS - 3; i++) {
		wrong |= p->data[i] ^ (x + i * 0xbf58476d1ce4e5b9ull);
		sum += p->data[i] ^ i;
	}
	return p->index == index && p->generation == gens[index] && !wrong && p->sum == sum;
}

static void *ticker(void *unused)
{
	uint64_t last = now(), t;

	for (;; last = t) {
		nap(TICK_NS);
		t = now();
		counter++;
		if (t < last) {
			backward++;
			continue;
		}
		if (t - last > max_gap)
			max_gap = t - last;
		if (t - last > GAP_NS) {
			gaps[ngaps % GAPS].at = last - started;
			gaps[ngaps % GAPS].length = t - last;
			ngaps++;
		}
	}
	return unused;
}

/* Walks the pages by a stride that spreads the writes, so that dirty pages do not lie together. */
static void *writer(void *unused)
{
	uint64_t stride = npages / 2 + 1, last = now(), owed = 0;

	while (stride > 1) { /* coprime to npages, so that every page has its turn */
		uint64_t a = stride, b = npages;

		while (b) {
			uint64_t r = a % b;

			a = b;
			b = r;
		}
		if (a == 1)
			break;
		stride++;
	}
	for (;;) {
		uint64_t t, n;

		nap(WRITE_NS);
		t = now();
		/* After a stop we do not catch up on more than 100 ms. */
		owed += rate * (1 << 20) * (t > last && t - last < 100 * MS ? t - last : 100 * MS) /
		        1000000000;
		last = t;
		n = owed / PAGE;
		owed %= PAGE;
		while (n--) {
			pthread_mutex_lock(&lock);
			bad_met += !page_ok(cursor);
			page_write(cursor, gens[cursor] + 1);
			writes++;
			cursor = (cursor + stride) % npages;
			pthread_mutex_unlock(&lock);
		}
	}
	return unused;
}

static void verify(void)
{
	uint64_t ok = 0, wrong = 0;

	for (uint64_t i = 0; i < npages; i++) {
		pthread_mutex_lock(&lock);
		if (page_ok(i))
			ok++;
		else
			wrong++;
		pthread_mutex_unlock(&lock);
	}
	verified_ok = ok;
	verified_bad = wrong;
}

static void status(FILE *f)
{
	uint64_t low = gens[0], high = gens[0];

	for (uint64_t i = 0; i < npages; i++) {
		low = gens[i] < low ? gens[i] : low;
		high = gens[i] > high ? gens[i] : high;
	}
	fprintf(f,
	        "counter=%llu writes=%llu pages_ok=%llu pages_bad=%llu gens=%llu-%llu "
	        "max_gap_ms=%llu "
	        "backward=%llu uptime_ms=%llu\n",
	        (unsigned long long)counter, (unsigned long long)writes,
	        (unsigned long long)verified_ok, (unsigned long long)(verified_bad + bad_met),
	        (unsigned long long)low, (unsigned long long)high,
	        (unsigned long long)(max_gap / MS), (unsigned long long)backward,
	        (unsigned long long)((now() - started) / MS));
}

static void answer(FILE *f, char *line)
{
	char *arg = strchr(line, ' ');

	if (!strncmp(line, "verify", 6))
		verify();
	if (!strncmp(line, "rate", 4) && arg)
		rate = strtoull(arg, NULL, 0);
	if (!strncmp(line, "reset", 5)) {
		max_gap = 0;
		ngaps = 0;
	}
	if (!strncmp(line, "gaps", 4)) {
		uint64_t n = ngaps;

		for (uint64_t i = n > GAPS ? n - GAPS : 0; i < n; i++)
			fprintf(f, "at=%llu ms=%llu\n",
			        (unsigned long long)(gaps[i % GAPS].at / MS),
			        (unsigned long long)(gaps[i % GAPS].length / MS));
		return;
	}
	status(f);
	if (!strncmp(line, "stop", 4)) {
		fclose(f);
		unlink(SOCK);
		exit(0);
	}
}

static struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = SOCK };

static int start(uint64_t mib)
{
	pthread_t t;
	int l, ready[2];
	char c = 0;

	npages = mib << 8;
	if (pipe(ready))
		return 1;
	if (fork()) {
		close(ready[1]);
		if (read(ready[0], &c, 1) == 1 && c == 'y')
			return 0;
		fprintf(stderr, "worker: did not start\n");
		return 1;
	}
	setsid();
	pages = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	gens = calloc(npages, sizeof(*gens));
	l = socket(AF_UNIX, SOCK_STREAM, 0);
	if (pages == MAP_FAILED || !gens || l < 0 ||
	    bind(l, (struct sockaddr *)&name, sizeof(name)) || listen(l, 4)) {
		perror("worker");
		return 1;
	}
	for (uint64_t i = 0; i < npages; i++)
		page_write(i, 1);
	verified_ok = npages;
	started = now();
	if (pthread_create(&t, NULL, ticker, NULL) || pthread_create(&t, NULL, writer, NULL))
		return 1;
	if (write(ready[1], "y", 1) != 1)
		return 1;
	close(ready[0]);
	close(ready[1]);
	for (int fd = 0; fd < 3; fd++) {
		close(fd);
		open("/dev/null", O_RDWR);
	}
	for (;;) {
		int fd = accept(l, NULL, NULL);
		char line[128];
		ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
		FILE *f = n > 0 ? fdopen(fd, "w") : NULL;

		if (!f) {
			if (fd >= 0)
				close(fd);
			continue;
		}
		line[n] = 0;
		answer(f, line);
		fclose(f);
	}
}

static int ask(int argc, char **argv)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), wrong = 0;
	char line[512];
	FILE *f;

	if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof(name)) ||
	    !(f = fdopen(fd, "r"))) {
		fprintf(stderr, "worker: not running: %s\n", strerror(errno));
		return 2;
	}
	dprintf(fd, "%s%s%s\n", argv[1], argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
	while (fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "pages_bad=");

		fputs(line, stdout);
		wrong |= p && atol(p + 10);
	}
	return wrong;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: worker start [MIB [MIB_PER_S]] | status | verify | rate "
		                "MIB_PER_S | gaps | "
		                "reset | stop\n");
		return 2;
	}
	if (strcmp(argv[1], "start"))
		return ask(argc, argv);
	if (argc > 3)
		rate = strtoull(argv[3], NULL, 0);
	return start(argc > 2 ? strtoull(argv[2], NULL, 0) : 128);
}
