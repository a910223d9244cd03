#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# together: cards
# seconds: 240
#
# A guest's life: both boot protocols, two vCPUs, reset and power from both sides, stop and cont.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS lifecycle $*"; }

CPUS=2
vm_config a
vm_start a
vm_up a
[ "$(con a 10 'grep -c ^processor /proc/cpuinfo')" = 2 ] || die "not two CPUs"
con a 10 'grep -q kvm-clock /sys/devices/system/clocksource/clocksource0/current_clocksource' ||
	die "the guest's clock is not kvm-clock"
pass "bzImage boots with two vCPUs"

no_complaint a 'ACPI Error|ACPI Warning|ACPI BIOS'
pass "the guest's kernel has no complaint"

con a 10 worker start 16 2
vm_rests a 3
gap=$(con a 10 worker status | sed -n 's/.*max_gap_ms=\([0-9]*\).*/\1/p')
pass "guest time stands still while it is stopped (gap $gap ms)"

expect_event a RESET
con a 10 -s reboot -f || :
event_came a RESET
_twice() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge "$1" ]; }
wait_for 40 _twice 2 || die "the guest did not come up again"
pass "the guest reboots"

ctl a system_reset >/dev/null
wait_for 40 _twice 3 || die "the guest did not come up after system_reset"
pass "system_reset"

ctl a system_powerdown >/dev/null
vm_gone a || die "exit status $?"
pass "the power button"

CPUS=1
cp "$LAB/vmlinux" /tmp/vmlinux
vm_config b
sed -i 's,/tmp/vmlinuz,/tmp/vmlinux,' "$VMS/b/config.json"
vm_start b
vm_up b
pass "vmlinux boots by PVH"
rm /tmp/vmlinux
con b 10 -s poweroff -f || :
vm_gone b || die "exit status $?"
pass "the guest powers off"

vm_config c
sed -i 's,/tmp/vmlinuz,/tmp/none,; s,"cpus": 1,"cpus": 0,; s,"name": "c","nam": "c",' "$VMS/c/config.json"
expect_fail "cpus: 0 is not within" godwit run "$VMS/c/config.json" --control /tmp/x
expect_fail "nam: no such key" godwit run "$VMS/c/config.json" --control /tmp/x
pass "a faulty configuration is refused, all faults named"

sed -i 's,"cpus": 0,"cpus": 1,; s,"nam": "c","name": "c",; s,/tmp/none,/tmp/vmlinuz,' "$VMS/c/config.json"
echo kept >/tmp/kept.dtb
for file in none kept; do
	expect_fail "ACPI" godwit run "$VMS/c/config.json" --dump-dtb "/tmp/$file.dtb" --control /tmp/x
done
[ ! -e /tmp/none.dtb ] || die "an empty file is left"
[ "$(cat /tmp/kept.dtb)" = kept ] || die "the file has lost what was in it"
pass "--dump-dtb makes no file where there is no device tree"
