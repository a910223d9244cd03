/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nettest: moves data both ways over TCP and checks every byte of it.
 *
 *   nettest serve ADDRESS PORT [COUNT]   answers COUNT clients (no end: 0, the default)
 *   nettest ADDRESS PORT [MIB]           16 MiB each way
 *
 * One way is: magic, length, seed (64 bits each, little-endian), the data, its checksum. The data
 * follows from the seed, so the reader knows every word; the checksum is there so that it would
 * also be known which of the two generators is wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x3174736574746567ull
#define CHUNK 8192 /* words */
#define TIMEOUT_S 120

static uint64_t buf[CHUNK];

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static uint64_t sum(uint64_t s, uint64_t w)
{
	s = (s ^ w) * 0x9e3779b97f4a7c15ull;
	return s ^ s >> 29;
}

static int all(int fd, void *p, size_t n, int out)
{
	for (char *c = p; n;) {
		ssize_t r = out ? send(fd, c, n, MSG_NOSIGNAL) : recv(fd, c, n, 0);

		if (r <= 0) {
			fprintf(stderr, "nettest: %s: %s\n", out ? "send" : "recv",
			        r ? strerror(errno) : "closed by the other side");
			return -1;
		}
		c += r;
		n -= r;
	}
	return 0;
}

static int give(int fd, uint64_t words, uint64_t seed)
{
	uint64_t head[3] = { MAGIC, words * 8, seed }, x = seed, s = seed;

	if (all(fd, head, sizeof(head), 1))
		return -1;
	while (words) {
		uint64_t n = words < CHUNK ? words : CHUNK;

		for (uint64_t i = 0; i < n; i++)
			s = sum(s, buf[i] = next(&x));
		if (all(fd, buf, n * 8, 1))
			return -1;
		words -= n;
	}
	return all(fd, &s, 8, 1);
}

/* The number of bytes that came, or -1. */
static int64_t take(int fd, uint64_t *seed)
{
	uint64_t head[3], x, s, theirs, bad = 0, words, done = 0;

	if (all(fd, head, sizeof(head), 0))
		return -1;
	if (head[0] != MAGIC || head[1] % 8) {
		fprintf(stderr, "nettest: not a nettest header\n");
		return -1;
	}
	words = head[1] / 8;
	*seed = x = s = head[2];
	while (done < words) {
		uint64_t n = words - done < CHUNK ? words - done : CHUNK;

		if (all(fd, buf, n * 8, 0))
			return -1;
		for (uint64_t i = 0; i < n; i++) {
			bad += buf[i] != next(&x);
			s = sum(s, buf[i]);
		}
		done += n;
	}
	if (all(fd, &theirs, 8, 0))
		return -1;
	if (bad || s != theirs) {
		fprintf(stderr, "nettest: %llu words differ, checksum %016llx, expected %016llx\n",
		        (unsigned long long)bad, (unsigned long long)s, (unsigned long long)theirs);
		return -1;
	}
	return (int64_t)words * 8;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int tune(int fd)
{
	struct timeval tv = { .tv_sec = TIMEOUT_S };

	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static int serve(struct sockaddr_in *a, long count)
{
	int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), failed = 0;

	if (l < 0 || setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(l, (struct sockaddr *)a, sizeof(*a)) || listen(l, 4)) {
		perror("nettest: listen");
		return 1;
	}
	for (long i = 0; !count || i < count; i++) {
		int fd = accept(l, NULL, NULL);
		uint64_t seed;
		int64_t n;

		if (fd < 0)
			continue;
		tune(fd);
		n = take(fd, &seed);
		if (n < 0 || give(fd, n / 8, ~seed))
			failed = 1;
		else
			printf("nettest: served %lld bytes each way\n", (long long)n);
		fflush(stdout);
		close(fd);
	}
	return failed;
}

static int client(struct sockaddr_in *a, long mib)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t seed = (uint64_t)(now() * 1e9) | 1, back;
	double t0, t1, t2;
	int64_t n;

	if (fd < 0 || tune(fd) || connect(fd, (struct sockaddr *)a, sizeof(*a))) {
		perror("nettest: connect");
		return 1;
	}
	t0 = now();
	if (give(fd, mib << 17, seed))
		return 1;
	t1 = now();
	n = take(fd, &back);
	t2 = now();
	if (n != mib << 20 || back != ~seed) {
		fprintf(stderr, "nettest: the answer is not to what was sent\n");
		return 1;
	}
	printf("nettest: ok sent=%lld received=%lld seconds=%.2f+%.2f\n", (long long)n,
	       (long long)n, t1 - t0, t2 - t1);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	int serving = argc > 1 && !strcmp(argv[1], "serve");

	argv += serving;
	argc -= serving;
	if (argc < 3 || argc > 4 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1) {
		fprintf(stderr,
		        "usage: nettest serve ADDRESS PORT [COUNT] | nettest ADDRESS PORT [MIB]\n");
		return 2;
	}
	a.sin_port = htons(atoi(argv[2]));
	if (serving)
		return serve(&a, argc > 3 ? atol(argv[3]) : 0);
	return client(&a, argc > 3 ? atol(argv[3]) : 16);
}
