/* SPDX-License-Identifier: Apache-2.0 */
/*
 * con: runs commands in the lab's guest, over its serial console.
 *
 *   con SOCKET LOG TIMEOUT COMMAND...   sends COMMAND (its words joined by blanks), prints what it
 *                                       prints, ends with its exit status
 *   con SOCKET LOG TIMEOUT -s COMMAND...  ends when the guest has begun with COMMAND (poweroff -f)
 *   con SOCKET LOG TIMEOUT -w TEXT [PID]   waits until LOG holds TEXT, or process PID has ended; SOCKET is not used
 *   con SOCKET LOG TIMEOUT -l LINE      types LINE, as at a login, and waits for nothing
 *
 * SOCKET is a UNIX stream socket that leads to the console, LOG the file that all of the guest's
 * output is appended to. TIMEOUT is in seconds, multiplied by LAB_PATIENCE where that is in the
 * environment (tests/lab/l1.sh). con's own failures (time over, console closed,
 * kernel panic) give exit status 125. The guest's side of the protocol is tests/lab/guest/init.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FAILED 125
#define CHUNK 16          /* the FIFO of a 16550 */
#define PACE_MS 2         /* between chunks */
#define SETTLE_MS 3       /* from a change of the log until it is looked at */
#define LOOK_MS 250       /* between looks at a log that has not changed */
#define POLL_MS 10        /* between tries to send */
#define RESEND_S 5        /* until an unanswered command is sent again: the guest runs it once */
#define LINE_MAX_LEN 3900 /* a line of a tty has 4096 bytes at most */

static double deadline;
static int changes = -1; /* inotify, of the log's folder: the log may be made or replaced while we wait */

static char *text; /* what the log got since we began */
static size_t text_len;
static off_t log_at;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "con: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	if (text_len > 600)
		text += text_len - 600;
	if (text_len)
		fprintf(stderr, "con: the console's last words:\n%s\n", text);
	exit(FAILED);
}

/* Opened anew each time: the file may be made or replaced while we wait. */
static void read_log(const char *path)
{
	char buf[65536];
	struct stat st;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && st.st_size < log_at)
		log_at = 0;
	while ((n = pread(fd, buf, sizeof(buf), log_at)) > 0) {
		log_at += n;
		text = realloc(text, text_len + n + 1);
		if (!text)
			abort();
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != '\r' && buf[i])
				text[text_len++] = buf[i];
		text[text_len] = 0;
	}
	close(fd);
}

static void check_panic(void)
{
	char *p = text ? strstr(text, "Kernel panic") : NULL;

	if (p && strchr(p, '\n'))
		die("the guest's kernel panicked: %.*s", (int)strcspn(p, "\n"), p);
}

static void watch(const char *log)
{
	char *folder = strdup(log), *end = folder ? strrchr(folder, '/') : NULL;

	if (end)
		end[end == folder] = 0;
	changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (changes >= 0 && inotify_add_watch(changes, end ? folder : ".", IN_MODIFY | IN_MOVED_TO) < 0)
		die("%s: %s", end ? folder : ".", strerror(errno));
	free(folder);
}

/* Until the log has changed, or something comes from FD (-1: none). Each wake-up takes from the guest, on the same
 * CPU, more than what it does. */
static void wait_change(int fd)
{
	struct pollfd p[] = { { .fd = changes, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	char buf[4096];

	if (poll(p, 2, LOOK_MS) > 0)
		poll(NULL, 0, SETTLE_MS);
	while (read(changes, buf, sizeof(buf)) > 0)
		;
}

static int wait_text(const char *log, const char *want, pid_t pid)
{
	const int process = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd ended = { .fd = process, .events = POLLIN };

	for (;;) {
		const int last = pid && (process < 0 || poll(&ended, 1, 0) > 0);

		read_log(log);
		if (text && strstr(text, want))
			return 0;
		check_panic();
		if (last)
			die("process %d has ended, without '%s' in %s", (int)pid, want, log);
		if (now() >= deadline)
			die("no '%s' in %s", want, log);
		wait_change(process);
	}
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(a.sun_path))
		die("%s: too long for a socket's name", path);
	strcpy(a.sun_path, path);
	for (;;) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
			break;
		if (fd >= 0)
			close(fd);
		if (now() >= deadline)
			die("%s: %s", path, strerror(errno));
		poll(NULL, 0, 50);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Takes what the console sends, so that it is not held up; we read it from the log. -1 when closed.
 */
static int drain(int fd)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static int put(int fd, const char *line)
{
	size_t left = strlen(line);

	while (left && now() < deadline) {
		struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
		ssize_t n;

		poll(&p, 1, POLL_MS);
		if ((p.revents & (POLLIN | POLLHUP)) && drain(fd))
			return -1;
		if (!(p.revents & POLLOUT))
			continue;
		n = send(fd, line, left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n > 0) {
			line += n;
			left -= n;
			poll(NULL, 0, PACE_MS);
		}
	}
	return 0;
}

/* Has the guest answered (or begun, where no answer is wanted)? Then prints what lies between its
 * marks and ends. */
static void look(const char *id, int answered)
{
	char mark[96], *from, *to, *end;
	long rc;

	if (!text)
		return;
	snprintf(mark, sizeof(mark), "GUEST RUN %s\n", id);
	if (!answered && strstr(text, mark))
		exit(0);
	snprintf(mark, sizeof(mark), "GUEST RC %s ", id);
	to = strstr(text, mark);
	if (!to)
		return;
	rc = strtol(to + strlen(mark), &end, 10);
	if (*end != '\n')
		return;
	snprintf(mark, sizeof(mark), "GUEST RUN %s\n", id);
	from = strstr(text, mark);
	from = from && from < to ? from + strlen(mark) : text;
	/* The guest begins its mark on a line of its own. */
	if (to > from && to[-1] == '\n')
		to--;
	fwrite(from, 1, to - from, stdout);
	fflush(stdout);
	exit((int)rc);
}

static int run(const char *sock, const char *log, const char *cmd, int answered)
{
	char id[40], bad[64], line[LINE_MAX_LEN + 80];
	struct timespec t;
	struct stat st;
	double sent = -RESEND_S;
	int fd, closed = 0, delivered = 0;

	if (strlen(cmd) > LINE_MAX_LEN || strchr(cmd, '\n'))
		die("a command is one line of at most %d bytes", LINE_MAX_LEN);
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(id, sizeof(id), "%llx.%x",
	         (unsigned long long)t.tv_sec * 1000000000ull + t.tv_nsec, (unsigned)getpid());
	snprintf(bad, sizeof(bad), "GUEST BAD %s\n", id);
	/* The newline first, so that what an earlier try left behind does not spoil this one. */
	snprintf(line, sizeof(line), "\n@%s:%zu %s\n", id, strlen(cmd), cmd);
	if (!stat(log, &st))
		log_at = st.st_size;
	fd = dial(sock);
	for (;;) {
		char *p;

		if (!closed && now() - sent >= RESEND_S) {
			closed = put(fd, line);
			delivered |= !closed;
			sent = now();
		}
		closed = closed || drain(fd);
		read_log(log);
		look(id, answered);
		check_panic();
		p = text ? strstr(text, bad) : NULL;
		if (p) {
			*p = 'g'; /* seen */
			sent = -RESEND_S;
			continue;
		}
		if (closed) {
			/* The last of it may still be on its way into the log. */
			poll(NULL, 0, 200);
			read_log(log);
			look(id, answered);
			if (!answered && delivered)
				return 0;
			die("the console was closed before '%s' was answered", cmd);
		}
		if (now() >= deadline)
			die("no answer to '%s'", cmd);
		wait_change(fd);
	}
}

static int type(const char *sock, const char *words)
{
	char line[LINE_MAX_LEN + 2];
	int fd = dial(sock);

	if (strlen(words) > LINE_MAX_LEN)
		die("a line has at most %d bytes", LINE_MAX_LEN);
	snprintf(line, sizeof(line), "%s\n", words);
	if (put(fd, line) || now() >= deadline)
		die("'%s' could not be typed", words);
	return 0;
}

int main(int argc, char **argv)
{
	char cmd[LINE_MAX_LEN + 2] = "";
	const char *patience = getenv("LAB_PATIENCE");
	size_t n = 0;
	int first;

	if (argc < 5 || atof(argv[3]) <= 0 || (!strcmp(argv[4], "-s") && argc < 6) ||
	    (!strcmp(argv[4], "-w") && argc != 6 && argc != 7) ||
	    (!strcmp(argv[4], "-l") && argc != 6)) {
		fprintf(stderr, "usage: con SOCKET LOG TIMEOUT [-s] COMMAND... | con SOCKET LOG "
		                "TIMEOUT -w TEXT [PID] | con SOCKET LOG TIMEOUT -l LINE\n");
		return FAILED;
	}
	deadline = now() + atof(argv[3]) * (patience ? atof(patience) : 1);
	if (!strcmp(argv[4], "-l"))
		return type(argv[1], argv[5]);
	watch(argv[2]);
	if (!strcmp(argv[4], "-w"))
		return wait_text(argv[2], argv[5], argc > 6 ? atoi(argv[6]) : 0);
	first = 4 + !strcmp(argv[4], "-s");
	for (int i = first; i < argc; i++) {
		if (n + strlen(argv[i]) + 1 > LINE_MAX_LEN)
			die("a command is one line of at most %d bytes", LINE_MAX_LEN);
		n += sprintf(cmd + n, "%s%s", i > first ? " " : "", argv[i]);
	}
	return run(argv[1], argv[2], cmd, first == 4);
}
