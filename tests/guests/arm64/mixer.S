/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mixes registers (general and vector) and 8 MiB of memory for ROUNDS rounds,
 * prints a checksum of all of them and powers off. What it prints depends on
 * nothing but ROUNDS: saved and restored anywhere in between, it is the same.
 */
#ifndef ROUNDS
#define ROUNDS 20000000
#endif
#define BASE 0x40400000
#define MASK 0x7ffff8		/* 8 MiB, in words of 8 bytes */

	.text
	.globl main
main:
	mov	w0, #'S'
	bl	print_char
	mov	w0, #10
	bl	print_char
	/* Memory is what it was before a reset, so it begins as zeroes. */
	ldr	x20, =BASE
	mov	x1, x20
	mov	x2, #(MASK + 8)
1:	stp	xzr, xzr, [x1], #16
	subs	x2, x2, #16
	b.ne	1b
	ldr	x5, =0x9e3779b97f4a7c15
	ldr	x6, =0x5851f42d4c957f2d
	mov	x8, #1
	mov	x9, #2
	mov	x10, #3
	mov	x11, #4
	mov	x12, #5
	mov	x13, #6
	mov	x14, #7
	mov	x15, #8
	ldr	w19, =ROUNDS
	ldr	w21, =MASK
	fmov	d8, x5
	fmov	d9, xzr
	fmov	d10, #1.0
	movi	v31.2d, #0

round:	mul	x5, x5, x6
	add	x5, x5, x19
	eor	x8, x8, x5
	add	x9, x9, x8
	ror	x9, x9, #57
	eor	x10, x10, x9
	sub	x11, x11, x10
	ror	x11, x11, #11
	add	x12, x12, x11
	eor	x13, x13, x12
	add	x14, x14, x13
	ror	x14, x14, #61
	eor	x15, x15, x14
	/* one word of memory, chosen by the state */
	and	x16, x15, x21
	ldr	x17, [x20, x16]
	add	x17, x17, x14
	str	x17, [x20, x16]
	add	x8, x8, x17
	/* vector registers */
	fmov	d9, x17
	add	v8.2d, v8.2d, v9.2d
	eor	v31.16b, v31.16b, v8.16b
	subs	w19, w19, #1
	b.ne	round

	/* a number with a point: 1.0 must still be there */
	fcvtzu	x0, d10
	add	x0, x0, x8
	add	x0, x0, x9
	add	x0, x0, x15
	fmov	x1, d31
	add	x0, x0, x1
	/* and all memory */
	mov	x1, x20
	mov	x2, #(MASK + 8)
1:	ror	x0, x0, #59
	ldr	x3, [x1], #8
	add	x0, x0, x3
	subs	x2, x2, #8
	b.ne	1b
	bl	print_hex
	b	power_off
