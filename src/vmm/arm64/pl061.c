/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/pl061.h"

#include "vmm/arm64/primecell.h"

/* Data registers fill the first KiB: bits 2 to 9 of the address are the mask of the pins. */
enum {
	GPIO_DATA_END = 0x400,
	GPIO_DIRECTION = 0x400,
	GPIO_LEVEL = 0x404,
	GPIO_BOTH = 0x408,
	GPIO_HIGH = 0x40c,
	GPIO_ENABLE = 0x410,
	GPIO_RAW = 0x414,
	GPIO_MASKED = 0x418,
	GPIO_CLEAR = 0x41c,
	GPIO_MODE = 0x420,
};
#define PART 0x061

static uint8_t pins(const struct pl061 *g)
{
	return (uint8_t)((g->inputs & ~g->direction) | (g->outputs & g->direction));
}

static uint8_t raw(const struct pl061 *g)
{
	const uint8_t active = (uint8_t) ~(pins(g) ^ g->high);

	return (uint8_t)((g->edges & ~g->level) | (active & g->level));
}

bool pl061_line(const struct pl061 *g)
{
	return raw(g) & g->enable;
}

/* Edges count for pins that look for them, whether or not their interrupt is let through. */
static void see_edges(struct pl061 *g, uint8_t before)
{
	const uint8_t changed = before ^ pins(g);
	const uint8_t wanted = (uint8_t)(g->both | ~(pins(g) ^ g->high));

	g->edges |= (uint8_t)(changed & wanted & ~g->level);
}

void pl061_reset(struct pl061 *g)
{
	*g = (struct pl061){ .inputs = g->inputs };
}

void pl061_set_pin(struct pl061 *g, unsigned pin, bool high)
{
	const uint8_t before = pins(g), bit = (uint8_t)(1u << pin);

	g->inputs = high ? g->inputs | bit : g->inputs & (uint8_t)~bit;
	see_edges(g, before);
}

uint8_t pl061_read(const struct pl061 *g, uint64_t offset)
{
	if (offset < GPIO_DATA_END)
		return pins(g) & (uint8_t)(offset >> 2);
	if (offset >= PRIMECELL_ID)
		return primecell_id(PART, offset);
	switch (offset) {
	case GPIO_DIRECTION:
		return g->direction;
	case GPIO_LEVEL:
		return g->level;
	case GPIO_BOTH:
		return g->both;
	case GPIO_HIGH:
		return g->high;
	case GPIO_ENABLE:
		return g->enable;
	case GPIO_RAW:
		return raw(g);
	case GPIO_MASKED:
		return raw(g) & g->enable;
	case GPIO_MODE:
		return g->mode;
	default:
		return 0;
	}
}

void pl061_write(struct pl061 *g, uint64_t offset, uint8_t value)
{
	const uint8_t before = pins(g), mask = (uint8_t)(offset >> 2);

	if (offset < GPIO_DATA_END) {
		g->outputs = (uint8_t)((g->outputs & ~mask) | (value & mask));
		see_edges(g, before);
		return;
	}
	switch (offset) {
	case GPIO_DIRECTION:
		g->direction = value;
		see_edges(g, before);
		break;
	case GPIO_LEVEL:
		g->level = value;
		break;
	case GPIO_BOTH:
		g->both = value;
		break;
	case GPIO_HIGH:
		g->high = value;
		break;
	case GPIO_ENABLE:
		g->enable = value;
		break;
	case GPIO_CLEAR:
		g->edges &= (uint8_t)~value;
		break;
	case GPIO_MODE:
		g->mode = value;
		break;
	default: /* the others cannot be written */
		break;
	}
}
