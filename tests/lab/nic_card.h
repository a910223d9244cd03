/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 82574L driven by hand: its registers, its first two rings, and frames that go through them to
 * and from an interface of the host's on the same segment.
 */
#ifndef LAB_NIC_CARD_H
#define LAB_NIC_CARD_H

#include "vfio_raw.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

/* 82574 datasheet, chapter 10. */
enum {
	CTRL = 0x0,
	EERD = 0x14,
	MDIC = 0x20,
	ICS = 0xc8,
	IMS = 0xd0,
	IMC = 0xd8,
	EIAC = 0xdc,
	IVAR = 0xe4,
	EITR = 0xe8,
	RCTL = 0x100,
	TCTL = 0x400,
	RX = 0x2800,
	TX = 0x3800,
	RSRPD = 0x2c00,
	MTA = 0x5200,
	RA = 0x5400,
	VFTA = 0x5600,
	RETA = 0x5c00,
	RSSRK = 0x5c80,
};
enum { BASE_LOW = 0, BASE_HIGH = 4, LENGTH = 8, HEAD = 0x10, TAIL = 0x18 };
#define ENABLE 2u
#define RCTL_ALL (ENABLE | 1u << 3 | 1u << 4 | 1u << 15 | 1u << 26)
#define TCTL_ALL (ENABLE | 1u << 3)
#define RXQ0 (1u << 20)
#define TXQ0 (1u << 22)
#define OTHER (1u << 24)
#define TXQE (1u << 1)
#define LSC (1u << 2)
#define RXT0 (1u << 7)

#define PROTOCOL 0x88b5 /* IEEE 802: for experiments */
#define RING 64
#define FRAME 128

struct descriptor {
	uint64_t address;
	uint16_t length;
	uint8_t sum_offset, command;
	uint8_t status, errors;
	uint16_t special;
};

/* Where it lies in the memory that the card reaches. */
#define RX_RING 0x0000
#define TX_RING 0x1000
#define RX_BUFFERS 0x10000
#define TX_BUFFERS 0x40000
#define MEMORY (2 << 20)

/* The one card that there is, and the socket on the segment. */
static struct raw card;
static int wire;

static struct descriptor *rx(unsigned i)
{
	return (struct descriptor *)(card.memory + RX_RING) + i;
}

static struct descriptor *tx(unsigned i)
{
	return (struct descriptor *)(card.memory + TX_RING) + i;
}

static void make_frame(uint8_t *frame, uint32_t number)
{
	const uint8_t head[14] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
		                   0,    0,    0,    0,    1,    0x88, 0xb5 };

	memset(frame, 0x5a, FRAME);
	memcpy(frame, head, sizeof(head));
	memcpy(frame + sizeof(head), &number, sizeof(number));
}

static void open_wire(const char *interface)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL) };

	a.sll_ifindex = (int)if_nametoindex(interface);
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(PROTOCOL));
	REQUIRE(wire >= 0 && a.sll_ifindex > 0);
	REQUIRE(!bind(wire, (struct sockaddr *)&a, sizeof(a)));
}

static void to_card(uint32_t number)
{
	uint8_t frame[FRAME];

	make_frame(frame, number);
	REQUIRE(send(wire, frame, sizeof(frame), 0) == sizeof(frame));
}

/* Waits until the card has filled descriptor `i`, at most `ms`. */
static bool filled(unsigned i, int ms)
{
	volatile uint8_t *status = &rx(i)->status;

	for (; ms > 0 && !(*status & 1); ms -= 5)
		poll(NULL, 0, 5);
	return *status & 1;
}

static bool arrived(unsigned i, uint32_t number)
{
	uint32_t got;

	if (!filled(i, 3000))
		return false;
	memcpy(&got, card.memory + RX_BUFFERS + i * 2048 + 14, sizeof(got));
	return got == number;
}

/* Puts one frame into the ring at the card's tail, and waits for it on the wire. */
static bool from_card(uint32_t number, int ms)
{
	unsigned i = raw_get(&card, TX + TAIL);
	struct pollfd p = { .fd = wire, .events = POLLIN };
	uint8_t frame[2048];
	uint32_t got;

	make_frame(card.memory + TX_BUFFERS + i * 2048, number);
	*tx(i) = (struct descriptor){ .address = TX_BUFFERS + i * 2048,
		                      .length = FRAME,
		                      .command = 0x0b }; /* end, checksum, report */
	raw_put(&card, TX + TAIL, (i + 1) % RING);
	while (poll(&p, 1, ms) > 0) {
		ssize_t n = recv(wire, frame, sizeof(frame), 0);

		memcpy(&got, frame + 14, sizeof(got));
		if (n >= 18 && got == number)
			return true;
	}
	return false;
}

static void start_rings(void)
{
	for (unsigned i = 0; i < RING; i++)
		*rx(i) = (struct descriptor){ .address = RX_BUFFERS + i * 2048 };
	raw_put(&card, RX + BASE_LOW, RX_RING);
	raw_put(&card, RX + BASE_HIGH, 0);
	raw_put(&card, RX + LENGTH, RING * sizeof(struct descriptor));
	raw_put(&card, RX + HEAD, 0);
	raw_put(&card, RX + TAIL, 0);
	raw_put(&card, TX + BASE_LOW, TX_RING);
	raw_put(&card, TX + BASE_HIGH, 0);
	raw_put(&card, TX + LENGTH, RING * sizeof(struct descriptor));
	raw_put(&card, TX + HEAD, 0);
	raw_put(&card, TX + TAIL, 0);
	raw_put(&card, RCTL, RCTL_ALL);
	raw_put(&card, TCTL, TCTL_ALL);
	raw_put(&card, RX + TAIL, RING - 1);
}

#endif
