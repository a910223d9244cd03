/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Multiple APIC Description Table: one I/O APIC with GSIs from 0, and LINT1 of every local
 * APIC as the NMI. A local APIC for each vCPU is appended when the tables are put into memory
 * (src/vmm/x86/acpi.c). No interrupt source overrides: there are no ISA interrupts but the
 * serial port's, whose resources say what it is.
 * Source: ACPI 6.5, 5.2.12; values are hexadecimal.
 */
#include "vmm/x86/layout.h"

                               Signature : "APIC"
                            Table Length : 00000000
                                Revision : 05
                                Checksum : 00
                                  Oem ID : "GODWIT"
                            Oem Table ID : "GODWITPC"
                            Oem Revision : 00000001
                         Asl Compiler ID : "INTL"
                   Asl Compiler Revision : 00000000

                      Local Apic Address : LAYOUT_LAPIC
                   Flags (decoded below) : 00000000
                     PC-AT Compatibility : 0

                           Subtable Type : 01
                                  Length : 0C
                             I/O Apic ID : 00
                                Reserved : 00
                                 Address : LAYOUT_IOAPIC
                               Interrupt : 00000000

                           Subtable Type : 04
                                  Length : 06
                            Processor ID : FF
                   Flags (decoded below) : 0000
                                Polarity : 0
                            Trigger Mode : 0
                    Interrupt Input LINT : 01
