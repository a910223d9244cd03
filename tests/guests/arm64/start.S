/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an Image's first instruction to `main`, at EL1 with the MMU on: the
 * first 2 GiB mapped one to one, devices below 1 GiB and memory above. The
 * tables are part of the image, so that nothing is ever written past the
 * caches.
 */
#define SERIAL 0x09000000
#define SYSTEM_OFF 0x84000008		/* PSCI, by HVC */

#define VALID_BLOCK 0x1
#define ATTRIBUTE(n) ((n) << 2)
#define INNER_SHAREABLE (3 << 8)
#define ACCESSED (1 << 10)
#define NEVER_RUN (3 << 53)		/* at EL1, at EL0 */

	.section .head, "ax"
	.globl head
head:	b	start
	.long	0
	.quad	0			/* from a multiple of 2 MiB on */
	.quad	image_size
	.quad	0xa			/* little-endian, pages of 4 KiB, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.text
start:	ldr	x0, =0xff00		/* attribute 0: device nGnRnE; 1: write-back memory */
	msr	mair_el1, x0
	/* 39 bits of address by TTBR0 alone; walks and memory are cached and shared; 40 bits come out */
	ldr	x0, =0x200803519
	msr	tcr_el1, x0
	adr	x0, table
	msr	ttbr0_el1, x0
	tlbi	vmalle1
	dsb	nsh
	mov	x0, #(3 << 20)		/* FP and vectors do not trap */
	msr	cpacr_el1, x0
	isb
	mrs	x0, sctlr_el1
	ldr	x1, =0x1005		/* MMU, data and instruction cache */
	orr	x0, x0, x1
	msr	sctlr_el1, x0
	isb
	/* A guest that was reset finds its old memory. */
	ldr	x0, =__bss_start
	ldr	x1, =__bss_end
1:	cmp	x0, x1
	b.hs	2f
	str	xzr, [x0], #8
	b	1b
2:	ldr	x0, =stack_top
	mov	sp, x0
	b	main

	.globl power_off
power_off:
	ldr	w0, =SYSTEM_OFF
	hvc	#0
1:	b	1b

	/* Prints the 16 hexadecimal digits of x0, and a newline. Changes x0 to x4. */
	.globl print_hex
print_hex:
	mov	x1, #16
	adr	x2, digits
	ldr	x4, =SERIAL
1:	ror	x0, x0, #60
	and	x3, x0, #15
	ldrb	w3, [x2, x3]
	strb	w3, [x4]
	subs	x1, x1, #1
	b.ne	1b
	mov	w0, #10
	/* Prints w0. Changes x4. */
	.globl print_char
print_char:
	ldr	x4, =SERIAL
	strb	w0, [x4]
	ret

digits:	.ascii	"0123456789abcdef"
	.ltorg

	.data
	.balign 4096
table:	.quad	0x00000000 + VALID_BLOCK + ATTRIBUTE(0) + ACCESSED + NEVER_RUN
	.quad	0x40000000 + VALID_BLOCK + ATTRIBUTE(1) + INNER_SHAREABLE + ACCESSED
	.skip	4096 - 16

	.bss
	.balign 16
	.skip	4096
stack_top:
