#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo's single-host steps on this machine's own KVM, IOMMU and NIC: boot with the card, unplug
# it, save, restore, migrate to a second process, plug the card in again. The card must be bound to
# vfio-pci. Steps that need a second host or a network peer are the lab's (make demo).
set -eu
cd "$(dirname "$0")/.."
NIC=$1
ROOT=$(pwd -P) LAB=$ROOT/${BUILD:-build}/lab
export ROOT LAB NIC
scripts/packages.sh build
make -s -j2 all
tests/lab/setup.sh
[ -c /dev/kvm ] || { echo "demo: no /dev/kvm on this machine"; exit 1; }
[ -d "/sys/bus/pci/devices/$NIC" ] || { echo "demo: no PCI device $NIC"; exit 1; }
LAB_HOST=here LAB_OUT=$ROOT/${BUILD:-build}/demo LAB_RUN=$LAB_OUT VMS=$(mktemp -d /tmp/godwit-demo.XXXXXX)
export LAB_HOST LAB_OUT LAB_RUN VMS
rm -rf "$LAB_OUT"
mkdir -p "$LAB_OUT"
. tests/lab/vm.sh
. demo/steps.sh

step 1 "boot Debian's kernel with $NIC"
vm_config vm "net0=$NIC"
vm_start vm
vm_up vm
con vm 10 lspci
step_done "guest up"

step 2 "unplug it; a worker writes patterns over 112 MiB"
expect_event vm DEVICE_DELETED
ctl vm device_del id=net0 >/dev/null
event_came vm DEVICE_DELETED
con vm 30 worker start 112 100
step_done "the host has it back"

step 3 "save, kill, restore"
ctl vm snapshot-save "directory=$VMS/snap" --timeout 60 >/dev/null
vm_kill vm
rm -f "$VMS/vm/ctl"
vm_restore vm "$VMS/snap"
vm_is vm running
con vm 30 worker verify | grep 'pages_bad=0'
step_done "patterns as they were"

step 4 "live-migrate to a second process"
vm_incoming next "unix:$VMS/mig"
ctl vm migrate "uri=unix:$VMS/mig" >/dev/null
ctl vm wait-migration --timeout 60 >"$LAB_OUT/migration.json"
vm_is next running
vm_quit vm
con next 30 worker verify | grep 'pages_bad=0'
step_done "patterns as they were" "downtime=$(field downtime "$(cat "$LAB_OUT/migration.json")")" \
	"bytes=$(sent "$LAB_OUT/migration.json")"

step 5 "plug $NIC in again"
ctl next device_add id=net1 type=vfio-pci "host=$NIC" >/dev/null
read -r vendor <"/sys/bus/pci/devices/$NIC/vendor"
read -r device <"/sys/bus/pci/devices/$NIC/device"
_back() { con next 10 lspci | grep "${vendor#0x}:${device#0x}"; }
wait_for 20 _back || die "the guest does not see it"
ctl next system_powerdown >/dev/null
vm_gone next
step_done "used and given back"
echo
awk -F'|' '{ printf "%-4s | %-50.50s | %6s ms | downtime %5s | %s\n", $1, $2, $4, $5, $3 }' "$LAB_OUT/table"
rm -rf "$VMS"
