/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the 82574L by VFIO's own calls: every arc, what a state holds, what is refused. The
 * card is bound to godwit-e1000e-vfio-pci; frames come from and go to an interface of the host's on
 * the same segment.
 *
 * usage: nic_state ADDRESS GROUP INTERFACE
 */
#define _GNU_SOURCE
#include "nic_card.h"

enum { STOP = 1, RUNNING, STOP_COPY, RESUMING, P2P, PRE_COPY, PRE_COPY_P2P };

#define VECTORS 5
#define STATE_MAX 65536

static int events[VECTORS];
static uint8_t state[STATE_MAX];
static size_t state_size;

static void pass(const char *what)
{
	printf("PASS nic-state %s\n", what);
	fflush(stdout);
}

/* ---- states -----------------------------------------------------------------------------------
 */

static void go(int to)
{
	int r = raw_go(&card, to, NULL);

	if (r)
		fprintf(stderr, "to state %d: %s\n", to, strerror(-r));
	REQUIRE(!r && raw_state(&card) == to);
}

static void save(void)
{
	ssize_t n;
	int fd;

	REQUIRE(!raw_go(&card, STOP_COPY, &fd) && fd >= 0);
	for (state_size = 0;; state_size += (size_t)n) {
		n = read(fd, state + state_size, 700);
		REQUIRE(n >= 0);
		if (!n)
			break;
	}
	REQUIRE(read(fd, state, 1) == 0);
	REQUIRE(pread(fd, state, 1, 0) < 0 && errno == ESPIPE);
	go(STOP);
	REQUIRE(read(fd, state, 1) < 0 && errno == ENODEV);
	close(fd);
}

/* What RESUMING -> STOP says to these bytes, written in pieces of odd sizes. */
static int load(const uint8_t *bytes, size_t len)
{
	size_t piece = 1;
	int fd, r;

	raw_reset(&card);
	REQUIRE(!raw_go(&card, RESUMING, &fd) && fd >= 0);
	for (size_t done = 0; done < len; piece = piece * 3 + 1) {
		size_t part = piece < len - done ? piece : len - done;

		REQUIRE(write(fd, bytes + done, part) == (ssize_t)part);
		done += part;
	}
	r = raw_go(&card, STOP, NULL);
	if (!r) {
		REQUIRE(raw_state(&card) == STOP);
		REQUIRE(write(fd, bytes, 1) < 0 && errno == ENODEV);
	} else {
		REQUIRE(raw_state(&card) == RESUMING);
	}
	close(fd);
	return r;
}

static void check_arcs(void)
{
	static const int all[] = { STOP, RUNNING, STOP_COPY, RESUMING, P2P };
	static const int none[] = { 0, PRE_COPY, PRE_COPY_P2P, 8 };
	int fd;

	for (unsigned f = 0; f < 5; f++) {
		for (unsigned t = 0; t < 5; t++) {
			const bool begins = (all[t] == STOP_COPY || all[t] == RESUMING) && f != t;
			/* Nothing was written: there is no state to take. */
			const int wanted = all[f] == RESUMING && f != t ? -EINVAL : 0;

			go(all[f]);
			REQUIRE(raw_go(&card, all[t], &fd) == wanted);
			REQUIRE(raw_state(&card) == (wanted ? all[f] : all[t]));
			REQUIRE((fd >= 0) == (begins && !wanted));
			raw_reset(&card);
			REQUIRE(raw_state(&card) == RUNNING);
			/* A reset ends the session. */
			REQUIRE(fd < 0 || (read(fd, state, 1) < 0 && write(fd, state, 1) < 0));
			close(fd);
		}
		for (unsigned t = 0; t < 4; t++) {
			go(all[f]);
			REQUIRE(raw_go(&card, none[t], NULL) == -EINVAL);
			REQUIRE(raw_state(&card) == all[f]);
			raw_reset(&card);
		}
	}
	pass("each of five states from each, what is not offered refused, reset back to running");
}

/* ---- what a state holds -----------------------------------------------------------------------
 */

/* Registers that read as they were written, and the bits that do. */
static const struct {
	uint16_t at, count, stride;
	uint32_t bits;
} written[] = {
	{ MTA, 128, 4, ~0u },        { VFTA, 128, 4, ~0u },
	{ RA + 8, 15, 8, ~0u },      { RA + 12, 15, 8, 0x8003ffff },
	{ RETA, 32, 4, ~0u },        { RSSRK, 10, 4, ~0u },
	{ 0x28, 1, 4, ~0u },         { 0x30, 1, 4, 0xffff },
	{ 0x170, 1, 4, 0xffff },     { 0x2160, 1, 4, 0xfff8 },
	{ 0x2168, 1, 4, 0xfff8 },    { 0xe0, 1, 4, ~0u },
	{ EITR, 5, 4, 0x0fff },      { 0x2820, 1, 4, 0xff },
	{ 0x282c, 1, 4, 0xff },      { RSRPD, 1, 4, 0xfff },
	{ 0x410, 1, 4, 0x3fffffff }, { 0x3820, 1, 4, 0xff },
	{ 0x382c, 1, 4, 0xff },      { 0xe00, 1, 4, ~0u },
	{ 0x5840, 3, 8, ~0u },       { 0x5880, 4, 4, ~0u },
	{ 0x9800, 128, 8, ~0u },     { 0x9000, 128, 8, 0xf },
	{ 0xb608, 1, 4, ~0u },       { 0xb638, 1, 4, 0xffff },
};
static const uint16_t read_only[] = {
	CTRL,      0x18,       EERD,       MDIC,       ICS,        IMS,        EIAC,
	IVAR,      RCTL,       TCTL,       RX + 0,     RX + 4,     RX + 8,     RX + 0x10,
	RX + 0x18, RX + 0x28,  TX + 0,     TX + 4,     TX + 8,     TX + 0x10,  TX + 0x18,
	TX + 0x28, RX + 0x100, RX + 0x108, RX + 0x110, TX + 0x100, TX + 0x108, RA,
	RA + 4,    0x3840,     0x3940,     0x5000,     0x5008,     0x5818,     0x2170,
};
#define WRITTEN (sizeof(written) / sizeof(written[0]))
#define READ_ONLY (sizeof(read_only) / sizeof(read_only[0]))

static void fill_registers(uint32_t seed)
{
	for (size_t i = 0; i < WRITTEN; i++)
		for (unsigned n = 0; n < written[i].count; n++) {
			seed = seed * 1664525 + 1013904223;
			raw_put(&card, written[i].at + n * written[i].stride,
			        seed & written[i].bits);
		}
}

static size_t note_registers(uint32_t *to)
{
	size_t used = 0;

	for (size_t i = 0; i < WRITTEN; i++)
		for (unsigned n = 0; n < written[i].count; n++)
			to[used++] = raw_get(&card, written[i].at + n * written[i].stride);
	/* Starting the transmitter says that its queue is empty: a cause more does no harm. */
	for (size_t i = 0; i < READ_ONLY; i++)
		to[used++] = raw_get(&card, read_only[i]) | (read_only[i] == ICS ? TXQE : 0);
	return used;
}

static void compare(const uint32_t *before, const uint32_t *after, size_t count)
{
	unsigned bad = 0;

	for (size_t i = 0; i < count; i++)
		if (before[i] != after[i]) {
			fprintf(stderr, "value %zu (register 0x%04x?): 0x%08x, then 0x%08x\n", i,
			        i + READ_ONLY >= count ? read_only[i + READ_ONLY - count] : 0,
			        before[i], after[i]);
			bad++;
		}
	REQUIRE(!bad);
}

static unsigned rung(void)
{
	unsigned set = 0;

	poll(NULL, 0, 20);
	for (unsigned i = 0; i < VECTORS; i++)
		set |= (raw_rung(events[i]) ? 1u : 0u) << i;
	return set;
}

/* A MAC of its own, a ring that is in use, causes that are pending. */
static void set_up(void)
{
	start_rings();
	raw_put(&card, IVAR, 0x8 | 0x9 << 8 | 0xa << 16);
	fill_registers(4711);
	for (unsigned i = 0; i < VECTORS; i++)
		raw_put(&card, EITR + 4 * i, 200);
	raw_put(&card, 0x5818, 0);
	raw_put(&card, RA, 0x33221102);
	raw_put(&card, RA + 4, 0x80005544);
	raw_put(&card, EERD, 3 << 2 | 1);
	raw_put(&card, MDIC, 2 << 16 | 1 << 21 | 1 << 27);
	raw_msix(&card, events, VECTORS);
	for (uint32_t i = 0; i < 5; i++) {
		to_card(i);
		REQUIRE(arrived(i, i));
		REQUIRE(from_card(100 + i, 3000));
	}
	REQUIRE(raw_get(&card, RX + HEAD) == 5 && raw_get(&card, TX + HEAD) == 5);
	raw_put(&card, IMC, ~0u);
	raw_put(&card, 0xc0, ~0u);
	rung();
	raw_put(&card, ICS, RXQ0 | RXT0 | LSC);
	raw_put(&card, IMS, TXQ0);
	REQUIRE(!rung());
}

static void check_stop(void)
{
	static uint32_t before[2048], after[2048];
	size_t count;

	set_up();
	count = note_registers(before);
	go(STOP);
	save();
	printf("a state has %zu bytes\n", state_size);
	go(RUNNING);
	note_registers(after);
	compare(before, after, count);
	pass("saved and not moved after all: it runs on as it was");

	go(P2P);
	to_card(5);
	REQUIRE(!filled(5, 300));
	go(STOP);
	save();
	REQUIRE(!filled(5, 50));
	go(RUNNING);
	/* The frame of before may have waited outside, or be lost: one of the two comes first. */
	to_card(6);
	REQUIRE(filled(5, 3000));
	pass("nothing is received while it stands still");
}

static void check_resume(void)
{
	static uint32_t before[2048], after[2048];
	size_t count;

	raw_reset(&card);
	set_up();
	count = note_registers(before);
	go(STOP);
	save();
	REQUIRE(!load(state, state_size));
	raw_msix(&card, events, VECTORS);
	go(P2P);
	REQUIRE(!rung());
	go(RUNNING);
	note_registers(after);
	compare(before, after, count);
	pass("reset and resumed: its registers are as they were");

	REQUIRE(!rung());
	raw_put(&card, IMS, RXQ0);
	REQUIRE(rung() == 1);
	raw_put(&card, IMS, OTHER);
	REQUIRE(rung() == 4);
	pass("causes that were pending are still, and become interrupts");

	for (uint32_t i = 0; i < 20; i++) {
		unsigned at = raw_get(&card, RX + HEAD);

		rx(at)->status = 0;
		to_card(200 + i);
		REQUIRE(arrived(at, 200 + i));
		REQUIRE(from_card(300 + i, 3000));
	}
	pass("its rings go on where they stood");
}

/* A second interrupt within the throttle's interval is held back in a place that no register shows:
 * it has to be out before the card is still. */
static void check_throttle(void)
{
	raw_put(&card, IMC, ~0u);
	raw_put(&card, 0xc0, ~0u);
	raw_put(&card, EITR, 0xffff);
	raw_put(&card, EIAC, RXQ0);
	rung();
	for (int i = 0; i < 2; i++) {
		raw_put(&card, IMS, RXQ0);
		raw_put(&card, ICS, RXQ0);
	}
	go(P2P);
	REQUIRE(raw_rung(events[0]) == 2 || (raw_get(&card, ICS) & RXQ0));
	go(RUNNING);
	pass("an interrupt that was throttled is not lost");
}

/* ---- what is refused --------------------------------------------------------------------------
 */

static void check_bad_states(void)
{
	static uint8_t bad[STATE_MAX];
	unsigned count = 0;
	uint8_t more = 0;
	int fd;

	for (size_t at = 0; at < state_size; at += at < 32 ? 1 : 499, count++) {
		memcpy(bad, state, state_size);
		bad[at] ^= (uint8_t)(1 << at % 8);
		REQUIRE(load(bad, state_size) == -EINVAL);
	}
	for (size_t len = 0; len < state_size; len = len * 3 + 1, count++)
		REQUIRE(load(state, len) == -EINVAL);
	REQUIRE(load(state, state_size - 1) == -EINVAL);
	printf("%u states refused\n", count + 1);
	pass("a changed byte and a missing one are refused, and leave it resuming");

	raw_reset(&card);
	REQUIRE(!raw_go(&card, RESUMING, &fd));
	REQUIRE(write(fd, state, state_size) == (ssize_t)state_size);
	REQUIRE(write(fd, &more, 1) < 0 && errno == EINVAL);
	REQUIRE(read(fd, &more, 1) < 0);
	close(fd);
	go(STOP);
	go(RUNNING);
	pass("more than a state has is refused; what is whole is still taken");
}

/* CRC-32 of IEEE 802.3, bit by bit, without the last inversion. */
static uint32_t crc(const uint8_t *bytes, size_t len)
{
	uint32_t sum = ~0u;

	for (size_t i = 0; i < len * 8; i++)
		sum = sum >> 1 ^ ((sum ^ bytes[i / 8] >> i % 8) & 1 ? 0xedb88320 : 0);
	return sum;
}

/* Whole by its sum, but with the base of a ring that no ring can have. */
static void check_not_taken(void)
{
	const uint32_t base = 0x00abcde0, bad = base | 7;
	uint8_t *at;
	uint32_t sum;
	int fd;

	raw_reset(&card);
	raw_put(&card, TX + 0x100, base);
	go(STOP);
	save();
	at = memmem(state, state_size, &base, sizeof(base));
	REQUIRE(at);
	memcpy(at, &bad, sizeof(bad));
	sum = crc(state + 16, state_size - 16);
	memcpy(state + 12, &sum, sizeof(sum));
	raw_reset(&card);
	REQUIRE(!raw_go(&card, RESUMING, &fd));
	REQUIRE(write(fd, state, state_size) == (ssize_t)state_size);
	REQUIRE(raw_go(&card, STOP, NULL) == -EIO && raw_state(&card) == 0);
	REQUIRE(raw_go(&card, RUNNING, NULL) == -EINVAL);
	close(fd);
	raw_reset(&card);
	REQUIRE(raw_state(&card) == RUNNING);
	pass("what the card does not take leads to the error state, and a reset out of it");
}

static unsigned capability(unsigned id)
{
	unsigned at = raw_config(&card, 0x34) & 0xfc;

	while (at && (raw_config(&card, at) & 0xff) != id)
		at = raw_config(&card, at) >> 8 & 0xfc;
	return at;
}

static void check_odd_times(void)
{
	const unsigned pm = capability(1);
	const uint16_t command = raw_config(&card, 4);

	raw_reset(&card);
	start_rings();
	go(STOP);
	raw_put(&card, RCTL, RCTL_ALL);
	REQUIRE(raw_go(&card, STOP_COPY, NULL) == -EIO && raw_state(&card) == STOP);
	raw_reset(&card);
	pass("a card that was touched while it stood still is not saved");

	start_rings();
	raw_set_config(&card, 4, command & ~2);
	go(STOP);
	save();
	go(RUNNING);
	REQUIRE(raw_config(&card, 4) == (command & ~2));
	raw_set_config(&card, 4, command);
	REQUIRE(raw_get(&card, RCTL) == RCTL_ALL && raw_get(&card, TCTL) == TCTL_ALL);
	pass("a card whose memory the guest has switched off is saved all the same");

	REQUIRE(pm);
	raw_set_config(&card, pm + 4, 3);
	REQUIRE(raw_go(&card, STOP, NULL) == -EBUSY && raw_state(&card) == RUNNING);
	raw_set_config(&card, pm + 4, 0);
	pass("a sleeping card says that it is busy");
}

int main(int argc, char **argv)
{
	uint64_t flags = 0, size = 0;

	if (argc != 4)
		return 2;
	open_wire(argv[3]);
	raw_open(&card, argv[1], argv[2], MEMORY);
	REQUIRE(!raw_feature(&card, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &flags,
	                     sizeof(flags)));
	REQUIRE(flags == (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P));
	REQUIRE(!raw_feature(&card, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
	                     &size, sizeof(size)));
	REQUIRE(raw_feature(&card,
	                    VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET |
	                            VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
	                    &flags, 0) == -ENOTTY);
	REQUIRE(raw_state(&card) == RUNNING);
	check_arcs();
	check_stop();
	check_resume();
	REQUIRE(size == state_size);
	check_throttle();
	check_bad_states();
	check_not_taken();
	check_odd_times();
	return 0;
}
