/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirties memory for ever: in each generation writes the generation's number
 * to every page of PAGES, in order, and then to the word at COUNTER. So at any
 * instant pages hold the generation g up to some page, and g - 1 from there on,
 * and the counter says g - 1: whoever looks at a stopped guest can tell whether
 * a write was lost.
 */
#define BASE 0x2000000		/* 32 MiB */
#define PAGES 16384		/* 64 MiB */
#define COUNTER 0x1ff0000

	.text
	.code64
	.globl main
main:
	movb $'S', %al
	call print_char
	movb $10, %al
	call print_char
	xorl %ebx, %ebx
next:	incq %rbx
	movl $BASE, %edi
	movl $PAGES, %ecx
1:	movq %rbx, (%rdi)
	addq $4096, %rdi
	decl %ecx
	jnz 1b
	movq %rbx, COUNTER
	jmp next
