/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttytest: uses the mtty card (PCI 4348:3253) of the guest, each port of which loops back what is
 * written to it through a FIFO of 16 bytes.
 *
 *   ttytest ports              the ports: I/O base and tty
 *   ttytest talk PORT SECONDS  through the kernel's driver, with interrupts: writes, reads back,
 *                              compares; at least one round
 *   ttytest fill PORT N SEED   sets registers and leaves N bytes (15 at most: with 16 the card
 *                              takes its FIFO for empty) in the FIFO; the tty must be closed
 *   ttytest check PORT N SEED  registers and FIFO are as fill left them; takes the bytes out
 *   ttytest regs PORT          prints the registers
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { RX = 0, TX = 0, IER = 1, FCR = 2, IIR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define LSR_DR 0x01
#define FIFO_MAX 15

/* By /dev/port, not iopl(): QEMU's emulation of nested AMD-V refuses I/O by the TSS's bitmap. */
static int ports;

static int port_in(long port)
{
	uint8_t b;

	if (pread(ports, &b, 1, port) != 1)
		return -1;
	return b;
}

static void port_out(uint8_t b, long port)
{
	if (pwrite(ports, &b, 1, port) != 1)
		perror("ttytest: /dev/port");
}

static long number(const char *path)
{
	char s[64] = "";
	FILE *f = fopen(path, "r");

	if (!f)
		return -1;
	if (!fgets(s, sizeof(s), f))
		s[0] = 0;
	fclose(f);
	return s[0] ? strtol(s, NULL, 0) : -1;
}

/* The I/O base of a port, from the PCI device's resources; -1 when there is no such port. */
static long io_base(int port)
{
	struct dirent **list;
	long base = -1;
	int n = scandir("/sys/bus/pci/devices", &list, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char path[512], line[128];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", list[i]->d_name);
		if (number(path) != 0x4348 || base >= 0)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", list[i]->d_name);
		f = fopen(path, "r");
		for (int bar = 0; f && bar < 2 && fgets(line, sizeof(line), f); bar++) {
			long start = strtol(line, NULL, 0);

			if (bar == port && start)
				base = start;
		}
		if (f)
			fclose(f);
	}
	return base;
}

static int tty_of(long base)
{
	for (int i = 0; i < 32; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/class/tty/ttyS%d/port", i);
		if (base > 0 && number(path) == base)
			return i;
	}
	return -1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int talk(int tty, double seconds)
{
	char path[32];
	struct termios t;
	double end = now() + seconds;
	unsigned long bytes = 0, rounds = 0;
	uint32_t x = 1;
	int fd;

	snprintf(path, sizeof(path), "/dev/ttyS%d", tty);
	fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || tcgetattr(fd, &t)) {
		fprintf(stderr, "ttytest: %s: %s\n", path, strerror(errno));
		return 1;
	}
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL;
	cfsetspeed(&t, B115200);
	if (tcsetattr(fd, TCSAFLUSH, &t)) {
		perror("ttytest: tcsetattr");
		return 1;
	}
	do {
		uint8_t out[8], in[8];
		size_t n = 1 + rounds % sizeof(out), got = 0;

		for (size_t i = 0; i < n; i++)
			out[i] = (x = x * 1664525 + 1013904223) >> 24;
		if (write(fd, out, n) != (ssize_t)n) {
			fprintf(stderr, "ttytest: round %lu: cannot write: %s\n", rounds,
			        strerror(errno));
			return 1;
		}
		while (got < n) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			ssize_t r;

			if (poll(&p, 1, 60000) <= 0) {
				fprintf(stderr, "ttytest: round %lu: %zu of %zu bytes came back\n",
				        rounds, got, n);
				return 1;
			}
			r = read(fd, in + got, n - got);
			if (r > 0)
				got += r;
		}
		if (memcmp(in, out, n)) {
			fprintf(stderr, "ttytest: round %lu: other bytes came back\n", rounds);
			return 1;
		}
		bytes += n;
		rounds++;
	} while (now() < end);
	close(fd);
	printf("ttytest: ok rounds=%lu bytes=%lu\n", rounds, bytes);
	return 0;
}

static uint8_t pattern(int seed, int i)
{
	return (uint8_t)(seed * 37 + i * 101 + 7);
}

/* DLAB stays set: mtty forgets the divisor when it is set anew, so this is how it can be read
 * later. */
static int fill(long base, int n, int seed)
{
	port_out(0x1a, base + LCR); /* 7 bits, even parity: not what Linux leaves */
	port_out(0, base + IER);
	port_out(0x07, base + FCR); /* FIFO on, and empty */
	port_out(0x08 | (seed & 3), base + MCR);
	port_out(seed & 0xff, base + SCR);
	for (int i = 0; i < n; i++)
		port_out(pattern(seed, i), base + TX);
	port_out(0x9a, base + LCR);
	port_out(seed & 0x7f, base + TX);
	printf("ttytest: filled %d bytes\n", n);
	return 0;
}

static int expect(const char *what, int want, int got)
{
	if (want == got)
		return 0;
	printf("ttytest: %s is %02x, not %02x\n", what, got, want);
	return 1;
}

static int check(long base, int n, int seed)
{
	int bad = 0;

	bad += expect("SCR", seed & 0xff, port_in(base + SCR));
	bad += expect("LCR", 0x9a, port_in(base + LCR));
	bad += expect("the divisor", seed & 0x7f, port_in(base + RX));
	port_out(0x1a, base + LCR);
	bad += expect("MCR", 0x08 | (seed & 3), port_in(base + MCR));
	bad += expect("IER", 0, port_in(base + IER));
	for (int i = 0; i < n; i++) {
		bad += expect("LSR's data ready", LSR_DR, port_in(base + LSR) & LSR_DR);
		bad += expect("a byte of the FIFO", pattern(seed, i), port_in(base + RX));
	}
	bad += expect("LSR's data ready at the end", 0, port_in(base + LSR) & LSR_DR);
	printf("ttytest: %s bytes=%d differences=%d\n", bad ? "FAILED" : "ok", n, bad);
	return bad != 0;
}

static int usage(void)
{
	fprintf(stderr,
	        "usage: ttytest ports | talk PORT SECONDS | fill PORT N SEED | check PORT N SEED | "
	        "regs PORT\n");
	return 2;
}

int main(int argc, char **argv)
{
	long base;
	int port, n;

	if (argc == 2 && !strcmp(argv[1], "ports")) {
		for (port = 0; port < 2; port++) {
			base = io_base(port);
			if (base > 0)
				printf("port=%d base=0x%lx tty=%d\n", port, base, tty_of(base));
		}
		return io_base(0) > 0 ? 0 : 1;
	}
	if (argc < 3)
		return usage();
	port = atoi(argv[2]);
	base = io_base(port);
	if (base <= 0) {
		fprintf(stderr, "ttytest: there is no mtty port %d\n", port);
		return 1;
	}
	if (!strcmp(argv[1], "talk")) {
		if (tty_of(base) < 0) {
			fprintf(stderr, "ttytest: no tty at 0x%lx (8250.nr_uarts too small?)\n",
			        base);
			return 1;
		}
		return talk(tty_of(base), argc > 3 ? atof(argv[3]) : 0);
	}
	ports = open("/dev/port", O_RDWR);
	if (ports < 0) {
		perror("ttytest: /dev/port");
		return 1;
	}
	if (!strcmp(argv[1], "regs")) {
		printf("IER=%02x IIR=%02x LCR=%02x MCR=%02x LSR=%02x MSR=%02x SCR=%02x\n",
		       port_in(base + IER), port_in(base + IIR), port_in(base + LCR),
		       port_in(base + MCR), port_in(base + LSR), port_in(base + MSR),
		       port_in(base + SCR));
		return 0;
	}
	if (argc != 5)
		return usage();
	n = atoi(argv[3]);
	if (n < 0 || n > FIFO_MAX)
		return usage();
	if (!strcmp(argv[1], "fill"))
		return fill(base, n, atoi(argv[4]));
	if (!strcmp(argv[1], "check"))
		return check(base, n, atoi(argv[4]));
	return usage();
}
