/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads two registers of a device at once, which is more than the CPU can tell
 * a hypervisor of. Prints the syndrome of the abort that it gets, or what it
 * read, and powers off.
 */
#define SERIAL 0x09000000

	.text
	.globl main
main:
	mov	w0, #'S'
	bl	print_char
	mov	w0, #10
	bl	print_char
	ldr	x0, =vectors
	msr	vbar_el1, x0
	isb
	ldr	x4, =SERIAL
	ldp	x0, x1, [x4]
	bl	print_hex
	b	power_off

aborted:
	mrs	x0, esr_el1
	bl	print_hex
	b	power_off
	.ltorg

	.balign 2048
vectors:
	.skip	0x200			/* synchronous, of EL1 on its own stack */
	b	aborted
