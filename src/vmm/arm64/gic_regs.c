/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controller's registers: which there are, and in which order
 * they are set.
 *
 * Registers with bits that only set come with the one that clears, so that
 * what was set before goes. Configuration comes before what is pending, since
 * an edge that is pending and a level that is high are told apart by it; a
 * redistributor's tables come before the bit that makes it use them; the line
 * levels come after that, and activity and enabling last.
 */
#include "vmm/arm64/gic.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"

#define PRIVATE_INTIDS 32

#define DIST KVM_DEV_ARM_VGIC_GRP_DIST_REGS
#define REDIST KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
#define LEVEL KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO
#define CPU2 KVM_DEV_ARM_VGIC_GRP_CPU_REGS
#define CPU3 KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS

/* A system register as the attribute has it. */
#define SYS(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
/* The second frame of a redistributor, which has what is an interrupt's. */
#define SGI(offset) (0x10000 + (offset))

/* A register, or those that have some bits for each interrupt. */
struct row {
	const char *name;
	uint8_t group;
	uint8_t bits; /* for each interrupt; 0: it is one register */
	uint32_t attr, clear;
	bool zero_first, optional;
	uint32_t kind;
};

#define ONE(name, group, attr)                                                                     \
	{                                                                                          \
		name, group, 0, attr, 0, false, false, 0                                           \
	}
#define ZERO_FIRST(name, group, attr)                                                              \
	{                                                                                          \
		name, group, 0, attr, 0, true, false, 0                                            \
	}
#define EACH(name, group, bits, attr)                                                              \
	{                                                                                          \
		name, group, bits, attr, 0, false, false, 0                                        \
	}
#define SETS(name, group, attr, clear)                                                             \
	{                                                                                          \
		name, group, 1, attr, clear, false, false, 0                                       \
	}
#define SYSTEM(name, attr)                                                                         \
	{                                                                                          \
		name, CPU3, 0, attr, 0, false, false, 0                                            \
	}
#define PERHAPS(name, attr)                                                                        \
	{                                                                                          \
		name, CPU3, 0, attr, 0, false, true, 0                                             \
	}

/* ICC_CTLR_EL1 says how many priorities and interrupts there are; of it CBPR, EOImode and PMHE are
 * the guest's. KVM takes fewer priorities, and then never more again. */
#define ICC_CTLR_KIND (~0x43u)

/* IHI 0069, 12.8. The implementer's revision comes first: KVM behaves as that one did. */
static const struct row v3_shared[] = {
	{ "GICD_IIDR", DIST, 0, 0x0008, 0, false, false, UINT32_MAX },
	ONE("GICD_CTLR", DIST, 0x0000),
	EACH("GICD_IGROUPR", DIST, 1, 0x0080),
	EACH("GICD_ICFGR", DIST, 2, 0x0c00),
	EACH("GICD_IPRIORITYR", DIST, 8, 0x0400),
	EACH("GICD_IROUTER", DIST, 64, 0x6000),
	SETS("GICD_ISPENDR", DIST, 0x0200, 0x0280),
	EACH("line levels", LEVEL, 1, 0),
	SETS("GICD_ISACTIVER", DIST, 0x0300, 0x0380),
	SETS("GICD_ISENABLER", DIST, 0x0100, 0x0180),
};

/* IHI 0069, 12.10 and 12.11 (redistributor), 12.2 (CPU interface). The tables' addresses can be set
 * only while LPIs are off. */
static const struct row v3_own[] = {
	ONE("GICR_WAKER", REDIST, 0x0014),
	ONE("GICR_PROPBASER", REDIST, 0x0070),
	ONE("GICR_PROPBASER, upper half", REDIST, 0x0074),
	ONE("GICR_PENDBASER", REDIST, 0x0078),
	ONE("GICR_PENDBASER, upper half", REDIST, 0x007c),
	ZERO_FIRST("GICR_CTLR", REDIST, 0x0000),
	EACH("GICR_IGROUPR0", REDIST, 1, SGI(0x0080)),
	EACH("GICR_ICFGR", REDIST, 2, SGI(0x0c00)),
	EACH("GICR_IPRIORITYR", REDIST, 8, SGI(0x0400)),
	SETS("GICR_ISPENDR0", REDIST, SGI(0x0200), SGI(0x0280)),
	EACH("line levels", LEVEL, 1, 0),
	SETS("GICR_ISACTIVER0", REDIST, SGI(0x0300), SGI(0x0380)),
	SETS("GICR_ISENABLER0", REDIST, SGI(0x0100), SGI(0x0180)),
	SYSTEM("ICC_SRE_EL1", SYS(3, 0, 12, 12, 5)),
	{ "ICC_CTLR_EL1", CPU3, 0, SYS(3, 0, 12, 12, 4), 0, false, false, ICC_CTLR_KIND },
	SYSTEM("ICC_PMR_EL1", SYS(3, 0, 4, 6, 0)),
	SYSTEM("ICC_BPR0_EL1", SYS(3, 0, 12, 8, 3)),
	SYSTEM("ICC_BPR1_EL1", SYS(3, 0, 12, 12, 3)),
	SYSTEM("ICC_AP0R0_EL1", SYS(3, 0, 12, 8, 4)),
	PERHAPS("ICC_AP0R1_EL1", SYS(3, 0, 12, 8, 5)),
	PERHAPS("ICC_AP0R2_EL1", SYS(3, 0, 12, 8, 6)),
	PERHAPS("ICC_AP0R3_EL1", SYS(3, 0, 12, 8, 7)),
	SYSTEM("ICC_AP1R0_EL1", SYS(3, 0, 12, 9, 0)),
	PERHAPS("ICC_AP1R1_EL1", SYS(3, 0, 12, 9, 1)),
	PERHAPS("ICC_AP1R2_EL1", SYS(3, 0, 12, 9, 2)),
	PERHAPS("ICC_AP1R3_EL1", SYS(3, 0, 12, 9, 3)),
	SYSTEM("ICC_IGRPEN0_EL1", SYS(3, 0, 12, 12, 6)),
	SYSTEM("ICC_IGRPEN1_EL1", SYS(3, 0, 12, 12, 7)),
};

/* IHI 0048, 4.3 (distributor) and 4.4 (CPU interface). */
static const struct row v2_shared[] = {
	{ "GICD_IIDR", DIST, 0, 0x008, 0, false, false, UINT32_MAX },
	ONE("GICD_CTLR", DIST, 0x000),
	EACH("GICD_IGROUPR", DIST, 1, 0x080),
	EACH("GICD_ICFGR", DIST, 2, 0xc00),
	EACH("GICD_IPRIORITYR", DIST, 8, 0x400),
	EACH("GICD_ITARGETSR", DIST, 8, 0x800),
	SETS("GICD_ISPENDR", DIST, 0x200, 0x280),
	SETS("GICD_ISACTIVER", DIST, 0x300, 0x380),
	SETS("GICD_ISENABLER", DIST, 0x100, 0x180),
};

/* The first 32 interrupts are in registers that each CPU has of its own; the pending SGIs also say
 * whose they are. */
static const struct row v2_own[] = {
	EACH("GICD_IGROUPR0", DIST, 1, 0x080),
	EACH("GICD_ICFGR", DIST, 2, 0xc00),
	EACH("GICD_IPRIORITYR", DIST, 8, 0x400),
	SETS("GICD_ISPENDR0", DIST, 0x200, 0x280),
	{ "GICD_SPENDSGIR0", DIST, 0, 0xf20, 0xf10, false, false, 0 },
	{ "GICD_SPENDSGIR1", DIST, 0, 0xf24, 0xf14, false, false, 0 },
	{ "GICD_SPENDSGIR2", DIST, 0, 0xf28, 0xf18, false, false, 0 },
	{ "GICD_SPENDSGIR3", DIST, 0, 0xf2c, 0xf1c, false, false, 0 },
	SETS("GICD_ISACTIVER0", DIST, 0x300, 0x380),
	SETS("GICD_ISENABLER0", DIST, 0x100, 0x180),
	ONE("GICC_CTLR", CPU2, 0x00),
	ONE("GICC_PMR", CPU2, 0x04),
	ONE("GICC_BPR", CPU2, 0x08),
	ONE("GICC_ABPR", CPU2, 0x1c),
	ONE("GICC_APR0", CPU2, 0xd0),
};

static const struct {
	const struct row *rows;
	unsigned count;
} tables[2][2] = {
	{ { v2_shared, ARRAY_SIZE(v2_shared) }, { v2_own, ARRAY_SIZE(v2_own) } },
	{ { v3_shared, ARRAY_SIZE(v3_shared) }, { v3_own, ARRAY_SIZE(v3_own) } },
};

/* The registers of a row that has bits for interrupts. Of the line levels the attribute is the
 * first interrupt of 32. */
static unsigned expand(const struct row *row, unsigned first, unsigned end, struct gic_word *out,
                       unsigned room)
{
	const unsigned step = row->bits < 32 ? 32 / row->bits : 1;
	const unsigned words = row->bits == 64 ? 2 : 1;
	unsigned n = 0;

	for (unsigned intid = first; intid < end; intid += step) {
		for (unsigned half = 0; half < words && n < room; half++) {
			const uint32_t at =
			        row->group == LEVEL ? intid : intid * row->bits / 8 + half * 4;

			out[n++] = (struct gic_word){
				.name = row->name,
				.group = row->group,
				.attr = row->attr + at,
				.clear = row->clear ? row->clear + at : 0,
			};
		}
	}
	return n;
}

unsigned gic_words(enum gic_version version, bool per_cpu, unsigned intids,
                   struct gic_word out[GIC_WORDS_MAX])
{
	const struct row *rows = tables[version == GIC_V3][per_cpu].rows;
	const unsigned first = per_cpu ? 0 : PRIVATE_INTIDS;
	const unsigned end = per_cpu ? PRIVATE_INTIDS : intids;
	unsigned n = 0;

	for (unsigned i = 0; i < tables[version == GIC_V3][per_cpu].count; i++) {
		if (rows[i].bits)
			n += expand(&rows[i], first, end, out + n, GIC_WORDS_MAX - n);
		else if (n < GIC_WORDS_MAX)
			out[n++] = (struct gic_word){
				.name = rows[i].name,
				.group = rows[i].group,
				.zero_first = rows[i].zero_first,
				.optional = rows[i].optional,
				.attr = rows[i].attr,
				.clear = rows[i].clear,
				.kind = rows[i].kind,
			};
	}
	return n;
}

/* ---- reading and setting ---- */

static uint64_t attribute(uint32_t upper, uint32_t lower)
{
	return (uint64_t)upper << 32 | lower;
}

/* KVM takes as many bytes as the register is wide; both ends are little-endian. */
static int set_word(int fd, uint32_t upper, const struct gic_word *w, uint32_t attr, uint64_t value)
{
	return attr_set(fd, w->group, attribute(upper, attr), &value);
}

/* KVM puts attributes of memory that it has in place of those that it lacks, so the address of a
 * redistributor's table that nobody has given yet would not stay 0 if that were set. */
static bool is_so_already(int fd, uint32_t upper, const struct gic_word *w, uint64_t value)
{
	uint64_t now = 0;

	return w->group == REDIST && !w->clear &&
	       attr_get(fd, w->group, attribute(upper, w->attr), &now) == 0 && now == value;
}

int gic_words_get(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                  struct gic_values *out, struct gw_error *err)
{
	for (unsigned i = 0; i < count; i++) {
		int r;

		out->value[i] = 0;
		r = attr_get(fd, words[i].group, attribute(upper, words[i].attr), &out->value[i]);
		out->has[i] = r == 0;
		if (r < 0 && !words[i].optional)
			return error_set_sys(err, r, "reading %s (0x%x)", words[i].name,
			                     words[i].attr);
	}
	return 0;
}

int gic_words_set(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                  const struct gic_values *values, struct gw_error *err)
{
	for (unsigned i = 0; i < count; i++)
		if (words[i].zero_first)
			set_word(fd, upper, &words[i], words[i].attr, 0);
	for (unsigned i = 0; i < count; i++) {
		int r = 0;

		if (!values->has[i] || is_so_already(fd, upper, &words[i], values->value[i]))
			continue;
		if (words[i].clear)
			r = set_word(fd, upper, &words[i], words[i].clear, UINT32_MAX);
		if (!r)
			r = set_word(fd, upper, &words[i], words[i].attr, values->value[i]);
		if (r < 0)
			return error_set_sys(err, r, "setting %s (0x%x) to 0x%llx", words[i].name,
			                     words[i].attr, (unsigned long long)values->value[i]);
	}
	return 0;
}

int gic_words_reset(int fd, uint32_t upper, const struct gic_word *words, unsigned count,
                    const struct gic_values *power_on, struct gw_error *err)
{
	struct gic_values values = *power_on, now;
	int r = gic_words_get(fd, upper, words, count, &now, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++) {
		values.has[i] &= now.has[i];
		values.value[i] &= ~(uint64_t)words[i].kind;
		values.value[i] |= now.value[i] & words[i].kind;
	}
	return gic_words_set(fd, upper, words, count, &values, err);
}

/* ---- as bytes ---- */

void gic_words_put(const struct gic_word *words, unsigned count, const struct gic_values *values,
                   struct bytes *out)
{
	for (unsigned i = 0; i < count; i++) {
		if (!values->has[i])
			continue;
		bytes_put32(out, words[i].group);
		bytes_put32(out, words[i].attr);
		bytes_put64(out, values->value[i]);
	}
}

static int find_word(const struct gic_word *words, unsigned count, uint32_t group, uint32_t attr)
{
	for (unsigned i = 0; i < count; i++)
		if (words[i].group == group && words[i].attr == attr)
			return (int)i;
	return -1;
}

int gic_words_take(const struct gic_word *words, unsigned count, const void *buf, size_t len,
                   struct gic_values *out, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };

	*out = (struct gic_values){ 0 };
	while (in.len && !in.failed) {
		const uint32_t group = bytes_take32(&in), attr = bytes_take32(&in);
		const uint64_t value = bytes_take64(&in);
		const int i = find_word(words, count, group, attr);

		if (in.failed || i < 0 || out->has[i])
			return error_set(err, -EINVAL,
			                 "register 0x%x of group %u: not one of this controller's, "
			                 "cut off, or twice there",
			                 attr, group);
		out->value[i] = value;
		out->has[i] = true;
	}
	for (unsigned i = 0; i < count; i++)
		if (!out->has[i] && !words[i].optional)
			return error_set(err, -EINVAL, "%s (0x%x) did not come", words[i].name,
			                 words[i].attr);
	return 0;
}
