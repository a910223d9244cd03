/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirties memory for ever: in each generation writes the generation's number
 * to every page of PAGES, in order, and then to the word at COUNTER. So at any
 * instant pages hold the generation g up to some page, and g - 1 from there on,
 * and the counter says g - 1: whoever looks at a stopped guest can tell whether
 * a write was lost.
 */
#define BASE 0x42000000		/* 32 MiB into RAM */
#define PAGES 16384		/* 64 MiB */
#define COUNTER 0x41ff0000

	.text
	.globl main
main:
	mov	w0, #'S'
	bl	print_char
	mov	w0, #10
	bl	print_char
	mov	x10, #0
	ldr	x13, =COUNTER
next:	add	x10, x10, #1
	ldr	x11, =BASE
	ldr	w12, =PAGES
1:	str	x10, [x11]
	add	x11, x11, #4096
	subs	w12, w12, #1
	b.ne	1b
	str	x10, [x13]
	b	next
