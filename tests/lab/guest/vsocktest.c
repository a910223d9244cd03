/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsocktest: a stream over AF_VSOCK, every byte of it checked.
 *
 *   vsocktest echo PORT              gives back to each caller, one after the other, what it sends
 *   vsocktest call CID PORT [KIB]    sends 1024 KiB, and checks what comes back
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK 16384

static int fail(const char *what)
{
	fprintf(stderr, "vsocktest: %s: %s\n", what, strerror(errno));
	return 1;
}

static int echo(unsigned port)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK,
		                  .svm_cid = VMADDR_CID_ANY,
		                  .svm_port = port };
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	char buf[CHUNK];

	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(listener, 4) < 0)
		return fail("listen");
	puts("vsocktest: listening");
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		ssize_t n;

		if (fd < 0)
			return fail("accept");
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			for (ssize_t done = 0, w; done < n; done += w)
				if ((w = write(fd, buf + done, (size_t)(n - done))) <= 0)
					break;
		close(fd);
	}
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 2654435761u >> 13);
}

static int call(unsigned cid, unsigned port, unsigned kib)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	struct timeval limit = { .tv_sec = 120 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	uint8_t buf[CHUNK];

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return fail("connect");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	for (uint64_t at = 0; at < kib * 1024ull; at += CHUNK) {
		for (unsigned i = 0; i < CHUNK; i++)
			buf[i] = byte_at(at + i);
		if (send(fd, buf, CHUNK, 0) != CHUNK)
			return fail("send");
		memset(buf, 0, sizeof(buf));
		if (recv(fd, buf, CHUNK, MSG_WAITALL) != CHUNK)
			return fail("recv");
		for (unsigned i = 0; i < CHUNK; i++)
			if (buf[i] != byte_at(at + i)) {
				fprintf(stderr, "vsocktest: byte %llu is wrong\n",
				        (unsigned long long)(at + i));
				return 1;
			}
	}
	printf("vsocktest: ok kib=%u\n", kib);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "echo"))
		return echo((unsigned)atoi(argv[2]));
	if (argc >= 4 && !strcmp(argv[1], "call"))
		return call((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
		            argc > 4 ? (unsigned)atoi(argv[4]) : 1024);
	fprintf(stderr, "usage: vsocktest echo PORT | call CID PORT [KIB]\n");
	return 2;
}
