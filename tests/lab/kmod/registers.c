// SPDX-License-Identifier: GPL-2.0-only
#include "registers.h"

#include <linux/kernel.h>

const u16 held_registers[HELD_COUNT] = {
	[HELD_CTRL] = REG_CTRL, [HELD_STATUS] = REG_STATUS, [HELD_RCTL] = REG_RCTL,
	[HELD_TCTL] = REG_TCTL, [HELD_IMS] = REG_IMS,       [HELD_ICS] = REG_ICS,
	[HELD_EERD] = REG_EERD, [HELD_MDIC] = REG_MDIC,     [HELD_SWSM] = REG_SWSM,
};

#define ONE(offset)                                                                                \
	{                                                                                          \
		offset, 1, 4, 0, 0                                                                 \
	}
#define MANY(offset, count)                                                                        \
	{                                                                                          \
		offset, count, 4, 0, 0                                                             \
	}
#define EVERY(offset, count, stride)                                                               \
	{                                                                                          \
		offset, count, stride, 0, 0                                                        \
	}
#define BITS(offset, mask)                                                                         \
	{                                                                                          \
		offset, 1, 4, 0, mask                                                              \
	}
#define EXACT(offset, mask)                                                                        \
	{                                                                                          \
		offset, 1, 4, RANGE_EXACT, mask                                                    \
	}

/* A descriptor ring: base, length, head; the tail last, as it sets the ring going. Head and tail
 * may be written after a reset and before RCTL.EN or TCTL.EN is set (10.2.5, 10.2.6). */
#define RING(base)                                                                                 \
	EXACT((base) + 0x00, 0), EXACT((base) + 0x04, 0), EXACT((base) + 0x08, 0),                 \
	        EXACT((base) + 0x10, 0)
#define TAIL(base) EXACT((base) + 0x18, 0)

/*
 * Not here, and so the destination's own: the NVM and all that reads or writes it (EECD, EEWR,
 * FLA ...), the manageability firmware's (MANC, FWSM, FACTPS ...), and the statistics, which only
 * reading clears and nothing sets.
 */
const struct register_range register_ranges[] = {
	BITS(0x0018, ~(u32)(BIT(12) | BIT(13))), /* CTRL_EXT without what clears itself */
	MANY(0x0028, 3),                         /* FCAL, FCAH, FCT: flow control */
	ONE(0x0038),                             /* VET */
	ONE(0x0170),                             /* FCTTV */
	BITS(0x0f00, BIT(5)),                    /* EXTCNF_CTRL: who has the MDIO semaphore */
	ONE(0x0f10),                             /* POEMB */
	ONE(0x0e00),                             /* LEDCTL */
	ONE(0x1000),                             /* PBA: how the packet buffer is shared */
	ONE(0x1008),                             /* PBS */
	ONE(0x2160),                             /* FCRTL */
	ONE(0x2168),                             /* FCRTH */
	BITS(0x5b00, 0x3f | BIT(22)),            /* GCR: no-snoop, and what the errata ask for */
	ONE(0x5b64),                             /* GCR2 */

	/* Which frames are taken. */
	MANY(0x5200, 128),                 /* MTA */
	MANY(0x5600, 128),                 /* VFTA */
	{ 0x5400, 32, 4, RANGE_EXACT, 0 }, /* RAL, RAH: the MAC comes with the guest */
	ONE(0x5000),                       /* RXCSUM */
	ONE(0x5008),                       /* RFCTL */
	MANY(0x5c80, 10),                  /* RSSRK */
	MANY(0x5c00, 32),                  /* RETA */
	ONE(0x5818),                       /* MRQC */
	ONE(0x2170),                       /* PSRCTL; before RCTL asks for split headers */
	ONE(0x2c00),                       /* RSRPD */
	ONE(0x2c08),                       /* RAID */

	/* Interrupts, all but the mask and the causes. */
	ONE(0x00c4), /* ITR */
	ONE(0x00dc), /* EIAC */
	ONE(0x00e0), /* IAM */
	ONE(0x00e4), /* IVAR */
	MANY(REG_EITR(0), MSIX_VECTORS),

	/* Wake-up. */
	ONE(0x5800),           /* WUC */
	ONE(0x5808),           /* WUFC */
	ONE(0x5838),           /* IPAV */
	EVERY(0x5840, 4, 8),   /* IP4AT */
	MANY(0x5880, 4),       /* IP6AT */
	EVERY(0x5f00, 6, 8),   /* FFLT */
	EVERY(0x9000, 128, 8), /* FFMT */
	EVERY(0x9800, 128, 8), /* FFVT */

	/* The clock of IEEE 1588 stands still while the card is stopped. */
	ONE(0xb608), /* TIMINCA */
	ONE(0xb600), /* SYSTIML */
	ONE(0xb604), /* SYSTIMH */
	ONE(0xb614), /* TSYNCTXCTL */
	ONE(0xb620), /* TSYNCRXCTL */
	ONE(0xb634), /* RXMTRL */
	ONE(0xb638), /* RXUDP */

	/* Receiving. RXDCTL of the first queue writes the second one's too, so it comes first. */
	RING(0x2800),
	RING(0x2900),
	ONE(0x2828), /* RXDCTL0 */
	ONE(0x2928), /* RXDCTL1 */
	ONE(0x2820), /* RDTR */
	ONE(0x282c), /* RADV */
	TAIL(0x2800),
	TAIL(0x2900),

	/* Sending. */
	ONE(0x0410), /* TIPG */
	ONE(0x0458), /* AIT */
	RING(0x3800),
	RING(0x3900),
	ONE(0x3828), /* TXDCTL0 */
	ONE(0x3928), /* TXDCTL1 */
	ONE(0x3840), /* TARC0 */
	ONE(0x3940), /* TARC1 */
	ONE(0x3820), /* TIDV */
	ONE(0x382c), /* TADV */
	TAIL(0x3800),
	TAIL(0x3900),
};
const unsigned int register_range_count = ARRAY_SIZE(register_ranges);

/* Advertisements and the page that is selected; BMCR last, as it may set the PHY going. */
const u8 phy_registers[] = { 4, 9, 22, PHY_BMCR };
const unsigned int phy_register_count = ARRAY_SIZE(phy_registers);

unsigned int register_values(void)
{
	unsigned int n = HELD_COUNT + phy_register_count;

	for (unsigned int i = 0; i < register_range_count; i++)
		n += register_ranges[i].count;
	return n;
}
