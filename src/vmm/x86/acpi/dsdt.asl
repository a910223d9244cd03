/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest finds on this machine: the PCI root bus with its hotplug slots, what is
 * reserved, the event device behind the registers of src/vmm/x86/pm_ports.h, the power button, the
 * generation id, the serial port, and the one sleep state, off.
 * Sources: ACPI 6.5 (5.6.9 GED, 6.2.13 _PRT, 6.3 device removal, 7.4.2 \_Sx, 19 ASL);
 * PCI Firmware 3.2 (4.1.2 ECAM, 4.5.1 _OSC); Microsoft, Virtual Machine Generation ID.
 */
#include "vmm/x86/pm_ports.h"
#include "vmm/x86/layout.h"

/* The slots that can be plugged into: number, the same in hexadecimal. */
#define SLOTS(X) \
	X(01, 01) X(02, 02) X(03, 03) X(04, 04) X(05, 05) X(06, 06) X(07, 07) X(08, 08) \
	X(09, 09) X(10, 0A) X(11, 0B) X(12, 0C) X(13, 0D) X(14, 0E) X(15, 0F) X(16, 10) \
	X(17, 11) X(18, 12) X(19, 13) X(20, 14) X(21, 15) X(22, 16) X(23, 17) X(24, 18) \
	X(25, 19) X(26, 1A) X(27, 1B) X(28, 1C) X(29, 1D) X(30, 1E) X(31, 1F)

/* INTx of a slot: pin A is 0 here. As pci_intx_gsi() has it. */
#define INTX_PIN(hex, pin) \
	Package () { 0x##hex##FFFF, pin, 0, LAYOUT_INTX_GSI + ((0x##hex + pin) % LAYOUT_INTX_GSIS) },
#define INTX_SLOT(dec, hex) INTX_PIN(hex, 0) INTX_PIN(hex, 1) INTX_PIN(hex, 2) INTX_PIN(hex, 3)

/* A slot. It has no _STA: an empty one is told by its configuration space, which reads as ones. */
#define SLOT_DEVICE(dec, hex) \
	Device (S##dec) { \
		Name (_ADR, 0x##hex##0000) \
		Name (_SUN, 0x##hex) \
		Method (_EJ0, 1, NotSerialized) { PEJT = (1 << 0x##hex) } \
	}

#define SLOT_UP(dec, hex) If (Local0 & (1 << 0x##hex)) { Notify (S##dec, 1) }
#define SLOT_DOWN(dec, hex) If (Local0 & (1 << 0x##hex)) { Notify (S##dec, 3) }

DefinitionBlock ("", "DSDT", 2, "GODWIT", "GODWITPC", 0x00000001)
{
	Name (\_S5, Package () { 5, 0, 0, 0 })

	Scope (\_SB)
	{
		OperationRegion (PMRG, SystemIO, PM_PORT, PM_PORT_SIZE)
		Field (PMRG, DWordAcc, NoLock, Preserve)
		{
			/* The four follow each other: acpi.c asserts it. */
			Offset (PM_EVENTS),
			PEVT, 32,
			PUPS, 32,
			PDWN, 32,
			PEJT, 32,
		}

		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)

			/* Neither window is called prefetchable, so that either kind of BAR may be
			 * in it. */
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 31, 0, 32)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, LAYOUT_PIO, LAYOUT_PIO_LAST,
					0, LAYOUT_PIO_SIZE)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, LAYOUT_MMIO32, LAYOUT_MMIO32_LAST,
					0, LAYOUT_MMIO32_SIZE)
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, LAYOUT_MMIO64, LAYOUT_MMIO64_LAST,
					0, LAYOUT_MMIO64_SIZE)
			})

			Name (_PRT, Package ()
			{
				SLOTS (INTX_SLOT)
			})

			/* The guest may have the PCI Express capability structures (bit 4 of the
			 * third doubleword), which no firmware here touches, and native hotplug
			 * (bit 0) of what is behind root ports. On the root bus hotplug is ACPI's,
			 * and there is nothing behind PME, AER and the rest. */
			Method (_OSC, 4, Serialized)
			{
				CreateDWordField (Arg3, 0, STAT)
				If ((Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766")) || (Arg2 < 3))
				{
					STAT |= 0x04 /* unknown UUID */
					Return (Arg3)
				}
				CreateDWordField (Arg3, 8, CTRL)
				If (Arg1 != 1)
				{
					STAT |= 0x08 /* unknown revision */
				}
				Local0 = CTRL & 0x11
				If (Local0 != CTRL)
				{
					STAT |= 0x10 /* not all was granted */
				}
				CTRL = Local0
				Return (Arg3)
			}

			SLOTS (SLOT_DEVICE)

			/* Tells which slots have been filled, and which are to be emptied. */
			Method (PHPE, 0, Serialized)
			{
				Local0 = PUPS
				SLOTS (SLOT_UP)
				Local0 = PDWN
				SLOTS (SLOT_DOWN)
			}
		}

		/* The machine's own: the ECAM, as PCI Firmware, 4.1.2 wants it, and the ports of pm_ports.h. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, LAYOUT_ECAM, LAYOUT_ECAM_SIZE)
				IO (Decode16, PM_PORT, PM_PORT, 0, PM_PORT_SIZE)
			})
		}

		/* The interrupt stays up until PEVT is read. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive,,,) { PM_GSI }
			})
			Method (_EVT, 1, Serialized)
			{
				Local0 = PEVT
				If (Local0 & PM_EVENT_POWER_BUTTON)
				{
					Notify (\_SB.PWRB, 0x80)
				}
				If (Local0 & PM_EVENT_PCI)
				{
					\_SB.PCI0.PHPE ()
				}
				If (Local0 & PM_EVENT_GENERATION)
				{
					Notify (\_SB.VGEN, 0x80)
				}
			}
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		/* Where the generation id is; it changes when the VM goes on from a snapshot. */
		Device (VGEN)
		{
			Name (_HID, "GDWT0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Name (_UID, 0)
			Name (ADDR, Package () { LAYOUT_VMGENID, 0 })
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, SERIAL_PORT, SERIAL_PORT, 0, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive,,,) { SERIAL_GSI }
			})
		}
	}
}
