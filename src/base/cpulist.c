/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cpulist.h"

#include <ctype.h>
#include <string.h>

static bool take_number(const char **at, unsigned *out)
{
	unsigned value = 0;

	if (!isdigit((unsigned char)**at))
		return false;
	for (; isdigit((unsigned char)**at); (*at)++) {
		value = value * 10 + (unsigned)(**at - '0');
		if (value >= CPULIST_MAX)
			return false;
	}
	*out = value;
	return true;
}

bool cpulist_parse(const char *text, struct cpulist *out)
{
	memset(out, 0, sizeof(*out));
	for (;;) {
		unsigned first, last;

		if (!take_number(&text, &first))
			return false;
		last = first;
		if (*text == '-') {
			text++;
			if (!take_number(&text, &last) || last < first)
				return false;
		}
		for (unsigned n = first; n <= last; n++)
			out->bits[n / 64] |= 1ull << n % 64;
		if (!*text)
			return true;
		if (*text++ != ',')
			return false;
	}
}

bool cpulist_has(const struct cpulist *list, unsigned n)
{
	return n < CPULIST_MAX && list->bits[n / 64] >> n % 64 & 1;
}

int cpulist_first_outside(const struct cpulist *list, const struct cpulist *of)
{
	for (unsigned n = 0; n < CPULIST_MAX; n++)
		if (cpulist_has(list, n) && !cpulist_has(of, n))
			return (int)n;
	return -1;
}
