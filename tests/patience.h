/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long tests wait. GODWIT_PATIENCE in the environment is a whole number by which all of it is
 * multiplied, for machines that are slow or have much else to do.
 */
#ifndef TESTS_PATIENCE_H
#define TESTS_PATIENCE_H

#include "base/util.h"

#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MAX 1000

/* The longest that a test waits for something that has to come. */
static inline int patience_ms(void)
{
	const char *text = getenv("GODWIT_PATIENCE");
	char *end = NULL;
	const long factor = text ? strtol(text, &end, 10) : 1;

	if (text && (end == text || *end || factor < 1 || factor > PATIENCE_MAX))
		return 60000;
	return (int)factor * 60000;
}

/* The longest that a whole test may take: it waits several times, one after the other. */
static inline unsigned patience_test_s(void)
{
	return (unsigned)patience_ms() / 1000 * 5;
}

/* Does `turn` until `condition` is true; ends the test with these words when it has not become so.
 */
#define wait_turning(condition, turn, ...)                                                         \
	do {                                                                                       \
		const int64_t wait_end_ = now_ms() + patience_ms();                                \
                                                                                                   \
		while (!(condition)) {                                                             \
			cr_assert(now_ms() < wait_end_, __VA_ARGS__);                              \
			turn;                                                                      \
		}                                                                                  \
	} while (0)

/* The same, while others do what makes it true. */
#define wait_until(condition) wait_turning(condition, usleep(1000), "never so: %s", #condition)

#endif
