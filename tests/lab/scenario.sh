# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a scenario with what it asks for in its first lines:  . tests/lab/scenario.sh
#
#   header SCRIPT KEY DEFAULT    what a scenario says of itself there
#   scenario OUT SECONDS SCRIPT [ARG...]   runs it, with so many SECONDS more than it says; its output
#                                goes to OUT, the lab's own to OUT.log
#   scenarios OUT SCRIPT...      runs them one after the other in one host, which they all say ("# together: GROUP"),
#                                and so ask for nothing of their own
#   passes OUT                   its tests that have passed, a line each

header() {
	local line value=$3
	while IFS= read -r line && [[ $line == \#* ]]; do
		[[ $line != "# $2: "* ]] || value=${line#"# $2: "}
	done <"$1"
	echo "$value"
}

# in_lab OUT ARG...: tests/lab/lab. A host that stands still, its own kernel with it, is no verdict on what ran there:
# its output is kept in OUT.still, and it is tried once more.
in_lab() {
	local out=$1
	shift
	tests/lab/lab -o "$out" "$@" >"$out.log" 2>&1 && return
	grep -q '^lab: host .: stands still' "$out.log" || return 1
	rm -rf "$out.still"
	mv "$out" "$out.still"
	mv "$out.log" "$out.still.log"
	tests/lab/lab -o "$out" "$@" >"$out.log" 2>&1
}

scenario() {
	local out=$1 more=$2 script=$3 disk
	shift 3
	disk=$(header "$script" disk "")
	in_lab "$out" -n "$(header "$script" hosts 1)" -t $(($(header "$script" seconds 300) + more)) \
		-m "$(header "$script" memory 2048)" ${disk:+-d "$disk"} -k "$(header "$script" kernel debian)" \
		"$script" -- "$@"
}

scenarios() {
	local out=$1 script limit seconds=0 args=()
	shift
	for script; do
		limit=$(header "$script" seconds 300)
		args+=("$PWD/$script" "$limit")
		# Each has its own limit there; putting the host back takes no longer than this.
		seconds=$((seconds + limit + 30))
	done
	in_lab "$out" -t "$seconds" tests/lab/together.sh -- "${args[@]}"
}

passes() { cat "$1"/?/script.log 2>/dev/null | grep '^PASS '; }
