/* SPDX-License-Identifier: Apache-2.0 */
/* Says that it is there, and makes a triple fault: there is no IDT. */
	.text
	.code64
	.globl main
main:
	movb $'S', %al
	call print_char
	movb $10, %al
	call print_char
	ud2
