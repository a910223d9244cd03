/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the configuration space of PCI segment 0 is: 32 buses.
 * Source: PCI Firmware 3.2, 4.1.2; values are hexadecimal.
 */
#include "vmm/x86/layout.h"

                               Signature : "MCFG"
                            Table Length : 00000000
                                Revision : 01
                                Checksum : 00
                                  Oem ID : "GODWIT"
                            Oem Table ID : "GODWITPC"
                            Oem Revision : 00000001
                         Asl Compiler ID : "INTL"
                   Asl Compiler Revision : 00000000
                                Reserved : 0000000000000000

                            Base Address : LAYOUT_ECAM
                    Segment Group Number : 0000
                        Start Bus Number : 00
                          End Bus Number : 1F
                                Reserved : 00000000
