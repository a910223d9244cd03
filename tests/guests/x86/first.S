/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose first instructions write to the serial port: what it takes to get there is the
 * VMM's time alone. Entered by PVH, in 32-bit mode; it has no use for start.S.
 */
	.section .note, "a"
	.balign 4
	.long 4, 4, 18			/* Xen's PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	movw $0x3f8, %dx
	movb $'F', %al
	outb %al, %dx
1:	hlt
	jmp 1b
