#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The control socket under clients that were not written here: ganeti's QMP client, go-qemu's (with
# types made from QEMU's schema), socat. A VM that waits for a migration serves them, so no
# /dev/kvm is needed. Packages are downloaded with apt and unpacked into the cache, not installed.
#
# usage: tests/control/run.sh [ganeti|goqemu|socat|prompt|systemd|tls]...
# Prints "PASS name", "FAIL name" or "SKIP name: why" for each.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
godwit=$PWD/$BUILD/godwit
work=$PWD/$BUILD/control
# shellcheck source=scripts/cache.sh
. scripts/cache.sh
failed=0 server=
mkdir -p "$work"

say() {
	echo "$*"
	[ "${1%% *}" != FAIL ] || failed=1
}

# check NAME COMMAND...: it has to succeed; its output is shown if it does not.
check() {
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		say "PASS $name"
	else
		say "FAIL $name"
		tail -n 20 "$work/log"
	fi
}

# As many descriptors as it may have, whatever it begins with.
test_descriptors() {
	ulimit -S -n 64
	serve || { say "FAIL descriptors: no server" && return; }
	read -r _ _ _ soft hard _ < <(grep '^Max open files' "/proc/$server/limits")
	check "the soft limit of descriptors is the hard one" [ "$soft" = "$hard" ]
	finish
	ulimit -S -n "$hard"
}

serve() {
	rm -f "$work/sock"
	"$godwit" run --incoming defer --control "$work/sock" -q 2>"$work/server.log" &
	server=$!
	timeout 20 "$godwit" ctl "$work/sock" query-status --timeout 10 >"$work/log" 2>&1
}

finish() {
	[ -z "$server" ] && return
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	server=
}
trap finish EXIT

# unpack NAME PACKAGE...: downloaded once, into the cache; $cache_path is the folder, if that was possible.
unpack() {
	local key
	key=$(cache_key "$@" "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")")
	(set -e; cache_get "control-$1" "$key" download "${@:2}") >>"$work/apt.log" 2>&1
	cache_path "control-$1" "$key"
}

download() {
	local packages=("${@:1:$#-1}") to=${*: -1} package
	mkdir "$to/debs"
	for package in "${packages[@]}"; do (cd "$to/debs" && timeout 300 apt-get -qq download "$package"); done
	for package in "$to"/debs/*.deb; do dpkg-deb -x "$package" "$to"; done
	rm -rf "$to/debs"
}

# from NAME COMMAND...: each "ok THING" that it says is a pass, and it has to say some.
from() {
	local name=$1 line good=0
	shift
	timeout 100 "$@" >"$work/$name.log" 2>&1 || say "FAIL $name: ended with $?"
	while read -r line; do
		case $line in
		"ok "*) good=$((good + 1)) && say "PASS $name: ${line#ok }" ;;
		*) say "FAIL $name: $line" ;;
		esac
	done <"$work/$name.log"
	[ "$good" -gt 0 ] || say "FAIL $name: said nothing"
}

test_ganeti() {
	local python=/usr/bin/python3
	[ -x $python ] || { say "SKIP ganeti: no $python" && return; }
	unpack ganeti ganeti-3.0 python3-bitarray python3-simplejson python3-pyparsing \
		python3-openssl python3-cryptography python3-cffi-backend python3-pycurl \
		python3-psutil python3-pyinotify python3-paramiko
	[ -d "$cache_path" ] ||
		{ say "SKIP ganeti: its packages cannot be downloaded (see $BUILD/control/apt.log)" && return; }
	serve || { say "FAIL ganeti: no server" && return; }
	from ganeti env PYTHONDONTWRITEBYTECODE=1 \
		PYTHONPATH="$cache_path/usr/share/ganeti/3.0:$cache_path/usr/lib/python3/dist-packages" \
		$python tests/control/drive_ganeti.py "$work/sock"
	finish
}

test_goqemu() {
	unpack goqemu golang-1.19-go golang-1.19-src golang-golang-x-sys-dev \
		golang-github-digitalocean-go-libvirt-dev golang-github-digitalocean-go-qemu-dev
	[ -d "$cache_path" ] ||
		{ say "SKIP goqemu: its packages cannot be downloaded (see $BUILD/control/apt.log)" && return; }
	check "goqemu: build" env GOROOT="$cache_path/usr/lib/go-1.19" GO111MODULE=off \
		GOPATH="$cache_path/usr/share/gocode" GOCACHE="$GODWIT_CACHE/go" GOFLAGS= GOTOOLCHAIN=local timeout 300 \
		"$cache_path/usr/lib/go-1.19/bin/go" build -o "$work/drive_goqemu" tests/control/drive_goqemu.go
	serve || { say "FAIL goqemu: no server" && return; }
	from goqemu "$work/drive_goqemu" "$work/sock"
	check "goqemu: the program has ended" wait "$server"
	server=
}

# socat as it is used in scripts: what it is given is sent at once, and stdin ends right after.
ask() {
	timeout 20 socat -t 5 - "UNIX-CONNECT:$work/sock"
}

test_socat() {
	local reply
	command -v socat >/dev/null || { say "SKIP socat: it is not installed" && return; }
	serve || { say "FAIL socat: no server" && return; }
	reply=$(printf '%s' '{"execute":"qmp_capabilities"}{"execute":"query-status","id":12345678901234567890}' | ask)
	check "socat: requests without line ends" grep -q '"id":12345678901234567890}' <<<"$reply"
	check "socat: lines end in CR LF" [ "$(grep -c $'\r$' <<<"$reply")" = 3 ]
	reply=$(printf '{"execute":\n\033garbage\n{"execute":"qmp_capabilities","id":"x"}\n' | ask)
	check "socat: garbage costs an error" grep -q '"error"' <<<"$reply"
	check "socat: and no more" grep -q '{"return":{},"id":"x"}' <<<"$reply"
	reply=$({ echo '{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}' &&
		echo '{"exec-oob":"migrate_cancel","id":1}'; } | ask)
	check "socat: out of band" grep -q '{"return":{},"id":1}' <<<"$reply"
	finish
}

# The prompt, on a terminal that script(1) makes.
test_prompt() {
	local out command
	command -v script >/dev/null || { say "SKIP prompt: no script(1)" && return; }
	serve || { say "FAIL prompt: no server" && return; }
	out=$(printf 'query-kvm\nno-such\nquery-uuid\n' | "$godwit" ctl "$work/sock" -H 2>&1)
	check "prompt: commands from stdin" grep -q '^enabled  true' <<<"$out"
	check "prompt: go on after an error" grep -q '^UUID  0000' <<<"$out"
	out=$(timeout 20 "$godwit" ctl "$work/sock" wait-migration 2>&1)
	check "ctl: wait-migration where none has begun" [ "$out" = "godwit: ctl: no migration has begun" ]
	out=$({
		sleep 1
		printf 'query-sta\t\n'
		sleep 0.5
		printf 'migrate-set-p\tdown\t5\n'
		sleep 0.5
		printf 'query-migrate-parameters\n'
		sleep 0.5
		printf '\004'
		sleep 0.5
	} | XDG_STATE_HOME=$work/state TERM=vt100 timeout 30 script -qfc "'$godwit' ctl '$work/sock' -H" /dev/null)
	check "prompt: a command is completed" grep -q '^status  *inmigrate' <<<"$out"
	check "prompt: an argument is completed" grep -q '^downtime-limit  *5' <<<"$out"
	check "prompt: history is kept" grep -q 'query-migrate-parameters' "$work/state/godwit/ctl_history"
	for command in stop cont; do
		check "ctl: $command before a guest has arrived" [ "$(timeout 20 "$godwit" ctl "$work/sock" $command 2>&1)" = "{}" ]
	done
	"$godwit" ctl "$work/sock" migrate-incoming uri="unix:$work/incoming" --timeout 20 >"$work/log" 2>&1
	out=$(timeout 20 "$godwit" ctl "$work/sock" wait-migration 2>&1)
	check "ctl: wait-migration where a VM only listens" grep -q 'no migration has begun: the VM listens' <<<"$out"
	check "prompt: for its owner" [ "$(stat -c %a "$work/state/godwit/ctl_history")" = 600 ]
	rm -rf "$work/state"
	finish
}

# As systemd does it: the socket listens already, as descriptor 3.
test_systemd() {
	local reply
	command -v perl >/dev/null || { say "SKIP systemd: no perl to listen with" && return; }
	rm -f "$work/sock"
	perl -MIO::Socket::UNIX -MFcntl -MPOSIX -e '
		my $s = IO::Socket::UNIX->new(Local => shift, Listen => 4) or die "listen: $!";
		fcntl($s, F_SETFD, 0);
		POSIX::dup2(fileno($s), 3) if fileno($s) != 3;
		@ENV{qw(LISTEN_FDS LISTEN_PID)} = (1, $$);
		exec @ARGV or die "exec: $!";' \
		"$work/sock" "$godwit" run --incoming defer --control systemd -q 2>"$work/server.log" &
	server=$!
	reply=$(timeout 20 "$godwit" ctl "$work/sock" query-status --timeout 10 2>&1)
	check "systemd: the socket that was handed over" grep -q inmigrate <<<"$reply"
	finish
	reply=$("$godwit" run --incoming defer --control systemd 2>&1)
	check "systemd: none was handed over" grep -q LISTEN_FDS <<<"$reply"
}

# Certificates by openssl(1): a third hand.
make_certificates() {
	local dir=$work/tls name use
	rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" || return
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=CA \
		-keyout ca-key.pem -out ca-cert.pem || return
	for name in server client; do
		[ $name = server ] && use=serverAuth || use=clientAuth
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
			-keyout $name-key.pem -out $name.csr &&
			printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%s\n' $use >$name.ext &&
			openssl x509 -req -in $name.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial \
				-days 2 -extfile $name.ext -out $name-cert.pem || return
	done
}

test_tls() {
	local port dir=$work/tls reply
	command -v openssl >/dev/null || { say "SKIP tls: no openssl(1) to make certificates with" && return; }
	(make_certificates) >"$work/openssl.log" 2>&1 || { say "FAIL tls: no certificates" && return; }
	for port in $(seq 42001 42050); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	"$godwit" run --incoming defer --control "tls:127.0.0.1:$port" --tls-dir "$dir" -q 2>"$work/server.log" &
	server=$!
	reply=$(timeout 20 "$godwit" ctl "tls:localhost:$port" query-status --tls-dir "$dir" --timeout 10 2>&1)
	check "tls: godwit ctl" grep -q inmigrate <<<"$reply"
	reply=$({ sleep 1; printf '{"execute":"qmp_capabilities","id":"by openssl"}\n'; sleep 1; } |
		timeout 20 openssl s_client -quiet -connect "127.0.0.1:$port" -CAfile "$dir/ca-cert.pem" \
			-cert "$dir/client-cert.pem" -key "$dir/client-key.pem" 2>&1)
	check "tls: openssl s_client" grep -q '"id":"by openssl"' <<<"$reply"
	reply=$(sleep 1 | timeout 20 openssl s_client -quiet -connect "127.0.0.1:$port" 2>&1)
	check "tls: nothing without a certificate" [ -z "$(grep QMP <<<"$reply")" ]
	check "tls: but an alert" grep -q 'alert certificate required' <<<"$reply"
	reply=$(timeout 20 "$godwit" run --incoming defer --control "tcp:127.0.0.1:$port" 2>&1)
	check "tls: TCP without it is refused" grep -q 'TLS only' <<<"$reply"
	finish
}

[ $# -gt 0 ] || set -- descriptors socat prompt systemd tls ganeti goqemu
for name; do
	"test_$name"
done
exit $failed
