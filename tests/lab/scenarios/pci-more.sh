#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hosts: 1
# seconds: 300
# qemu: -object memory-backend-ram,id=big,size=64G,share=on,reserve=off
# qemu: -device ivshmem-plain,memdev=big,addr=0x4
# qemu: -device pcie-root-port,id=pair,chassis=1,slot=1,addr=0x5
# qemu: -device ich9-ahci,bus=pair,addr=0.0,multifunction=on
# qemu: -device nec-usb-xhci,id=usb,bus=pair,addr=0.1,msi=on,msix=off -device usb-tablet,bus=usb.0
# qemu: -chardev socket,id=tty1,path=tty,server=on,wait=off -chardev socket,id=tty2,path=tty
# qemu: -device pci-serial-2x,chardev1=tty1,chardev2=tty2,addr=0xb
#
# Devices of other kinds: a BAR of 64 GiB; MSI alone, INTx alone; two functions that have no reset but
# their bus's.
set -eu
. "$ROOT/tests/lab/vm.sh"

pass() { echo "PASS pci-more $*"; }

BIG=0000:00:04.0 DISK=0000:01:00.0 USB=0000:01:00.1 TTY=0000:00:0b.0
DEVICES=/sys/bus/pci/devices

# bar ADDRESS NUMBER: where the guest has it, "START END FLAGS".
bar() { con a 10 "sed -n $(($2 + 1))p $DEVICES/$1/resource" | grep '^0x'; }
off() {
	ctl a system_powerdown >/dev/null
	vm_gone a
	rm "$VMS/a/con.log" "$VMS/a/log"
}

# ---- a BAR of 64 GiB

# Words far apart, the first and the last among them: commands that set and show them.
offsets="0x0 0x7ffffff8 0x800000008 0xffffffff8"
set_words() { echo "for o in $offsets; do devmem \$(($1 + o)) 64 \$((($2 << 40) + o)); done"; }
words() { echo "for o in $offsets; do devmem \$(($1 + o)) 64; done"; }
same_words() { grep '^0x' | cmp - /tmp/words; }
for o in $offsets; do printf '0x%016X\n' $(((0x5a << 40) + o)); done >/tmp/words

big_is_there() {
	con a 10 "echo 1 >$DEVICES/0000:00:04.0/enable"
	bar 0000:00:04.0 2 >/tmp/bar
	read -r start end _ </tmp/bar
	[ $((end - start + 1)) = $((64 << 30)) ] || die "not 64 GiB: $(cat /tmp/bar)"
	[ $((start >> 32)) -gt 0 ] || die "below 4 GiB: $(cat /tmp/bar)"
}
bind_vfio "$BIG"
vm_config a "big=$BIG@4"
vm_start a
vm_up a
big_is_there
con a 20 "$(set_words "$start" 0x5a)"
con a 20 "$(words "$start")" | same_words || die "not what was written"
pass "a BAR of 64 GiB is above 4 GiB, and the guest reads and writes it from end to end"

expect_event a DEVICE_DELETED device=big
ctl a device_del id=big >/dev/null
event_came a DEVICE_DELETED
! grep vfio-device "/proc/$(cat "$VMS/a/pid")/maps" || die "it is still mapped"
echo "$BIG" >/sys/bus/pci/drivers/vfio-pci/unbind
echo 1 >"$DEVICES/$BIG/enable"
read -r start _ <<END
$(sed -n 3p "$DEVICES/$BIG/resource")
END
sh -c "$(words "$start")" | same_words || die "the host does not find what the guest has written"
echo 0 >"$DEVICES/$BIG/enable"
bind_vfio "$BIG"
ctl a device_add id=big1 type=vfio-pci "host=$BIG" slot=4 >/dev/null
_there() { con a 10 lspci | grep -q 1af4:1110; }
wait_for 30 _there || die "not plugged in"
big_is_there
con a 20 "$(words "$start")" | same_words || die "not what was there"
off
pass "it is unmapped, the host finds what was written, and it is plugged in while the guest runs"

# ---- devices of all kinds

for d in $TTY $DISK $USB; do bind_vfio "$d"; done
vm_config a "disk=$DISK@5" "usb=$USB@6" "tty=$TTY@8"
vm_start a
vm_up a
tablet='cat /sys/bus/usb/devices/*/idVendor | grep -qx 0627'
wait_for 20 con a 10 "$tablet" || die "the guest's USB controller finds no tablet"
con a 10 'grep PCI-MSI-0000:00:06.0.*xhci_hcd /proc/interrupts' || die "USB is not by MSI"
pass "MSI: a controller that has no MSI-X"

# talk: 3000 bytes from one serial port of the card to the other.
ports="set -- \$(find $DEVICES/0000:00:08.0/ -name 'ttyS[0-9]*' | sed 's,.*/,/dev/,' | sort)"
talk() {
	con a 20 "$ports; stty -F \$1 raw -echo 115200 && stty -F \$2 raw -echo 115200"
	con a 60 "$ports; head -c 3000 /dev/urandom >/tmp/sent; head -c 3000 <\$2 >/tmp/got &" \
		"until grep 'fasteoi .*ttyS' /proc/interrupts >/tmp/irqs; do sleep 0.1; done;" \
		"cat /tmp/sent >\$1; wait; cmp /tmp/sent /tmp/got"
}
talk
con a 10 grep IO-APIC /tmp/irqs || die "the serial ports are not by INTx"
pass "INTx alone: two serial ports talk to each other"

# ---- functions that only their bus resets

grep -qE 'device (disk|usb).*reset' "$VMS/a/log" && die "no reset by the bus"
# AHCI's interrupt enable of the first port (PxIE): 0 after a reset.
read -r abar _ <<END
$(bar 0000:00:05.0 5)
END
con a 10 "echo 1 >$DEVICES/0000:00:05.0/enable; devmem \$(($abar + 0x114)) 32 0x55"
pxie() { con a 10 "devmem \$(($abar + 0x114))" | grep '^0x'; }
[ "$(pxie)" = 0x00000055 ] || die "no register: $(pxie)"
con a 10 -s reboot -f || :
_count() { [ "$(grep -c 'GUEST READY' "$VMS/a/con.log")" -ge 2 ]; }
wait_for 60 _count || die "no reboot"
con a 10 "echo 1 >$DEVICES/0000:00:05.0/enable"
[ "$(pxie)" = 0x00000000 ] || die "it was not reset: $(pxie)"
wait_for 20 con a 10 "$tablet" || die "no tablet after the reset"
grep -E 'device (disk|usb).*reset' "$VMS/a/log" && die "no reset by the bus"
pass "two functions without a reset of their own are reset with their bus"

con a 10 "devmem \$(($abar + 0x114)) 32 0x55"
expect_event a DEVICE_DELETED device=usb
ctl a device_del id=usb >/dev/null
event_came a DEVICE_DELETED
grep -q "device usb: .*takes $DISK along, which the guest has (device disk)" "$VMS/a/log" ||
	die "nobody says what is in the way: $(cat "$VMS/a/log")"
[ "$(pxie)" = 0x00000055 ] || die "the other function was reset: $(pxie)"
pass "one of them is not reset while the guest has the other, which is named"

off
