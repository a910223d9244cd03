/* SPDX-License-Identifier: Apache-2.0 */
/* Says that it is there, and asks for a reset: by PSCI, as a fault has no way out by itself. */
#define SYSTEM_RESET 0x84000009

	.text
	.globl main
main:
	mov	w0, #'S'
	bl	print_char
	mov	w0, #10
	bl	print_char
	ldr	w0, =SYSTEM_RESET
	hvc	#0
1:	b	1b
