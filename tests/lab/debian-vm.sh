# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Debian guests in a lab host that was started with -d debian.img:
#   . "$ROOT/tests/lab/debian-vm.sh"     (which takes in vm.sh)
#
# The guest's disk is the host's /dev/vda, its network a bridge, where the host is 10.79.0.1 and the
# guest 10.79.0.2. Each VM has a tap of its own on that bridge.
#
#   debian_config NAME           writes the configuration, makes the tap
#   debian_map NAME              the maps that a restored or incoming VM needs, beside the consoles'
#   debian_login NAME [SECONDS]  waits for the login prompt, logs in; con works from then on
#   debian_clean NAME            neither console nor the guest's kernel log have a complaint, but for
#                                what says that the guest waited for the host's one, emulated CPU
#   debian_off NAME              the power button; the disk is to be whole afterwards
. "$ROOT/tests/lab/vm.sh"

HOST_ADDR=10.79.0.1
export GUEST_ADDR=10.79.0.2
COMPLAINTS='I/O error|WARNING|BUG|[Ss]oft lockup|hung task|blocked for more|Call Trace|stall|unstable|EXT4-fs error'
SLOW='Long readout interval, skipping watchdog check|hrtimer: interrupt took|perf: interrupt took too long|hogged CPU for|sched: (DL replenish lagged too much|RT throttling activated)'

load virtio_blk tun bridge crc32c_generic ext4 || die "no modules"
# vhost-net is used where it can be opened.
load vhost_net || :
wait_for 5 test -b /dev/vda || die "this host has no disk: tests/lab/lab -d debian.img"
cp "$LAB/debian.cpio.gz" /tmp/
ip link add debian type bridge forward_delay 0
ip addr add "$HOST_ADDR/24" dev debian
ip link set debian up

debian_config() {
	ip tuntap add "tap-$1" mode tap
	ip link set "tap-$1" master debian up
	mkdir -p "$VMS/$1"
	# systemd gives up a device that has not come by then, the console among them.
	_systemd=systemd.default_timeout_start_sec=$(patience 90)
	cat >"$VMS/$1/config.json" <<-END
	{"name": "$1", "cpus": $CPUS, "memory": "$MEMORY",
	 "boot": {"kernel": "/tmp/vmlinuz", "initrd": "/tmp/debian.cpio.gz",
	          "cmdline": "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off root=/dev/vda $_systemd"},
	 "serial": {"socket": "$VMS/$1/con", "log": "$VMS/$1/con.log"},
	 "devices": [
	   {"id": "disk0", "type": "virtio-blk", "file": "/dev/vda", "serial": "lab-disk"},
	   {"id": "net0", "type": "virtio-net", "tap": "tap-$1", "mac": "52:54:00:79:00:02"},
	   {"id": "rng0", "type": "virtio-rng"}]}
	END
}

debian_map() { echo "--map devices.net0.tap=tap-$1"; }

debian_login() {
	con_wait "$1" "${2:-120}" "lab-debian login:" || _debian_dead "$1"
	con "$1" 10 -l root
	con_wait "$1" 20 "Password:"
	con "$1" 10 -l lab
	con_wait "$1" 30 "GUEST READY"
}
_debian_dead() {
	tail -n 20 "$VMS/$1/log" "$VMS/$1/con.log" >&2
	die "no login on the console of $1"
}

debian_clean() {
	! grep -aE "$COMPLAINTS" "$VMS"/*/con.log || die "the console complains"
	con "$1" 30 dmesg -l emerg,alert,crit,err,warn >/tmp/dmesg
	! grep -vE "$SLOW" /tmp/dmesg | grep . || die "the guest's kernel complains"
}

debian_off() {
	ctl "$1" system_powerdown >/dev/null
	vm_gone "$1" 60 || die "exit status $?"
	e2fsck -f -n /dev/vda >/tmp/fsck 2>&1 || {
		cat /tmp/fsck >&2
		die "the file system is damaged"
	}
}
