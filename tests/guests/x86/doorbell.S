/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the device of examples/own_device.c in PCI slot 3: rings its
 * doorbell with the address of `mailbox`, waits for the interrupt, and
 * compares: one interrupt a ring, the number in the mailbox one more than before
 * and the same as in the counter register. Goes on until the counter is what
 * the limit register says, prints it in hexadecimal and powers off. Whatever
 * is not as it should be ends in "E" and what the mailbox held.
 *
 *      BAR 0: 0x00 counter (read), 0x08 doorbell (write: an address), 0x10 limit (read)
 */
#define CONFIG 0xe0018000	/* ECAM, bus 0, slot 3 */
#define ID 0x67771234
#define LAPIC 0xfee00000
#define VECTOR 0x41
#define GATE 0x8e00
#define USER_GATE 0xee00

	.text
	.code64
	.globl main
main:
	movb $'S', %al
	call print_char
	movb $10, %al
	call print_char

	movl $CONFIG, %r12d
	cmpl $ID, (%r12)
	jne wrong
	movl 0x10(%r12), %r13d
	andl $-16, %r13d		/* BAR 0 */
	movl 0x20(%r12), %r14d
	andl $-16, %r14d		/* BAR 4: the MSI-X table */
	movw $6, 4(%r12)		/* command: memory, master */
	movl $LAPIC, (%r14)
	movl $0, 4(%r14)
	movl $VECTOR, 8(%r14)
	movl $0, 12(%r14)
	movw $0x8000, 0x42(%r12)	/* the first capability is MSI-X: enable */

	movb $0xff, %al			/* nothing by the 8259s, which nobody here expects */
	movw $0x21, %dx
	outb %al, %dx
	movw $0xa1, %dx
	outb %al, %dx
	movl $LAPIC, %r15d
	movl $0x1ff, 0xf0(%r15)		/* spurious vector register: enable */
	movabsq $on_interrupt, %rax
	movl $GATE, %ecx
	movabsq $idt + VECTOR * 16, %rdi
	call set_gate
	movabsq $let_in, %rax
	movl $USER_GATE, %ecx
	movabsq $idt + 3 * 16, %rdi
	call set_gate
	int $3

	movq 0x10(%r13), %rbp		/* limit */
	movq (%r13), %rbx
	movabsq $mailbox, %r8
ring:	cmpq %rbp, %rbx
	jae done
	incq %rbx
	incq rings(%rip)
	movq %r8, 8(%r13)
1:	pause
	movq interrupts(%rip), %rax
	cmpq %rax, rings(%rip)
	ja 1b
	jb wrong
	cmpq mailbox(%rip), %rbx
	jne wrong
	cmpq (%r13), %rbx
	jne wrong
	jmp ring

done:	movq mailbox(%rip), %rdi
	call print_hex
	jmp power_off

wrong:	movb $'E', %al
	call print_char
	movq mailbox(%rip), %rdi
	call print_hex
	jmp power_off

/* rax: handler, ecx: type, rdi: gate */
set_gate:
	movw %ax, (%rdi)
	movw $8, 2(%rdi)
	movw %cx, 4(%rdi)
	shrq $16, %rax
	movw %ax, 6(%rdi)
	shrq $16, %rax
	movl %eax, 8(%rdi)
	movl $0, 12(%rdi)
	ret

/* CPL 0 from here on. The whole table counts, and whoever asked gets interrupts. */
let_in:
	lidt whole_idt(%rip)
	orl $0x200, 16(%rsp)
	iretq

on_interrupt:
	incq interrupts(%rip)
	movl $0, 0xb0(%r15)		/* end of interrupt */
	iretq

	.data
	.balign 8
whole_idt:
	.word 256 * 16 - 1
	.quad idt

	.bss
	.balign 8
mailbox: .skip 8
rings:	.skip 8
interrupts: .skip 8
