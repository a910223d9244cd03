/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static int cli_version(int argc, char **argv);
static int cli_help(int argc, char **argv);

static const struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *synopsis;
	const char *help;
} subcommands[] = {
	{ "run", cli_run,
	  "run [CONFIG] [--set PATH=VALUE]... [FLAG]... [--control WHERE] [--paused] [--plain-tcp] "
	  "[-v|-q]\n"
	  "run --incoming URI|defer [--map PATH=VALUE]... [--control WHERE] [--paused] "
	  "[--plain-tcp] "
	  "[-v|-q]",
	  "Runs a virtual machine, from a configuration or as the place where one\n"
	  "arrives, until it powers off or is told to quit. SIGINT and SIGTERM quit.\n"
	  "\n"
	  "  --set PATH=VALUE  set any key, as devices.disk0.serial=x or devices[0].slot=4;\n"
	  "                    null takes it away (godwit config --help)\n"
	  "  --kernel FILE, --initrd FILE, --cmdline TEXT, --memory SIZE, --cpus N,\n"
	  "  --name TEXT       set one key; without CONFIG, memory is 512M and the console\n"
	  "                    is on stdin and stdout\n"
	  "  --disk FILE[,ro]  add a disk (virtio-blk)\n"
	  "  --net TAP         add a network card (virtio-net) on a tap of the host\n"
	  "  --vfio ADDRESS    pass a device through (godwit devices)\n"
	  "  --vfio-user SOCKET  add a device that another process serves there\n"
	  "  --incoming URI    wait for a migration on tcp:HOST:PORT or unix:PATH;\n"
	  "                    defer: until migrate-incoming or snapshot-load is given\n"
	  "  --plain-tcp       migration by tcp: to and from other hosts, without encryption\n"
	  "  --map PATH=VALUE  host resources that differ here, as devices.ID.host=...\n"
	  "  --control PATH    serve QMP on a UNIX socket; systemd: on the one that the\n"
	  "                    service manager hands over; tls:HOST:PORT: on TCP\n"
	  "  --control-group GROUP  this group may use the socket as well\n"
	  "  --tls-dir DIR     with tls: ca-cert.pem, server-cert.pem, server-key.pem\n"
	  "  --paused          wait for cont before the first instruction, or, with --incoming,\n"
	  "                    before the guest goes on here\n"
	  "  --dump-dtb FILE   write the device tree that an arm64 guest gets, and do not\n"
	  "                    run it\n"
	  "  -v, -q            say more, or less; may be repeated\n" },
	{ "restore", cli_restore,
	  "restore DIR [--map PATH=VALUE]... [--control WHERE] [--paused] [--plain-tcp] [-v|-q]",
	  "Runs a virtual machine from a snapshot directory. One that was paused when\n"
	  "it was saved stays paused. Options as with run.\n" },
	{ "ctl", cli_ctl,
	  "ctl WHERE [-H] [--timeout S] [--tls-dir DIR]\n"
	  "ctl WHERE COMMAND [KEY=VALUE]... [-H] [--timeout S] [--tls-dir DIR]\n"
	  "ctl WHERE events | wait EVENT [KEY=VALUE]... | wait-migration [...]",
	  "Sends a command to a control socket and prints what it returns, as JSON. A\n"
	  "value is JSON if it can be read as such, and a string otherwise. WHERE is a\n"
	  "socket's path or tls:HOST:PORT. Without a command there is a prompt, with\n"
	  "history and completion, or commands are read from stdin, one a line.\n"
	  "\n"
	  "  events            print events, one a line\n"
	  "  wait EVENT        print the first event of that name whose data has these\n"
	  "                    values\n"
	  "  wait-migration    wait until a migration has ended and print\n"
	  "                    query-migrate; the exit status says if it was completed.\n"
	  "                    An error at once where none has begun\n"
	  "  -H, --human       print for people: aligned, in tables\n"
	  "  --timeout S       give up after S seconds; until then, wait for a socket\n"
	  "                    that is not there yet\n"
	  "  --tls-dir DIR     with tls: ca-cert.pem, client-cert.pem, client-key.pem\n" },
	{ "inspect", cli_inspect, "inspect DIR|FILE",
	  "Describes a snapshot directory, or a file that holds a stream, as JSON, and\n"
	  "checks every checksum in it.\n" },
	{ "config", cli_config,
	  "config --schema\n"
	  "config --help [--markdown]\n"
	  "config --check FILE... [--host]",
	  "Says what a configuration may hold, and whether one is good.\n"
	  "\n"
	  "  --schema          print the JSON Schema\n"
	  "  --help            print every key, its type, default and meaning\n"
	  "  --check FILE...   say all that is wrong in each file\n"
	  "  --host            look for the files and devices that it names, too\n" },
	{ "devices", cli_devices, "devices [--json]",
	  "Lists the host's PCI devices and mediated devices: which can be passed\n"
	  "through and moved, why the others cannot, and the command that mends it.\n" },
	{ "device-server", cli_device_server,
	  "device-server TYPE --socket PATH [OPTION]... [--set KEY=VALUE]... [-v|-q]",
	  "Serves one emulated device to another VMM by the vfio-user protocol, until\n"
	  "SIGTERM. TYPE is virtio-net, virtio-blk, virtio-rng, or ballast, a device with\n"
	  "nothing but state, for tests of migration.\n"
	  "\n"
	  "  --socket PATH     make a UNIX socket there (also --socket-path); --fd N: use\n"
	  "                    one that listens already\n"
	  "  --tap NAME, --mac ADDRESS         of a virtio-net\n"
	  "  --disk FILE[,ro]                  of a virtio-blk\n"
	  "  --size SIZE, --pre-copy, --rate SIZE, --dirty-rate SIZE,\n"
	  "  --interrupt msix|intx             of a ballast\n"
	  "  --fail FROM-TO:ERRNO[:error],..., --die-at N|COMMAND[:N]\n"
	  "                    a ballast that fails on purpose\n"
	  "  --migration v2|v1|none            how its state can be had\n"
	  "  --v1-data trapped|mapped|mixed    with v1: how data are reached\n"
	  "  --set KEY=VALUE   any other key of the device (godwit config --help)\n"
	  "  -v, -q            say more, or less; may be repeated\n" },
	{ "version", cli_version, "version", "Prints the version.\n" },
	{ "help", cli_help, "help [SUBCOMMAND]", "Says how a subcommand is used.\n" },
};

static const struct subcommand *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (!strcmp(subcommands[i].name, name))
			return &subcommands[i];
	return NULL;
}

static void print_synopsis(FILE *to, const struct subcommand *sub)
{
	const char *line = sub->synopsis;

	while (*line) {
		const size_t len = strcspn(line, "\n");

		fprintf(to, "  godwit %.*s\n", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

static void print_all(FILE *to)
{
	fprintf(to, "usage:\n");
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		print_synopsis(to, &subcommands[i]);
}

static int cli_version(int argc, char **argv)
{
	if (argc > 1)
		return cli_usage(argv[0], "takes no arguments");
	printf("godwit %s\n", gw_version());
	return CLI_OK;
}

static int cli_help(int argc, char **argv)
{
	const struct subcommand *sub;

	if (argc < 2) {
		print_all(stdout);
		return CLI_OK;
	}
	sub = find(argv[1]);
	if (!sub || argc > 2)
		return cli_usage(argv[0], "no subcommand is named \"%s\"", argv[argc - 1]);
	print_synopsis(stdout, sub);
	printf("\n%s", sub->help);
	return CLI_OK;
}

int cli_error(const char *what, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "godwit: %s: ", what);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_usage(const char *what, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "godwit: %s: ", what);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "; see \"godwit help %s\"\n", what);
	return CLI_USAGE;
}

/* Each vector of a device takes a descriptor, and the usual soft limit, 1024, is for programs that
 * use select(). */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct subcommand *sub;
	int status;

	raise_descriptor_limit();
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	else if (!strcmp(name, "--version"))
		name = "version";
	sub = find(name);
	if (!sub) {
		if (*name)
			fprintf(stderr, "godwit: no subcommand is named \"%s\"\n", name);
		print_all(stderr);
		return CLI_USAGE;
	}
	status = sub->run(argc - 1, argv + 1);
	if (fflush(stdout) == EOF && status == CLI_OK)
		status = cli_error(sub->name, "cannot write to stdout");
	return status;
}
