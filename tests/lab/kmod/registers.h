/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The registers of Intel's 82574L, and which of them make up its state.
 *
 * Numbers and meanings: 82574 GbE Controller Family Datasheet, chapter 10 (register
 * descriptions); the PHY's are those of IEEE 802.3, clause 22.
 */
#ifndef GODWIT_E1000E_REGISTERS_H
#define GODWIT_E1000E_REGISTERS_H

#include <linux/bits.h>
#include <linux/types.h>

#define REG_CTRL 0x0000
#define REG_STATUS 0x0008
#define REG_EECD 0x0010
#define REG_EERD 0x0014
#define REG_MDIC 0x0020
#define REG_ICR 0x00c0
#define REG_ITR 0x00c4
#define REG_ICS 0x00c8
#define REG_IMS 0x00d0
#define REG_IMC 0x00d8
#define REG_EITR(n) (0x00e8 + 4 * (n))
#define REG_RCTL 0x0100
#define REG_TCTL 0x0400
#define REG_RDTR 0x2820
#define REG_TDFPC 0x3430
#define REG_TIDV 0x3820
#define REG_SWSM 0x5b50

#define REGISTERS_SIZE 0x20000 /* BAR 0 */
#define MSIX_VECTORS 5

#define CTRL_GIO_MASTER_DISABLE BIT(2)
#define CTRL_RST BIT(26)
#define CTRL_PHY_RST BIT(31)
#define STATUS_GIO_MASTER_ENABLE BIT(19)
#define STATUS_LINK (BIT(0) | BIT(1) | BIT(6) | BIT(7)) /* duplex, up, speed */
#define EECD_AUTO_RD BIT(9)
#define EERD_START BIT(0)
#define EERD_DONE BIT(1)
#define EERD_ADDRESS 0x0000fffcu
#define MDIC_DATA 0x0000ffffu
#define MDIC_WHERE 0x03ff0000u /* register and PHY */
#define MDIC_PHY_1 BIT(21)
#define MDIC_REGISTER(n) ((u32)(n) << 16)
#define MDIC_WRITE BIT(26)
#define MDIC_READ BIT(27)
#define MDIC_READY BIT(28)
#define MDIC_ERROR BIT(30)
#define ICR_LSC BIT(2)
#define ICR_ASSERTED BIT(31)
#define RCTL_EN BIT(1)
#define TCTL_EN BIT(1)
#define DELAY_FLUSH BIT(31) /* RDTR.FPD, TIDV.FPD */

#define PHY_BMCR 0
#define BMCR_RESTART BIT(9)
#define BMCR_RESET BIT(15)

/* What cannot simply be read and written back: card.c has the code of each. They stand first in
 * the saved values, in this order. */
enum {
	HELD_CTRL,
	HELD_STATUS, /* never written: compared, as the link is the host's own */
	HELD_RCTL,
	HELD_TCTL,
	HELD_IMS,
	HELD_ICS, /* the causes that are pending; reads as ICR without clearing it */
	HELD_EERD,
	HELD_MDIC,
	HELD_SWSM,
	HELD_COUNT
};
extern const u16 held_registers[HELD_COUNT];

/* All else, in the order in which it is written back. */
struct register_range {
	u16 offset, count, stride;
	u16 flags;
	u32 mask; /* only these bits are the guest's; 0: all of them */
};
#define RANGE_EXACT 1 /* has to read as it was written, or the card has not taken its state */

extern const struct register_range register_ranges[];
extern const unsigned int register_range_count;

/* The PHY's registers, which are reached through MDIC. */
extern const u8 phy_registers[];
extern const unsigned int phy_register_count;

/* How many values that makes in all. */
unsigned int register_values(void);

#endif
