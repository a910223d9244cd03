/* SPDX-License-Identifier: Apache-2.0 */
/*
 * streamtest: one TCP connection that carries data both ways for as long as it is let, every byte
 * of it checked. A byte lost, doubled, changed or in another place ends it with an error.
 *
 *   streamtest serve ADDRESS PORT [KIB_PER_S]   takes one client; prints the result when it ends
 *   streamtest start ADDRESS PORT [KIB_PER_S]   connects, goes on in the background
 *   streamtest status | finish                  its line; ends it, with a last word from both sides
 *
 * A record is 4 KiB: magic, number, sum of all data up to here, data that follows from the number
 * and the side. The last one has another magic, and no data that counts.
 */
#include "report.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define NAME "streamtest"
#define WORDS 512
#define DATA 0x61746164746c6177ull
#define END 0x00646e65746c6177ull

struct record {
	uint64_t magic, number, sum;
	uint64_t data[WORDS - 3];
};

struct way {
	int fd;
	uint64_t seed, records, sum;
	char fault[120]; /* what is wrong; empty while all is well */
	volatile int done;
};

static struct way out, in;
static uint64_t rate;

static uint64_t fill(struct record *r, uint64_t seed)
{
	uint64_t x = (seed ^ r->number) * 0x9e3779b97f4a7c15ull | 1, sum = 0;

	for (int i = 0; i < WORDS - 3; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		r->data[i] = x;
		sum = sum * 31 + x;
	}
	return sum;
}

static int whole(struct way *w, void *p, int sending)
{
	size_t left = sizeof(struct record);

	for (char *c = p; left;) {
		ssize_t n = sending ? send(w->fd, c, left, MSG_NOSIGNAL) : recv(w->fd, c, left, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			snprintf(w->fault, sizeof(w->fault), "%s after %llu records: %s",
			         sending ? "send" : "receive", (unsigned long long)w->records,
			         n ? strerror(errno) : "closed");
			return -1;
		}
		c += n;
		left -= n;
	}
	return 0;
}

static void *sender(void *unused)
{
	static struct record r;
	uint64_t due = report_now();

	while (!report_ending && !in.fault[0]) {
		r.magic = DATA;
		r.number = out.records;
		out.sum = out.sum * 31 + fill(&r, out.seed);
		r.sum = out.sum;
		if (whole(&out, &r, 1))
			goto over;
		out.records++;
		report_pace(&due, sizeof(r), rate);
	}
	r.magic = END;
	r.number = out.records;
	r.sum = out.sum;
	whole(&out, &r, 1);
over:
	out.done = 1;
	return unused;
}

static int check(const struct record *r)
{
	static struct record want;

	want.number = in.records;
	if (r->magic != DATA && r->magic != END)
		return -1;
	if (r->magic == DATA)
		in.sum = in.sum * 31 + fill(&want, in.seed);
	return r->number == in.records && r->sum == in.sum &&
	                       (r->magic == END || !memcmp(r->data, want.data, sizeof(want.data)))
	               ? 0
	               : -1;
}

static void *receiver(void *unused)
{
	static struct record r;

	while (!whole(&in, &r, 0)) {
		if (check(&r)) {
			snprintf(in.fault, sizeof(in.fault),
			         "record %llu is wrong: magic %llx number %llu sum %llx, not %llx",
			         (unsigned long long)in.records, (unsigned long long)r.magic,
			         (unsigned long long)r.number, (unsigned long long)r.sum,
			         (unsigned long long)in.sum);
			break;
		}
		if (r.magic == END)
			break;
		in.records++;
	}
	/* Whoever hears the other's end says its own. */
	report_ending = 1;
	in.done = 1;
	return unused;
}

static int over(void)
{
	return in.done && out.done;
}

static const char *result(void)
{
	return in.fault[0] || out.fault[0] ? "result=bad" : over() ? "result=ok" : "";
}

static void line(char *to, size_t size)
{
	snprintf(to, size, "sent=%llu received=%llu %s%s%s", (unsigned long long)out.records << 12,
	         (unsigned long long)in.records << 12, in.fault[0] ? in.fault : out.fault,
	         in.fault[0] || out.fault[0] ? " " : "", result());
}

static int carry(int fd, uint64_t seed)
{
	/* Long enough for any stop: the kernel's own limit counts retransmissions, which go on
	 * while the other side stands still. */
	int one = 1, forever = 3600000;
	pthread_t a, b;
	char text[400];

	out.fd = in.fd = fd;
	out.seed = seed;
	in.seed = ~seed;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &forever, sizeof(forever));
	if (pthread_create(&a, NULL, sender, NULL) || pthread_create(&b, NULL, receiver, NULL))
		return 1;
	while (!over()) {
		line(text, sizeof(text));
		report_line(NAME, "%s", text);
		if (in.fault[0] || out.fault[0])
			shutdown(fd, SHUT_RDWR);
		report_nap(200);
	}
	line(text, sizeof(text));
	report_line(NAME, "%s", text);
	printf("streamtest: %s\n", text);
	return !!strcmp(result(), "result=ok");
}

static int serve(struct sockaddr_in *a)
{
	int one = 1, fd, l = socket(AF_INET, SOCK_STREAM, 0);

	if (l < 0 || setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(l, (struct sockaddr *)a, sizeof(*a)) || listen(l, 1)) {
		perror("streamtest: listen");
		return 1;
	}
	fd = accept(l, NULL, NULL);
	if (fd < 0) {
		perror("streamtest: accept");
		return 1;
	}
	close(l);
	return carry(fd, 0x5);
}

static int start(struct sockaddr_in *a)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)a, sizeof(*a))) {
		perror("streamtest: connect");
		return 1;
	}
	report_line(NAME, "sent=0 received=0");
	report_daemon(NAME);
	return carry(fd, ~0x5ull);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };

	if (argc == 2 && (!strcmp(argv[1], "status") || !strcmp(argv[1], "finish")))
		return report_ask(NAME, argv[1]);
	if (argc < 4 || argc > 5 || inet_pton(AF_INET, argv[2], &a.sin_addr) != 1 ||
	    (strcmp(argv[1], "serve") && strcmp(argv[1], "start"))) {
		fprintf(stderr, "usage: streamtest serve|start ADDRESS PORT [KIB_PER_S] | status | "
		                "finish\n");
		return 2;
	}
	a.sin_port = htons(atoi(argv[3]));
	rate = argc > 4 ? strtoull(argv[4], NULL, 0) : 256;
	return strcmp(argv[1], "serve") ? start(&a) : serve(&a);
}
