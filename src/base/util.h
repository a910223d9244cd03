/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that every file needs: cleanup attributes, arithmetic, time. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* Each argument is evaluated once: now_ms() asked twice gives two answers. */
#define MIN(a, b)                                                                                  \
	({                                                                                         \
		const __typeof__(a) min_a_ = (a);                                                  \
		const __typeof__(b) min_b_ = (b);                                                  \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		const __typeof__(a) max_a_ = (a);                                                  \
		const __typeof__(b) max_b_ = (b);                                                  \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})
#define ALIGN_UP(v, a) (((v) + (a)-1) & ~((__typeof__(v))(a)-1))
#define ALIGN_DOWN(v, a) ((v) & ~((__typeof__(v))(a)-1))
#define DIV_ROUND_UP(v, d) (((v) + (d)-1) / (d))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define PAGE_SIZE 4096ull
#define PAGE_SHIFT 12

/* The architecture built for, by ELF's numbers. */
#ifdef __x86_64__
#define HOST_ELF_MACHINE 62
#else
#define HOST_ELF_MACHINE 183
#endif

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* free() at the end of the scope. */
#define autofree __attribute__((cleanup(cleanup_free)))
/* close() at the end of the scope, if >= 0. */
#define autoclose __attribute__((cleanup(cleanup_fd)))

/* Gives what an autofree or autoclose variable holds to somebody else. */
static inline void *take_ptr(void *pp)
{
	void *p = *(void **)pp;

	*(void **)pp = NULL;
	return p;
}

static inline int take_fd(int *fdp)
{
	int fd = *fdp;

	*fdp = -1;
	return fd;
}

/* Monotonic and wall clock. */
int64_t now_ms(void);
int64_t now_us(void);
int64_t wall_us(void);

/* a + b and a * b into *out; true if they do not fit. */
#define add_overflows(a, b, out) __builtin_add_overflow(a, b, out)
#define mul_overflows(a, b, out) __builtin_mul_overflow(a, b, out)

#endif
