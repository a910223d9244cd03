/* SPDX-License-Identifier: Apache-2.0 */
/* Says that it is there, and makes a triple fault: takes away the only gate and needs it. */
	.text
	.code64
	.globl main
main:
	movb $'S', %al
	call print_char
	movb $10, %al
	call print_char
	movabsq $idt + 13 * 16, %rdi
	movq $0, (%rdi)
	call print_char
