/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From PVH's 32-bit entry to `main` in 64-bit mode at CPL 3: the first 4 GiB
 * mapped one to one for everybody, SSE on. CPL 3 because some hosts run user
 * code natively and kernel code by emulation only. Port output from there ends
 * in #GP, whose handler does it: al to port dx.
 */
#define TSS 0x5000
	.section .note, "a"
	.long 4, 4, 18			/* Xen's PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	cli
	/* PML4 -> PDPT -> 4 directories of 2 MiB pages, all present, writable, user */
	movl $pml4, %edi
	movl $pdpt + 7, (%edi)
	movl $pdpt, %edi
	movl $directories + 7, %eax
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 1b
	movl $directories, %edi
	movl $0x87, %eax
	movl $2048, %ecx
2:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 2b

	movl $pml4, %eax
	movl %eax, %cr3
	movl $0x620, %eax		/* CR4: PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $0xc0000080, %ecx		/* EFER */
	xorl %edx, %edx
	movl $0x100, %eax		/* LME */
	wrmsr
	movl $0x80000033, %eax		/* CR0: PG, NE, ET, MP, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $0x08, $long_mode

	.code64
long_mode:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	/* one gate, for #GP, and the stack that it switches to */
	movabsq $output, %rax
	movabsq $idt + 13 * 16, %rdi
	movw %ax, (%rdi)
	movl $0x8e000008, 2(%rdi)	/* selector 08; present, interrupt gate */
	shrq $16, %rax
	movl %eax, 6(%rdi)
	lidt idt_pointer
	movabsq $kernel_stack_top, %rax
	movq %rax, TSS + 4		/* RSP0 */
	movl $0x28, %eax
	ltr %ax
	movabsq $stack_top, %rax
	movq %rax, %rsp
	pushq $0x23			/* SS, CPL 3 */
	pushq %rax
	pushq $0x2			/* RFLAGS: no interrupts */
	pushq $0x1b			/* CS, CPL 3 */
	movabsq $main, %rax
	pushq %rax
	iretq

output:	outb %al, %dx
	addq $8, %rsp			/* the error code */
	incq (%rsp)			/* over the outb */
	iretq

	/* Power off by the sleep control register: S5, enable. */
	.globl power_off
power_off:
	movw $0x600, %dx
	movb $0x34, %al
	outb %al, %dx
1:	jmp 1b

	/* Prints the 16 hexadecimal digits of rdi, and a newline. Changes rax, rcx, rdx, rsi, rdi. */
	.globl print_hex
print_hex:
	movl $16, %ecx
1:	rolq $4, %rdi
	movl %edi, %esi
	andl $15, %esi
	movabsq $digits, %rax
	movb (%rax, %rsi), %al
	call print_char
	loop 1b
	movb $10, %al
	/* Prints al. Changes rdx. */
	.globl print_char
print_char:
	movw $0x3f8, %dx
	outb %al, %dx
	ret

	.data
digits:	.ascii "0123456789abcdef"
	.balign 8
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* 08: code, CPL 0 */
	.quad 0x00cf93000000ffff	/* 10: data, CPL 0 */
	.quad 0x00affb000000ffff	/* 18: code, CPL 3 */
	.quad 0x00cff3000000ffff	/* 20: data, CPL 3 */
	/* 28: the TSS, below the image: 16 bytes of descriptor */
	.quad 0x0000890050000067
	.quad 0
gdt_end:
idt_pointer:
	.word 14 * 16 - 1
	.quad idt
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
directories: .skip 4 * 4096
	.globl idt
idt:	.skip 4096
	.skip 4096
stack_top:
	.skip 4096
kernel_stack_top:
