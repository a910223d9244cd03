/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <time.h>

static int64_t read_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000ll + ts.tv_nsec / 1000;
}

int64_t now_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t now_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

int64_t wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}
