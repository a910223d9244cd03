# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The guest's side of tests/lab/con.c, taken in by the shell that has the console: after "GUEST READY"
# each line that comes is run as a shell command.
#
#   @ID:LENGTH COMMAND   from con. LENGTH is COMMAND's, so that a line that lost bytes is known; a
#                        line that comes again is not run again, its status is told again.
#   COMMAND              from a person
#
# The answer is "GUEST RUN ID", what the command prints, and "GUEST RC ID STATUS".
stty -echo icanon icrnl

# PCI functions by number, as scripts want to see them: lspci's "ADDRESS VENDOR:DEVICE DRIVER".
lspci() {
	for d in /sys/bus/pci/devices/*; do
		v=$(cat "$d/vendor") i=$(cat "$d/device")
		w=$(readlink "$d/driver") || w=-
		echo "${d##*/} ${v#0x}:${i#0x} ${w##*/}"
	done
}
# nic ADDRESS/BITS: brings up the first network card that has no address, prints its name.
nic() {
	for d in /sys/class/net/*; do
		n=${d##*/}
		[ -e "$d/device" ] || continue
		ip addr show dev "$n" | grep -q 'inet ' && continue
		ip addr add "$1" dev "$n" && ip link set "$n" up && echo "$n"
		return
	done
	echo "no network card without an address"
	return 1
}

run() {
	echo "GUEST RUN $1"
	(eval "$2") </dev/null 2>&1
	rc=$?
	printf '\nGUEST RC %s %s\n' "$1" "$rc"
}

printf '\nGUEST READY %s\n' "$(cut -d' ' -f1 /proc/uptime)"
last=
while :; do
	IFS= read -r line || { sleep 1; continue; }
	case $line in
	'') ;;
	@*:*\ *)
		id=${line%%:*} cmd=${line#* }
		id=${id#@} len=${line%% *}
		if [ "${#cmd}" != "${len#*:}" ]; then
			printf '\nGUEST BAD %s\n' "$id"
		elif [ "$id" = "$last" ]; then
			printf '\nGUEST RC %s %s\n' "$id" "$rc"
		else
			last=$id
			run "$id" "$cmd"
		fi
		;;
	*) run - "$line" ;;
	esac
done
