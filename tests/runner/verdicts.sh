# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Reads what jobs have printed, and counts tests.  . tests/runner/verdicts.sh
# $OUT is the folder of the jobs' output: NAME.log, or for a lab run NAME.log and the folder NAME.
#
#   verdicts_begin            nothing is counted yet
#   verdict_one NAME STATUS   one test: it has passed when STATUS is 0
#   verdict_suite NAME STATUS   a Criterion binary (or one of plain.c): each of its tests counts
#   verdict_lines NAME STATUS   a program that prints "PASS what", "FAIL what" or "SKIP what: why" for each test
#   verdict_lab NAME STATUS   a lab run, in whose scripts each line "PASS what" is a test; what ends a script
#                             early is one that failed. Where NAME.why exists the run was skipped, for that reason
#   bad WHAT                  a test has failed; details of it may follow
#   details                   prints what standard input says of the failure told last, and keeps the end of it
#   skip NAME WHY             a test is skipped: allowed only by a line in tests/skips
#   verdicts_end              what failed with the last words of it, then "N passed, N failed[, N skipped]"; returns
#                             whether nothing failed

verdicts_begin() {
	passed=0 failed=0 skipped=0
	failures=$OUT/failures
	: >"$failures"
}

ok() {
	passed=$((passed + 1))
	echo "ok: $1"
}

bad() {
	failed=$((failed + 1))
	echo "failed: $1" >>"$failures"
	echo "FAILED: $1"
}

details() {
	local text
	text=$(cat)
	printf '%s\n' "$text"
	printf '%s\n' "$text" | cut -c1-300 | tail -n 12 | sed 's/^/    /' >>"$failures"
}

skip() {
	if grep -q "^$1[[:space:]]" tests/skips; then
		skipped=$((skipped + 1))
		echo "skipped: $1: $2"
	else
		bad "$1: skipped without leave: $2"
	fi
}

verdict_one() {
	if [ "$2" -eq 0 ]; then
		ok "$1"
	else
		bad "$1: status $2"
		tail -n 30 "$OUT/$1.log" | details
	fi
}

# criterion_said: of a Criterion binary's output what it says of tests that failed.
criterion_said() { sed 's/\x1b\[[0-9;]*m//g' | grep -aE '^ *\[(FAIL|CRASH|----)\]' | head -n 60; }

# count LINE WORD: the number behind WORD in Criterion's last line; 0 where there is none.
count() {
	local n
	n=$(sed -n "s/.*$2: \([0-9]\{1,\}\).*/\1/p" <<<"$1")
	echo "${n:-0}"
}

verdict_suite() {
	local name=$1 status=$2 line n p f
	line=$(sed 's/\x1b\[[0-9;]*m//g' "$OUT/$name.log" | grep -a 'Synthesis:' | tail -1)
	n=$(count "$line" Tested) p=$(count "$line" Passing)
	f=$(($(count "$line" Failing) + $(count "$line" Crashing)))
	if [ "$n" -eq 0 ]; then
		bad "$name: ran no test"
		tail -n 30 "$OUT/$name.log" | details
		return
	fi
	passed=$((passed + p))
	failed=$((failed + f))
	echo "$name: $p of $n passed"
	if [ "$f" -gt 0 ]; then
		echo "failed: $name: $f of $n" >>"$failures"
		criterion_said <"$OUT/$name.log" | details
	elif [ "$status" -ne 0 ]; then
		bad "$name: ended with status $status"
		tail -n 30 "$OUT/$name.log" | details
	fi
}

verdict_lines() {
	local name=$1 status=$2 verdict what log=$OUT/$1.log
	grep -qE '^(PASS|FAIL) ' "$log" || bad "$name: ran no test"
	[ "$status" -eq 0 ] || grep -q '^FAIL ' "$log" || bad "$name: ended with status $status"
	while read -r verdict what; do
		case $verdict in
		PASS) ok "$name: $what" ;;
		FAIL) bad "$name: $what" ;;
		SKIP) skip "$name-${what%%:*}" "${what#*: }" ;;
		esac
	done < <(grep -E '^(PASS|FAIL|SKIP) ' "$log")
	! grep -q '^FAIL ' "$log" || tail -n 60 "$log" | details
}

# still NAME: what is known of a host that stood still, for which its scenario was run once more (scenario.sh).
still() {
	[ -e "$OUT/$1.still.log" ] || return 0
	echo "note: $1: its host stood still, and it was run once more" | tee -a "$failures"
	tail -n 40 "$OUT/$1.still.log" | details
}

verdict_lab() {
	local name=$1 status=$2 n
	still "$name"
	if [ -e "$OUT/$name.why" ]; then
		skip "$name" "$(cat "$OUT/$name.why")"
		return
	fi
	n=$(passes "$OUT/$name" | wc -l)
	passed=$((passed + n))
	echo "$name: $n passed"
	passes "$OUT/$name" | sed 's/^/  /'
	if [ "$status" -ne 0 ] || [ "$n" -eq 0 ]; then
		bad "$name: $(grep -ah 'FAILED' "$OUT/$name"/?/script.log 2>/dev/null | tail -1)"
		{
			cat "$OUT/$name"/?/script.log 2>/dev/null | criterion_said
			tail -n 40 "$OUT/$name.log"
		} | details
	fi
}

verdicts_end() {
	local line="$passed passed, $failed failed"
	cat "$failures"
	[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
	echo "$line"
	[ "$failed" -eq 0 ]
}
