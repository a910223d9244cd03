/* SPDX-License-Identifier: Apache-2.0 */
/* All state of two machines' vCPUs, byte by byte. */
#include "harness.h"

#include "vmm/x86/x86.h"

#include <string.h>

#define MSR_TSC 0x10
#define MSR_HV_VP_RUNTIME 0x40000010 /* counts the thread's time, also in reading it */

/* What moves by itself while a vCPU stands still: the TSC, and what counts down with it. */
static void mask_time(struct vcpu_state *s)
{
	for (size_t i = 0; i < VCPU_STATE_ROWS; i++) {
		struct kvm_msr_entry *e = s->blob[i];

		if (s->len[i] == sizeof(struct kvm_lapic_state))
			memset((char *)s->blob[i] + 0x390, 0, 4); /* current count */
		if (!s->blob[i] || s->len[i] % sizeof(*e))
			continue;
		for (size_t n = 0; n < s->len[i] / sizeof(*e); n++)
			if (e[n].index == MSR_TSC || e[n].index == MSR_HV_VP_RUNTIME)
				e[n].data = 0;
	}
}

void guest_compare_chips(struct machine *a, struct machine *b)
{
	cr_assert_eq(a->vcpu_count, b->vcpu_count);
	for (unsigned v = 0; v < a->vcpu_count; v++) {
		struct vcpu_state sa, sb;
		struct gw_error err_;

		cr_assert(vcpu_state_get(a->vcpus[v], &sa, &err_) == 0, "%s", err_.text);
		cr_assert(vcpu_state_get(b->vcpus[v], &sb, &err_) == 0, "%s", err_.text);
		mask_time(&sa);
		mask_time(&sb);
		for (size_t i = 0; i < VCPU_STATE_ROWS; i++) {
			cr_assert_eq(sa.len[i], sb.len[i], "vcpu%u, row %zu: %zu and %zu bytes", v,
			             i, sa.len[i], sb.len[i]);
			for (size_t n = 0; n < sa.len[i]; n++)
				cr_assert_eq(((uint8_t *)sa.blob[i])[n], ((uint8_t *)sb.blob[i])[n],
				             "vcpu%u, row %zu differs at byte %zu (in MSRs: 0x%x)",
				             v, i, n,
				             *(uint32_t *)((char *)sa.blob[i] + n / 16 * 16));
		}
		vcpu_state_free(&sa);
		vcpu_state_free(&sb);
	}
}
