/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints how fast this machine's time stamp counter counts, in kHz, by CLOCK_MONOTONIC. Emulated
 * x86 CPUs have the same counter; a kernel on them that measures it itself measures how busy this
 * machine is, too.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 1000
#define APART_NS 100000000

/* Counter and clock at one moment, in ns. */
struct moment {
	uint64_t tsc, ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Of many readings the one with the clock read soonest between two of the counter. */
static struct moment look(void)
{
	struct moment best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		const uint64_t before = __rdtsc(), ns = now_ns(), after = __rdtsc();

		if (after - before >= shortest)
			continue;
		shortest = after - before;
		best = (struct moment){ before + (after - before) / 2, ns };
	}
	return best;
}

int main(void)
{
	const struct timespec apart = { .tv_nsec = APART_NS };
	struct moment first = look(), last;

	nanosleep(&apart, NULL);
	last = look();
	printf("%.0f\n", (double)(last.tsc - first.tsc) * 1e6 / (double)(last.ns - first.ns));
	return 0;
}
