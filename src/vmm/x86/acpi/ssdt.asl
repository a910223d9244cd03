/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proximity domain of the PCI root bus, for a guest that is told of NUMA nodes; its number is
 * put in place of the constant.
 * Sources: ACPI 6.5, 6.2.14 (_PXM).
 */
DefinitionBlock ("", "SSDT", 2, "GODWIT", "GODWITPC", 0x00000001)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB.PCI0)
	{
		Name (_PXM, 0xFE)
	}
}
