#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: cards
# seconds: 300
#
# Two devices of the host in one slot of the guest: functions, expansion ROM, sleep, function-level
# reset, a line that both share, and the slot unplugged and plugged as a whole.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS pci $*"; }

CARD=/sys/bus/pci/devices/0000:00:10.0
no_address() { con a 10 'ip addr flush dev eth0; ip link set eth0 down'; }

# A ROM image of 2 KiB: signature, pointer at 0x18 to the PCI data structure at 0x20, whose length is
# at 0x10 in units of 512 bytes and whose last-image mark is at 0x15 (PCI 3.0, 6.3.1).
{
	printf '\125\252'
	head -c 22 /dev/zero
	printf '\040\000'
	head -c 6 /dev/zero
	printf 'PCIR\206\200\323\020'
	head -c 8 /dev/zero
	printf '\004\000\000\000\000\200'
	head -c 1994 /dev/zero | tr '\000' G
} >/tmp/card.rom
rom_sum=$(md5sum </tmp/card.rom)

fn0="{\"id\":\"net0\",\"type\":\"vfio-pci\",\"host\":\"$NIC\",\"slot\":16,\"rom\":\"/tmp/card.rom\"}"
fn1="{\"id\":\"tty0\",\"type\":\"vfio-pci\",\"host\":\"$MTTY\",\"slot\":16,\"function\":1}"
vm_config a "$fn0" "$fn1"
vm_start a
vm_up a
con a 10 lspci >/tmp/lspci
grep -q '00:10.0 8086:10d3 e1000e' /tmp/lspci || die "no function 0: $(cat /tmp/lspci)"
grep -q '00:10.1 4348:3253' /tmp/lspci || die "no function 1: $(cat /tmp/lspci)"
traffic 10.78.0.101
con a 20 ttytest talk 0 0.5
pass "two devices of the host are two functions of one slot, and both work"

con a 10 "echo 1 >$CARD/rom && md5sum <$CARD/rom" >/tmp/rom
grep -qF "$rom_sum" /tmp/rom || die "another ROM: $(cat /tmp/rom)"
pass "the guest reads the expansion ROM"

no_address
con a 10 "cat $CARD/reset_method" | grep -q flr || die "no function-level reset"
con a 20 "echo flr >$CARD/reset_method; echo 1 >$CARD/reset" || die "the reset fails"
traffic 10.78.0.102
pass "the guest resets the function, and it carries traffic again"

# Power management is at 0xc8 in an 82574L, its control register at 204.
no_address
_pm() { con a 10 "printf '\\$1' | dd of=$CARD/config bs=1 seek=204 conv=notrunc 2>/dev/null; \
	dd if=$CARD/config bs=1 skip=204 count=1 2>/dev/null | hexdump -e '1/1 \"PM%02x\\n\"'"; }
con a 10 "echo 0000:00:10.0 >$CARD/driver/unbind"
con a 10 "dd if=$CARD/config bs=1 skip=16 count=24 2>/dev/null | md5sum" | grep -o '[0-9a-f]\{32\}' >/tmp/bars
_pm 003 | grep -q PM0b || die "not in D3"
_pm 000 | grep -q PM08 || die "not in D0"
con a 10 "dd if=$CARD/config bs=1 skip=16 count=24 2>/dev/null | md5sum" | grep -qF "$(cat /tmp/bars)" ||
	die "its BARs are not what they were"
con a 20 'echo 0000:00:10.0 >/sys/bus/pci/drivers/e1000e/bind'
traffic 10.78.0.103
pass "to D3hot and back, with its registers and traffic"

expect_event a DEVICE_DELETED
ctl a device_del id=tty0 >/dev/null
event_came a DEVICE_DELETED
_empty() { ctl a query-pci >/tmp/pci && ! grep -q '"slot": *16' /tmp/pci; }
wait_for 20 _empty || die "query-pci still has the slot"
expect_fail "has no device" ctl a device_del id=net0
ctl a device_add id=tty1 type=vfio-pci "host=$MTTY" slot=16 function=1 >/dev/null
con a 10 '! lspci | grep 4348:3253' || die "a function without function 0 is seen"
ctl a device_add id=net1 type=vfio-pci "host=$NIC" slot=16 >/dev/null
_has() { con a 10 lspci | grep -q "$1"; }
wait_for 30 _has '00:10.0 8086:10d3 e1000e' || die "function 0 is not plugged in"
wait_for 30 _has '00:10.1 4348:3253' || die "function 1 is not plugged in"
traffic 10.78.0.104
con a 20 ttytest talk 0 0.5
pass "a slot is unplugged and plugged in with all its functions"
ctl a system_powerdown >/dev/null
vm_gone a

rm -f "$VMS/a/con.log"
CMDLINE=pci=nomsi vm_config a "$fn0" "$fn1"
vm_start a
vm_up a
# One command at a time has the console, so it leaves this one behind.
con a 10 '{ ttytest talk 0 8 && ttytest talk 1 1 && echo good >/tmp/talked || echo bad >/tmp/talked; } >/tmp/talk 2>&1 &'
traffic 10.78.0.105
_talked() { con a 10 'test -s /tmp/talked'; }
wait_for 60 _talked || die "the other function's talk does not end"
con a 10 'grep -qx good /tmp/talked' || die "no talk beside the traffic: $(con a 10 'cat /tmp/talk')"
con a 10 'cat /proc/interrupts' >/tmp/irqs
con a 10 "cat $CARD/irq /sys/bus/pci/devices/0000:00:10.1/irq" | grep -x '[0-9]*' | sort -u >/tmp/lines
[ "$(wc -l </tmp/lines)" = 1 ] || die "no shared line: $(cat /tmp/lines /tmp/irqs)"
pass "two functions share one interrupt line, resampled by KVM and by hand"
ctl a system_powerdown >/dev/null
vm_gone a
