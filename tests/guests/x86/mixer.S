/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mixes registers (general, x87, SSE) and 8 MiB of memory for ROUNDS rounds,
 * prints a checksum of all of them and powers off. What it prints depends on
 * nothing but ROUNDS: saved and restored anywhere in between, it is the same.
 */
#ifndef ROUNDS
#define ROUNDS 20000000
#endif
#define BASE 0x400000
#define MASK 0x7ffff8		/* 8 MiB, in words of 8 bytes */

	.text
	.code64
	.globl main
main:
	movb $'S', %al
	call print_char
	movb $10, %al
	call print_char
	movabsq $0x9e3779b97f4a7c15, %rbx
	movl $1, %r8d
	movl $2, %r9d
	movl $3, %r10d
	movl $4, %r11d
	movl $5, %r12d
	movl $6, %r13d
	movl $7, %r14d
	movl $8, %r15d
	movl $ROUNDS, %ebp
	fld1
	movq %rbx, %xmm0
	pxor %xmm15, %xmm15

round:	imulq $0x5851f42d, %rbx, %rbx
	addq %rbp, %rbx
	xorq %rbx, %r8
	addq %r8, %r9
	rolq $7, %r9
	xorq %r9, %r10
	subq %r10, %r11
	rorq $11, %r11
	addq %r11, %r12
	xorq %r12, %r13
	addq %r13, %r14
	rolq $3, %r14
	xorq %r14, %r15
	/* one word of memory, chosen by the state */
	movq %r15, %rax
	andl $MASK, %eax
	movq BASE(%rax), %rcx
	addq %r14, %rcx
	movq %rcx, BASE(%rax)
	addq %rcx, %r8
	/* vector registers */
	movq %rcx, %xmm1
	paddq %xmm1, %xmm0
	pxor %xmm0, %xmm15
	decl %ebp
	jnz round

	/* x87: 1.0 must still be there */
	fistpq result(%rip)
	movq result(%rip), %rdi
	addq %r8, %rdi
	addq %r9, %rdi
	addq %r15, %rdi
	movq %xmm15, %rax
	addq %rax, %rdi
	/* and all memory */
	xorl %eax, %eax
1:	rolq $5, %rdi
	addq BASE(%rax), %rdi
	addl $8, %eax
	cmpl $MASK, %eax
	jbe 1b
	call print_hex
	jmp power_off

	.bss
	.balign 8
result:	.skip 8
