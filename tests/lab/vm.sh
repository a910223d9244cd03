# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Virtual machines in a lab host:  . "$ROOT/tests/lab/vm.sh"  (which takes in lib.sh)
#
# SECONDS everywhere are those of a quiet machine: what is waited for has them times LAB_PATIENCE.
#
# A VM has a name, and all that is its own in $VMS/NAME: the control socket `ctl`, the console `con`
# and its log `con.log`, godwit's log `log`, the configuration `config.json`.
#
#   vm_config NAME [DEVICE...]   writes the configuration. DEVICE: ID=HOST[@SLOT] for passthrough, or
#                                an entry of the configuration's devices, as {"id":...}; with PORTS set
#                                there are so many root ports, with NUMA set these nodes
#   vm_start NAME [OPTION...]    godwit run; with PLAIN_TCP set it may migrate by tcp: to other hosts, and so may those below
#   vm_incoming NAME URI [OPTION...]   godwit run --incoming, with the consoles mapped
#   vm_restore NAME DIR [OPTION...]    godwit restore, likewise
#   vm_ready NAME [SECONDS]      waits until its control socket answers
#   ctl NAME COMMAND [K=V...] [--timeout SECONDS]    a command on its control socket, 60 s without a word
#   con NAME SECONDS COMMAND...  a command in the guest
#   con_wait NAME SECONDS TEXT   waits for a text on the console
#   vm_up NAME [SECONDS]         waits for the guest's GUEST READY (40 s)
#   vm_quit NAME                 quit, and waits for the process's end
#   vm_moved NAME OTHER SECONDS  the migration from VM NAME to OTHER ends well, and so does NAME;
#                                /tmp/migration has what wait-migration printed
#   vm_kill NAME                 SIGKILL; it must not have ended by itself
#   vm_status NAME               running, paused, ...
#   vm_is NAME STATUS [SECONDS]  waits until it is
#   vm_rests NAME SECONDS        stops it for that long, during which no time is to pass for its guest
#   field NAME JSON              the number or string that is NAME's in a JSON text
#   expect_fail TEXT COMMAND...  the command must fail and say TEXT
#   expect_event NAME EVENT [K=V...]   from here on, EVENT is listened for
#   event_came NAME EVENT        waits for it
#   listen NAME FILE             all events from here on go to FILE, until the listener is killed
#   verify NAME                  the memory of its guest's worker is whole; /tmp/verify has its line
#   no_complaint NAME [REGEX]    its guest's kernel has logged no warning, and nothing like REGEX
#   stream_start NAME ADDRESS RATE   one TCP connection between its guest and the host, at ADDRESS, that
#                                carries data both ways; the host's end is process $stream
#   stream_alive NAME            it goes on, both ways
#   stream_end NAME              ends it: no byte is wrong at either end
#   bridge_taps CIDR TAP...      br0, with that address and those taps
#   spread FILE                  median and maximum of a file's numbers
#   tree_holds NAME              arm64: the device tree of VM NAME, which does not run, has all that bindings
#                                require, and dtc has nothing to say of it
#   traffic ADDRESS              2 MiB both ways through VM a's card, which has no address yet
#
# Device servers, each with a name:
#
#   serve NAME ARGS...           one on /tmp/NAME.sock, its process id in /tmp/NAME.pid; with MANNER=library it speaks as
#                                libvfio-user does (tests/manner/manner.h)
#   other_manner                 those that are started from here on speak the other way
#   server_gone NAME             has it ended?
#   unserve NAME                 SIGKILL, if it has not ended as it was made to
. "$ROOT/tests/lab/lib.sh"

VMS=${VMS:-/tmp/vms}
MEMORY=${MEMORY:-320M}
CPUS=${CPUS:-1}
# A Debian kernel's command line with which it boots in three quarters of the time, on an emulated host.
QUICK="quiet panic=-1 mitigations=off lsm= audit=0 init_on_alloc=0 cryptomgr.notests rcupdate.rcu_expedited=1"
[ "$(uname -m)" != x86_64 ] || QUICK="$QUICK nokaslr"
mkdir -p "$VMS" /tmp/bin
cp "${LAB%/lab}/godwit" "$LAB/bin/con" "$LAB/bin/nettest" /tmp/bin/ 2>/dev/null || true
[ -x /tmp/bin/godwit ] || { echo "no ${LAB%/lab}/godwit: make first" >&2; exit 1; }
PATH=/tmp/bin:$PATH
# Read often, so kept in memory.
[ -f /tmp/vmlinuz ] || cp "$LAB/vmlinuz" "$LAB/guest.cpio.gz" /tmp/

# Whatever way the script ends: the VMs' logs are kept, apart from those of others in this host (together.sh).
logs=$LAB_OUT/vms${LAB_PART:+/$LAB_PART}
_keep_logs() {
	for _v in "$VMS"/*/; do
		_v=${_v%/}
		mkdir -p "$logs"
		cp "$_v/log" "$logs/${_v##*/}.log" 2>/dev/null || :
		cp "$_v/con.log" "$logs/${_v##*/}.con.log" 2>/dev/null || :
	done
}
trap _keep_logs EXIT

vm_config() {
	_n=$1
	shift
	mkdir -p "$VMS/$_n"
	_devices=
	for _dev; do
		case $_dev in
		"{"*)
			_devices="$_devices${_devices:+,}$_dev"
			continue
			;;
		esac
		_id=${_dev%%=*} _host=${_dev#*=} _slot=
		case $_host in *@*) _slot=",\"slot\":${_host##*@}" _host=${_host%@*} ;; esac
		_devices="$_devices${_devices:+,}{\"id\":\"$_id\",\"type\":\"vfio-pci\",\"host\":\"$_host\"$_slot}"
	done
	_ports=
	[ -z "${PORTS-}" ] || _ports="\"pci\": {\"root-ports\": $PORTS},"
	_numa=
	[ -z "${NUMA-}" ] || _numa="\"numa\": $NUMA,"
	cat >"$VMS/$_n/config.json" <<-END
	{"name": "$_n", "cpus": $CPUS, "memory": "$MEMORY", $_ports $_numa
	 "boot": {"kernel": "/tmp/vmlinuz", "initrd": "/tmp/guest.cpio.gz",
	          "cmdline": "console=ttyS0 $QUICK 8250.nr_uarts=8 ${CMDLINE-}"},
	 "serial": {"socket": "$VMS/$_n/con", "log": "$VMS/$_n/con.log"},
	 "devices": [$_devices]}
	END
}

# _vm_spawn NAME ARGS...
_vm_spawn() {
	_n=$1
	shift
	mkdir -p "$VMS/$_n"
	godwit "$@" ${PLAIN_TCP:+--plain-tcp} --control "$VMS/$_n/ctl" >>"$VMS/$_n/log" 2>&1 &
	echo $! >"$VMS/$_n/pid"
}

_maps() {
	echo "--map serial.socket=$VMS/$1/con --map serial.log=$VMS/$1/con.log"
}

vm_start() {
	_n=$1
	shift
	_vm_spawn "$_n" run "$VMS/$_n/config.json" "$@"
}

# shellcheck disable=SC2046
vm_incoming() {
	_n=$1 _uri=$2
	shift 2
	_vm_spawn "$_n" run --incoming "$_uri" $(_maps "$_n") "$@"
	vm_ready "$_n"
}

# shellcheck disable=SC2046
vm_restore() {
	_n=$1 _dir=$2
	shift 2
	_vm_spawn "$_n" restore "$_dir" $(_maps "$_n") "$@"
}

ctl() {
	_n=$1
	shift
	_before='' _limit=60
	for _word; do
		shift
		if [ "$_before" = --timeout ]; then
			_limit=$_word
		elif [ "$_word" != --timeout ]; then
			set -- "$@" "$_word"
		fi
		_before=$_word
	done
	godwit ctl --timeout $((_limit * ${LAB_PATIENCE:-1})) "$VMS/$_n/ctl" "$@"
}

_answers() { ctl "$1" query-status >/dev/null 2>&1; }
vm_ready() {
	if ! wait_for "${2:-15}" _answers "$1"; then
		tail -n 20 "$VMS/$1/log" >&2
		die "$1 does not answer"
	fi
}

con() {
	_n=$1 _t=$2
	shift 2
	/tmp/bin/con "$VMS/$_n/con" "$VMS/$_n/con.log" "$_t" "$@"
}

con_wait() {
	/tmp/bin/con "$VMS/$1/con" "$VMS/$1/con.log" "$2" -w "$3"
}

vm_up() {
	/tmp/bin/con "$VMS/$1/con" "$VMS/$1/con.log" "${2:-40}" -w "GUEST READY" "$(cat "$VMS/$1/pid")" || {
		tail -n 20 "$VMS/$1/log" "$VMS/$1/con.log" >&2
		_threads "$1" >&2
		_klog "$1" >&2
		die "the guest of $1 does not come up"
	}
}
# What its threads do, and how much of the next second: a guest that is slow runs, one that hangs may not.
_threads() {
	for _i in 1 2; do
		for _t in /proc/"$(cat "$VMS/$1/pid")"/task/*; do
			echo "thread $(cat "$_t/comm" 2>&1): $(sed 's/.*) //' "$_t/stat" 2>&1 | cut -d' ' -f1,12,13)"
		done
		[ $_i = 2 ] || sleep 1
	done
}

# What its kernel has logged, printed or not, from its memory; the end of it may be something else.
_klog() {
	ctl "$1" --timeout 10 dump-guest-memory paging=false "protocol=file:/tmp/$1.core" >/dev/null || return 0
	mkdir -p "$logs"
	grep -aoE '[ -~]{6,}' "/tmp/$1.core" | grep -m 1 -A 300 'ommand line: .*console=' >"$logs/$1.klog" || :
	rm -f "/tmp/$1.core"
	echo "its kernel's log: $logs/$1.klog"
}

vm_status() { _said=$(ctl "$1" query-status) && field status "$_said"; }
_is() { [ "$(vm_status "$1" 2>/dev/null)" = "$2" ]; }
vm_is() {
	wait_for "${3:-20}" _is "$1" "$2" && return
	tail -n 20 "$VMS/$1/log" >&2
	die "$1 is not $2 but $(vm_status "$1")"
}

_hundredths() { sed 's/\.//; s/ .*//' /proc/uptime; }
_guest_hundredths() { con "$1" 10 "sed 's/\.//; s/ .*//' /proc/uptime"; }
# However slow the machine is, its time and the guest's differ by that much.
vm_rests() {
	_host=$(_hundredths) _guest=$(_guest_hundredths "$1")
	ctl "$1" stop >/dev/null
	[ "$(vm_status "$1")" = paused ] || die "stop: $(vm_status "$1")"
	sleep "$2"
	ctl "$1" cont >/dev/null
	_guest=$(($(_guest_hundredths "$1") - _guest)) _host=$(($(_hundredths) - _host))
	[ $((_host - _guest)) -ge $(($2 * 100 - 5)) ] ||
		die "the guest saw ${_guest}0 ms of ${_host}0 ms, in which it was stopped for $2 s"
}

vm_gone() {
	_p=$(cat "$VMS/$1/pid")
	wait_for "${2:-20}" gone "$_p" || die "$1 does not end"
	wait "$_p"
}
vm_quit() {
	ctl "$1" quit >/dev/null
	vm_gone "$1" || die "$1 ended with $?: $(tail -n 20 "$VMS/$1/log")"
}
vm_moved() {
	ctl "$1" wait-migration --timeout "$3" >/tmp/migration ||
		die "from $1 to $2: $(cat /tmp/migration) $(ctl "$1" query-migrate)"
	vm_is "$2" running
	vm_quit "$1"
}
vm_kill() {
	_ended=0
	kill -9 "$(cat "$VMS/$1/pid")" 2>/dev/null || :
	vm_gone "$1" 2>/dev/null || _ended=$?
	[ $_ended = 137 ] || die "$1 had ended, with $_ended: $(tail -n 20 "$VMS/$1/log")"
}

# field NAME [JSON]: from stdin without JSON. The last of that name; nothing if there is none.
field() {
	if [ $# -gt 1 ]; then _json=$2; else _json=$(cat); fi
	case $_json in *"\"$1\":"*) ;; *) return 0 ;; esac
	_json=${_json##*"\"$1\":"}
	_json=${_json#"${_json%%[![:space:]]*}"}
	_json=${_json#\"}
	echo "${_json%%[\",\}
]*}"
}

expect_fail() {
	_text=$1
	shift
	if _said=$("$@" 2>&1); then die "'$*' was to fail: $_text"; fi
	case $_said in
	*"$_text"*) log "refused, as it should: $_said" ;;
	*) die "'$*' failed, but says: $_said; not: $_text" ;;
	esac
}

# What the connection says last before it listens is the reply to a command.
# _hear SECONDS NAME FILE VERB...
_hear() {
	_t=$(patience "$1") _n=$2 _file=$3
	shift 3
	printf 'query-status\n%s\n' "$*" | timeout "$_t" godwit ctl "$VMS/$_n/ctl" >"$_file" 2>&1 &
	listener=$!
	wait_for 20 grep -q '"status"' "$_file" || die "$_n does not listen: $(cat "$_file")"
}
listen() { _hear 3600 "$1" "$2" events; }
expect_event() {
	_n=$1
	shift
	_hear 120 "$_n" "$VMS/$_n/event.$1" wait "$@"
	eval "_hears_$1=$listener"
}
event_came() {
	eval "wait \$_hears_$2" || die "$1: no $2: $(cat "$VMS/$1/event.$2"; tail -n 5 "$VMS/$1/log")"
}

verify() { con "$1" 60 worker verify >/tmp/verify || die "the memory of $1: $(cat /tmp/verify)"; }

no_complaint() {
	con "$1" 20 "! dmesg | grep -E 'BUG:|WARNING:|Call Trace|soft lockup${2:+|$2}'" ||
		die "the kernel of $1's guest complains"
}

_stream() {
	con "$1" 30 streamtest status >/tmp/progress || die "the stream: $(cat /tmp/progress)"
	sed -n 's/.*sent=\([0-9]*\) received=\([0-9]*\).*/\1 \2/p' /tmp/progress
}
_stream_more() {
	# shellcheck disable=SC2046,SC2086 # four numbers
	set -- $_was $(_stream "$1")
	[ $# = 4 ] && [ "$3" -gt "$1" ] && [ "$4" -gt "$2" ]
}
stream_alive() {
	_was=$(_stream "$1")
	wait_for 60 _stream_more "$1" || die "the stream stands still at $_was: $(cat /tmp/progress)"
}
stream_start() {
	streamtest serve "$2" 6000 "$3" >/tmp/stream.host 2>&1 &
	stream=$!
	wait_for 20 listening 6000 || die "$(cat /tmp/stream.host)"
	con "$1" 30 streamtest start "$2" 6000 "$3"
}
stream_end() {
	con "$1" 60 streamtest finish >/tmp/stream || die "the guest's end: $(cat /tmp/stream)"
	wait "$stream" || die "the host's end: $(cat /tmp/stream.host)"
	log "guest $(cat /tmp/stream); host $(cat /tmp/stream.host)"
}

bridge_taps() {
	load tun bridge || die "no modules"
	ip link add br0 type bridge
	ip addr add "$1" dev br0
	ip link set br0 up
	shift
	for _tap; do
		ip tuntap add "$_tap" mode tap vnet_hdr
		ip link set "$_tap" master br0 up
	done
}

tree_holds() {
	godwit run "$VMS/$1/config.json" --dump-dtb "/tmp/$1.dtb" --control "/tmp/$1.none" || die "no device tree"
	[ ! -e "/tmp/$1.none" ] || die "$1 was run"
	"${LAB%/lab}/tests/check_dtb" "/tmp/$1.dtb" || die "the device tree of $1"
}

spread() {
	sort -n "$1" | awk '{ n[NR] = $1 } END { print "median " n[int((NR + 1) / 2)] ", max " n[NR] " of " NR }'
}

_nic() { con a 10 nic "$1/24" >/dev/null; }
traffic() {
	nettest serve "$PEER_ADDR" 5001 1 >/tmp/served 2>&1 &
	_peer=$!
	wait_for 30 _nic "$1" || die "the guest has no card"
	wait_for 30 ping -c1 -W1 -q "$1" >/dev/null || die "the guest does not answer"
	wait_for 20 listening 5001 || die "no peer: $(cat /tmp/served)"
	con a 60 nettest "$PEER_ADDR" 5001 2 || die "TCP: $(cat /tmp/served)"
	wait "$_peer"
}

# ---- device servers -------------------------------------------------------------------------

serve() {
	_s=$1
	shift
	rm -f "/tmp/$_s.sock"
	echo "-- device-server $* ${MANNER:+(manner: $MANNER)}" >>"$LAB_OUT/$_s.log"
	_program=godwit
	if [ -n "${MANNER-}" ]; then
		_program=foreign-server
		[ -e /tmp/bin/$_program ] || cp "${LAB%/lab}/tests/$_program" /tmp/bin/
	fi
	"$_program" device-server "$@" --socket "/tmp/$_s.sock" >>"$LAB_OUT/$_s.log" 2>&1 &
	echo $! >"/tmp/$_s.pid"
	wait_for 20 _served "$_s" || _server_failed "$_s" "does not come up"
	[ -S "/tmp/$_s.sock" ] || _made_to_fail "$_s" || _server_failed "$_s" "has ended"
}
other_manner() { [ -z "${MANNER-}" ] && MANNER=library || MANNER=; }
# A client may have come, and its last message too, between two looks.
_served() { [ -S "/tmp/$1.sock" ] || server_gone "$1"; }
server_gone() { gone "$(cat "/tmp/$1.pid")"; }
_made_to_fail() { tail -n 1 "$LAB_OUT/$1.log" | grep -q 'was made to fail$'; }
_server_failed() { die "the server $1 $2: $(tail -n 5 "$LAB_OUT/$1.log")"; }

unserve() {
	[ -e "/tmp/$1.pid" ] || return 0
	_p=$(cat "/tmp/$1.pid") _end=0
	kill -9 "$_p" 2>/dev/null || :
	wait "$_p" 2>/dev/null || _end=$?
	rm -f "/tmp/$1.pid" "/tmp/$1.sock"
	case $_end in
	137) ;;
	1) _made_to_fail "$1" || _server_failed "$1" "has ended" ;;
	*) _server_failed "$1" "ended with $_end" ;;
	esac
}
