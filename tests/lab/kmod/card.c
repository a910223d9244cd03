// SPDX-License-Identifier: GPL-2.0-only
#include "card.h"

#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/iopoll.h>
#include <linux/pci.h>

#define MAGIC 0x45575247 /* "GRWE" */
#define VERSION 1

#define POLL_US 50
#define DRAIN_US 40000   /* the packet buffer at 10 Mb/s */
#define MASTER_US 100000 /* a completion times out after 50 ms at most (PCI Express, 2.8) */
#define AUTO_READ_US 50000
#define MDIC_US 10000
#define THROTTLE_NS 256 /* the unit of ITR and EITR (10.2.4) */

static u32 get(struct card *card, u32 offset)
{
	return ioread32(card->io + offset);
}

static void put(struct card *card, u32 offset, u32 value)
{
	iowrite32(value, card->io + offset);
}

static struct pci_dev *pdev_of(struct card *card)
{
	return card->core->pdev;
}

/* ---- the window ------------------------------------------------------------------------------ */

static void window_close(struct card *card)
{
	if (!(card->command & PCI_COMMAND_MEMORY))
		pci_write_config_word(pdev_of(card), PCI_COMMAND, card->command);
	up_write(&card->core->memory_lock);
}

/* memory_lock is what vfio_pci_core takes around each reset, and around each change of the command
 * register's memory bit. */
static int window_open(struct card *card)
{
	struct pci_dev *pdev = pdev_of(card);

	down_write(&card->core->memory_lock);
	if (pdev->current_state >= PCI_D3hot) {
		up_write(&card->core->memory_lock);
		return -EBUSY;
	}
	pci_read_config_word(pdev, PCI_COMMAND, &card->command);
	if (!(card->command & PCI_COMMAND_MEMORY))
		pci_write_config_word(pdev, PCI_COMMAND, card->command | PCI_COMMAND_MEMORY);
	/* A card that has fallen off its bus reads as ones. */
	if (get(card, REG_STATUS) != ~0u)
		return 0;
	window_close(card);
	return -EIO;
}

/* ---- stopping and running -------------------------------------------------------------------- */

/* How long an interrupt may be held back by throttling. */
static u32 throttle_us(struct card *card)
{
	u32 longest = get(card, REG_ITR) & 0xffff;

	for (int i = 0; i < MSIX_VECTORS; i++)
		longest = max(longest, get(card, REG_EITR(i)) & 0xffff);
	return longest * THROTTLE_NS / 1000;
}

/* Causes that a delay timer or throttling holds back are in no register: they have to come out.
 * They still reach the guest as interrupts, as nothing is masked yet. */
static void let_out_interrupts(struct card *card)
{
	u32 wait = throttle_us(card) + 500;

	put(card, REG_RDTR, (get(card, REG_RDTR) & 0xffff) | DELAY_FLUSH);
	put(card, REG_TIDV, (get(card, REG_TIDV) & 0xffff) | DELAY_FLUSH);
	/* The throttle starts anew with what comes out, hence twice. */
	usleep_range(2 * wait, 2 * wait + 500);
}

/* No request of the card's is under way once STATUS says so (82574: GIO Master Disable). */
static int stop_master(struct card *card)
{
	u32 status;

	put(card, REG_CTRL, get(card, REG_CTRL) | CTRL_GIO_MASTER_DISABLE);
	return read_poll_timeout(ioread32, status, !(status & STATUS_GIO_MASTER_ENABLE), POLL_US,
	                         MASTER_US, false, card->io + REG_STATUS);
}

static void give_back(struct card *card)
{
	put(card, REG_CTRL, card->held[HELD_CTRL] & ~(CTRL_RST | CTRL_PHY_RST));
	put(card, REG_TCTL, card->held[HELD_TCTL]);
	put(card, REG_RCTL, card->held[HELD_RCTL]);
	put(card, REG_IMS, card->held[HELD_IMS]);
	/* Reading anything makes the writes arrive. */
	get(card, REG_STATUS);
}

static int drain(struct card *card)
{
	u32 packets;
	int ret;

	put(card, REG_RCTL, card->held[HELD_RCTL] & ~RCTL_EN);
	put(card, REG_TCTL, card->held[HELD_TCTL] & ~TCTL_EN);
	/* A frame that was fetched and not sent would never be reported as sent. */
	ret = read_poll_timeout(ioread32, packets, !packets, POLL_US, DRAIN_US, false,
	                        card->io + REG_TDFPC);
	if (ret)
		return -EBUSY;
	let_out_interrupts(card);
	card->held[HELD_IMS] = get(card, REG_IMS);
	put(card, REG_IMC, ~0u);
	return stop_master(card);
}

int card_stop(struct card *card)
{
	int ret = window_open(card);

	if (ret)
		return ret;
	card->held[HELD_CTRL] = get(card, REG_CTRL);
	card->held[HELD_RCTL] = get(card, REG_RCTL);
	card->held[HELD_TCTL] = get(card, REG_TCTL);
	card->held[HELD_IMS] = get(card, REG_IMS);
	ret = drain(card);
	if (ret)
		give_back(card);
	window_close(card);
	return ret;
}

int card_run(struct card *card)
{
	int ret = window_open(card);

	if (ret)
		return ret;
	give_back(card);
	window_close(card);
	return 0;
}

/* ---- the PHY --------------------------------------------------------------------------------- */

static int mdic(struct card *card, u32 command, u16 *value)
{
	u32 reply;
	int ret;

	put(card, REG_MDIC, command | MDIC_PHY_1);
	ret = read_poll_timeout(ioread32, reply, reply & MDIC_READY, POLL_US, MDIC_US, false,
	                        card->io + REG_MDIC);
	if (ret || reply & MDIC_ERROR)
		return -EIO;
	*value = reply & MDIC_DATA;
	return 0;
}

static int phy_get(struct card *card, u8 which, u16 *value)
{
	return mdic(card, MDIC_READ | MDIC_REGISTER(which), value);
}

static int phy_put(struct card *card, u8 which, u16 value)
{
	return mdic(card, MDIC_WRITE | MDIC_REGISTER(which) | value, &value);
}

/* Only what differs is written, and negotiation is not begun anew: the link is up, and the guest
 * shall not see it go down. */
static int phy_load(struct card *card, u8 which, u16 wanted)
{
	u16 now;
	int ret = phy_get(card, which, &now);

	if (which == PHY_BMCR)
		wanted &= ~(BMCR_RESTART | BMCR_RESET);
	if (ret || now == wanted)
		return ret;
	return phy_put(card, which, wanted);
}

/* A guest may have been stopped between its request to MDIC or EERD and the reading of the answer:
 * the same register is read again, so that it finds one. */
static void answer_mdic(struct card *card, u32 was)
{
	u16 unused;

	if (was & MDIC_READY)
		mdic(card, MDIC_READ | (was & MDIC_WHERE), &unused);
}

static void answer_eerd(struct card *card, u32 was)
{
	if (was & EERD_DONE)
		put(card, REG_EERD, (was & EERD_ADDRESS) | EERD_START);
}

/* ---- saving ---------------------------------------------------------------------------------- */

size_t card_state_size(void)
{
	return sizeof(struct card_state) + register_values() * sizeof(__le32);
}

static u32 sum_of(const struct card_state *state, size_t length)
{
	const size_t from = offsetofend(struct card_state, sum);

	return crc32_le(~0u, (const u8 *)state + from, length - from);
}

static void fill_head(struct card *card, struct card_state *state)
{
	const struct pci_dev *pdev = pdev_of(card);

	state->magic = cpu_to_le32(MAGIC);
	state->version = cpu_to_le32(VERSION);
	state->length = cpu_to_le32(card_state_size());
	state->vendor = cpu_to_le16(pdev->vendor);
	state->device = cpu_to_le16(pdev->device);
	state->subsystem_vendor = cpu_to_le16(pdev->subsystem_vendor);
	state->subsystem = cpu_to_le16(pdev->subsystem_device);
	state->revision = cpu_to_le32(pdev->revision);
	state->values = cpu_to_le32(register_values());
}

static __le32 *save_held(struct card *card, __le32 *to)
{
	u32 *held = card->held;

	held[HELD_STATUS] = get(card, REG_STATUS);
	held[HELD_ICS] = get(card, REG_ICS);
	held[HELD_EERD] = get(card, REG_EERD);
	held[HELD_MDIC] = get(card, REG_MDIC);
	/* Reading it takes the semaphore: put it as it was. */
	held[HELD_SWSM] = get(card, REG_SWSM);
	put(card, REG_SWSM, held[HELD_SWSM]);
	for (int i = 0; i < HELD_COUNT; i++)
		*to++ = cpu_to_le32(held[i]);
	return to;
}

static __le32 *save_ranges(struct card *card, __le32 *to)
{
	for (unsigned int i = 0; i < register_range_count; i++) {
		const struct register_range *r = &register_ranges[i];

		for (unsigned int n = 0; n < r->count; n++)
			*to++ = cpu_to_le32(get(card, r->offset + n * r->stride));
	}
	return to;
}

/* Somebody reached into a card that stood still: what would be saved is not what was stopped. */
static bool still(struct card *card)
{
	return !(get(card, REG_RCTL) & RCTL_EN) && !(get(card, REG_TCTL) & TCTL_EN) &&
	       !get(card, REG_IMS);
}

static int save_in_window(struct card *card, struct card_state *state)
{
	__le32 *to = state->value;
	u16 value = 0;
	int ret = 0;

	if (!still(card))
		return -EIO;
	to = save_held(card, to);
	to = save_ranges(card, to);
	for (unsigned int i = 0; i < phy_register_count && !ret; i++) {
		ret = phy_get(card, phy_registers[i], &value);
		*to++ = cpu_to_le32(value);
	}
	answer_mdic(card, card->held[HELD_MDIC]);
	return ret;
}

int card_save(struct card *card, struct card_state *state)
{
	int ret = window_open(card);

	if (ret)
		return ret;
	fill_head(card, state);
	ret = save_in_window(card, state);
	window_close(card);
	state->sum = cpu_to_le32(sum_of(state, card_state_size()));
	return ret;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Loading begins from what a reset leaves, so that nothing of an earlier guest shines through; and
 * heads of rings may be written after a reset only. */
int card_reset(struct card *card)
{
	u32 eecd;
	int ret = window_open(card);

	if (ret)
		return ret;
	put(card, REG_IMC, ~0u);
	put(card, REG_RCTL, 0);
	put(card, REG_TCTL, 0);
	ret = stop_master(card);
	if (!ret) {
		put(card, REG_CTRL, get(card, REG_CTRL) | CTRL_RST);
		/* No access for a millisecond; the PHY is set up within 25. */
		msleep(25);
		if (read_poll_timeout(ioread32, eecd, eecd & EECD_AUTO_RD, POLL_US, AUTO_READ_US,
		                      false, card->io + REG_EECD))
			ret = -EIO;
	}
	put(card, REG_IMC, ~0u);
	get(card, REG_ICR);
	window_close(card);
	return ret;
}

static const char *what_is_wrong(struct card *card, const struct card_state *state, size_t length)
{
	const struct pci_dev *pdev = pdev_of(card);

	if (length < sizeof(*state))
		return "it is too short";
	if (le32_to_cpu(state->magic) != MAGIC)
		return "it is of another driver";
	if (le32_to_cpu(state->version) != VERSION)
		return "it is of another version";
	if (le32_to_cpu(state->length) != length || length != card_state_size() ||
	    le32_to_cpu(state->values) != register_values())
		return "its length is wrong";
	if (le32_to_cpu(state->sum) != sum_of(state, length))
		return "its checksum is wrong";
	if (le16_to_cpu(state->vendor) != pdev->vendor ||
	    le16_to_cpu(state->device) != pdev->device ||
	    le16_to_cpu(state->subsystem_vendor) != pdev->subsystem_vendor ||
	    le16_to_cpu(state->subsystem) != pdev->subsystem_device ||
	    le32_to_cpu(state->revision) != pdev->revision)
		return "it is of another card";
	return NULL;
}

static int load_range(struct card *card, const struct register_range *r, const __le32 *from)
{
	for (unsigned int n = 0; n < r->count; n++) {
		u32 offset = r->offset + n * r->stride, value = le32_to_cpu(from[n]), now;

		if (r->mask)
			value = (get(card, offset) & ~r->mask) | (value & r->mask);
		put(card, offset, value);
		if (!(r->flags & RANGE_EXACT))
			continue;
		now = get(card, offset);
		if (now != value) {
			pci_err(pdev_of(card), "register 0x%04x is 0x%08x and not 0x%08x\n", offset,
			        now, value);
			return -EIO;
		}
	}
	return 0;
}

/* What was pending is pending again; it becomes an interrupt when card_run gives the mask back. */
static void load_causes(struct card *card)
{
	u32 causes = card->held[HELD_ICS] & ~ICR_ASSERTED;

	/* The link is this host's, and may be another than the guest knows. */
	if ((get(card, REG_STATUS) ^ card->held[HELD_STATUS]) & STATUS_LINK)
		causes |= ICR_LSC;
	put(card, REG_ICS, causes);
}

static int load_in_window(struct card *card, const struct card_state *state)
{
	const __le32 *from = state->value;
	int ret = 0;

	for (int i = 0; i < HELD_COUNT; i++)
		card->held[i] = le32_to_cpu(*from++);
	put(card, REG_CTRL,
	    (card->held[HELD_CTRL] & ~(CTRL_RST | CTRL_PHY_RST)) | CTRL_GIO_MASTER_DISABLE);
	for (unsigned int i = 0; i < register_range_count && !ret; i++) {
		ret = load_range(card, &register_ranges[i], from);
		from += register_ranges[i].count;
	}
	for (unsigned int i = 0; i < phy_register_count && !ret; i++)
		ret = phy_load(card, phy_registers[i], le32_to_cpu(*from++));
	answer_mdic(card, card->held[HELD_MDIC]);
	answer_eerd(card, card->held[HELD_EERD]);
	put(card, REG_SWSM, card->held[HELD_SWSM]);
	load_causes(card);
	return ret;
}

int card_load(struct card *card, const struct card_state *state, size_t length)
{
	const char *wrong = what_is_wrong(card, state, length);
	int ret;

	if (wrong) {
		pci_err(pdev_of(card), "a state of %zu bytes is refused: %s\n", length, wrong);
		return -EINVAL;
	}
	ret = window_open(card);
	if (ret)
		return ret;
	ret = load_in_window(card, state);
	window_close(card);
	return ret;
}
