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
 *
 * The interrupt is a message that the ITS translates to the first LPI (IHI 0069: 5.2 the tables, 5.3
 * the commands, 12.9 to 12.11 and 12.19 the registers).
 */
#define CONFIG 0x30018000		/* ECAM, bus 0, slot 3 */
#define ID 0x67771234
#define DEVICE (3 << 3)			/* its requester ID */
#define EVENT 5				/* what it writes to the ITS */
#define LPI 8192

#define GICD 0x08000000
#define GICR 0x0a000000
#define GICR_PROPBASER 0x70
#define GICR_PENDBASER 0x78
#define ITS 0x08080000
#define GITS_CBASER 0x80
#define GITS_CWRITER 0x88
#define GITS_BASER0 0x100		/* KVM's: of devices */
#define GITS_BASER1 0x108		/* of collections */
#define GITS_TRANSLATER 0x08090040
#define VALID (1 << 63)
#define ZEROES (1 << 62)		/* what a pending table holds */
#define PAGES_OF_64K (2 << 8)
#define INTID_BITS 15			/* less one */

#define ICC_PMR_EL1 S3_0_C4_C6_0
#define ICC_IAR1_EL1 S3_0_C12_C12_0
#define ICC_EOIR1_EL1 S3_0_C12_C12_1
#define ICC_IGRPEN1_EL1 S3_0_C12_C12_7

	.text
	.globl main
main:
	mov	w0, #'S'
	bl	print_char
	mov	w0, #10
	bl	print_char

	ldr	x20, =CONFIG
	ldr	w0, [x20]
	ldr	w1, =ID
	cmp	w0, w1
	b.ne	wrong
	ldr	w21, [x20, #0x10]
	and	w21, w21, #~15		/* BAR 0 */
	ldr	w22, [x20, #0x20]
	and	w22, w22, #~15		/* BAR 4: the MSI-X table */
	mov	w0, #6
	strh	w0, [x20, #4]		/* command: memory, master */
	ldr	w0, =GITS_TRANSLATER
	str	w0, [x22]
	str	wzr, [x22, #4]
	mov	w0, #EVENT
	str	w0, [x22, #8]
	str	wzr, [x22, #12]
	mov	w0, #0x8000
	strh	w0, [x20, #0x42]	/* the first capability is MSI-X: enable */

	bl	begin_lpis
	bl	begin_its
	ldr	x0, =vectors
	msr	vbar_el1, x0
	mov	x0, #0xff
	msr	ICC_PMR_EL1, x0
	mov	x0, #1
	msr	ICC_IGRPEN1_EL1, x0
	isb
	msr	daifclr, #2

	ldr	x23, =mailbox
	ldr	x24, =interrupts
	mov	x26, #0			/* rings */
	ldr	x25, [x21, #0x10]	/* limit */
	ldr	x27, [x21]
ring:	cmp	x27, x25
	b.hs	done
	add	x27, x27, #1
	add	x26, x26, #1
	str	x23, [x21, #8]
1:	yield
	ldr	x0, [x24]
	cmp	x0, x26
	b.lo	1b
	b.hi	wrong
	ldr	x0, [x23]
	cmp	x0, x27
	b.ne	wrong
	ldr	x0, [x21]
	cmp	x0, x27
	b.ne	wrong
	b	ring

done:	ldr	x0, [x23]
	bl	print_hex
	b	power_off

wrong:	mov	w0, #'E'
	bl	print_char
	ldr	x0, =mailbox
	ldr	x0, [x0]
	bl	print_hex
	b	power_off

	/* Distributor on; the LPI's priority and enable bit; the redistributor's tables. */
begin_lpis:
	ldr	x0, =GICD
	mov	w1, #0x12		/* affinity routing, group 1 */
	str	w1, [x0]
	ldr	x1, =priorities
	mov	w2, #0xa1
	strb	w2, [x1]
	ldr	x0, =GICR
	orr	x1, x1, #INTID_BITS
	str	x1, [x0, #GICR_PROPBASER]
	ldr	x1, =pending
	orr	x1, x1, #ZEROES
	str	x1, [x0, #GICR_PENDBASER]
	mov	w1, #1
	str	w1, [x0]
	ret

begin_its:
	ldr	x0, =ITS
	ldr	x2, =(VALID + PAGES_OF_64K)
	ldr	x1, =devices
	orr	x1, x1, x2
	str	x1, [x0, #GITS_BASER0]
	ldr	x1, =collections
	orr	x1, x1, x2
	str	x1, [x0, #GITS_BASER1]
	ldr	x1, =queue
	orr	x1, x1, #VALID
	str	x1, [x0, #GITS_CBASER]
	mov	w1, #1
	str	w1, [x0]
	/* The commands are in the image but for an address. */
	ldr	x1, =queue
	ldr	x2, =commands
	mov	x3, #(commands_end - commands)
1:	ldr	x4, [x2], #8
	str	x4, [x1], #8
	subs	x3, x3, #8
	b.ne	1b
	dsb	sy
	mov	x1, #(commands_end - commands)
	str	x1, [x0, #GITS_CWRITER]
	ret

	.balign 2048
vectors:
	.skip	0x280			/* the interrupt of EL1 on its own stack */
	stp	x0, x1, [sp, #-16]!
	mrs	x0, ICC_IAR1_EL1
	msr	ICC_EOIR1_EL1, x0
	cmp	x0, #LPI
	b.ne	1f
	ldr	x1, =interrupts
	ldr	x0, [x1]
	add	x0, x0, #1
	str	x0, [x1]
1:	ldp	x0, x1, [sp], #16
	eret
	.ltorg

	.data
	.balign 8
commands:
	.quad	0x09, 0, VALID, 0				/* MAPC: collection 0 to the first CPU */
	.quad	0x08 + (DEVICE << 32), 4, translations + VALID, 0	/* MAPD: 32 events */
	.quad	0x0a + (DEVICE << 32), EVENT + (LPI << 32), 0, 0	/* MAPTI: in collection 0 */
	.quad	0x0c + (DEVICE << 32), EVENT, 0, 0		/* INV */
	.quad	0x05, 0, 0, 0					/* SYNC */
commands_end:

	.bss
	.balign 65536
priorities: .skip 65536
pending: .skip 65536
devices: .skip 65536
collections: .skip 65536
queue:	.skip 65536
translations: .skip 4096
mailbox: .skip 8
interrupts: .skip 8
