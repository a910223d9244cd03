# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs jobs side by side, as many as the machine has processors for.  . tests/runner/jobs.sh
# It takes in verdicts.sh; $OUT is the folder of the jobs' output.
#
#   job NAME SLOTS AFTER VERDICT COMMAND...
#           a job for jobs_run: SLOTS of the slots are its own while it runs (0: it mostly waits, for a network say);
#           AFTER names the jobs, with commas between them, that have to have passed before it (-: none); VERDICT is
#           the kind of verdict_VERDICT that reads its output; COMMAND may be a shell function
#   jobs_run SLOTS
#           runs them: of those that can be started the first one, as long as there are slots. A job that waits for one
#           that failed is not run
#   jobs_times
#           what each job took, longest first: seconds by the clock, and of processors; a job that was neither run to
#           its end nor left out counts as failed
#
# A job is a process group of its own, which ends when the shell is told to end.

declare -A job_slots=() job_after=() job_verdict=() job_command=() job_state=() job_pid=()
job_names=()

job() {
	local name=$1
	[ -z "${job_state[$name]:-}" ] || { echo "jobs: two jobs are called $name" >&2; exit 2; }
	job_names+=("$name")
	job_slots[$name]=$2 job_after[$name]=${3//,/ } job_verdict[$name]=$4 job_state[$name]=waits
	shift 4
	job_command[$name]=$(printf '%q ' "$@")
}

# job_ready NAME: returns whether it can be started; one that never can is marked.
job_ready() {
	local before
	for before in ${job_after[$1]}; do
		[ "$before" != - ] || continue
		case ${job_state[$before]:-} in
		passed) ;;
		failed | "not run")
			job_state[$1]="not run"
			echo "not run: $1, which needs $before"
			return 1
			;;
		waits | runs) return 1 ;;
		*) echo "jobs: $1 needs $before, which is no job" >&2; exit 2 ;;
		esac
	done
}

job_start() {
	local name=$1
	printf '\n== %s (%d s)\n' "$name" $((SECONDS - jobs_began))
	job_state[$name]=runs
	set -m
	(
		set +m
		TIMEFORMAT='%0R %0U %0S'
		{ time eval "${job_command[$name]}" >"$OUT/$name.log" 2>&1; } 2>"$OUT/$name.time"
	) </dev/null &
	job_pid[$name]=$!
	set +m
	jobs_free=$((jobs_free - job_slots[$name]))
}

job_end() {
	local name=$1 status=$2 before=$failed
	unset "job_pid[$name]"
	jobs_free=$((jobs_free + job_slots[$name]))
	printf '\n'
	"verdict_${job_verdict[$name]}" "$name" "$status"
	job_state[$name]=passed
	[ "$failed" -eq "$before" ] || job_state[$name]=failed
}

# shellcheck disable=SC2317 # called by the traps
jobs_kill() {
	local pid
	for pid in "${job_pid[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done
	wait
}

# jobs_waiting: how many wait.
jobs_waiting() {
	local name n=0
	for name in "${job_names[@]}"; do
		[ "${job_state[$name]}" != waits ] || n=$((n + 1))
	done
	echo "$n"
}

# jobs_start_some: what can be started now.
jobs_start_some() {
	local name
	for name in "${job_names[@]}"; do
		[ "${job_state[$name]}" = waits ] || continue
		if job_ready "$name" && [ "${job_slots[$name]}" -le "$jobs_free" ]; then job_start "$name"; fi
	done
}

jobs_run() {
	local name pid status waiting
	jobs_free=$1 jobs_began=$SECONDS
	trap 'jobs_kill; exit 130' INT
	trap 'jobs_kill; exit 143' TERM HUP
	while waiting=$(jobs_waiting) && [ $((waiting + ${#job_pid[@]})) -gt 0 ]; do
		jobs_start_some
		if [ ${#job_pid[@]} -eq 0 ]; then
			# Some turned out never to run, or all that are left wait for each other.
			[ "$(jobs_waiting)" -lt "$waiting" ] || { bad "jobs: $waiting wait for each other"; break; }
			continue
		fi
		status=0
		wait -n -p pid "${job_pid[@]}" || status=$?
		for name in "${!job_pid[@]}"; do
			[ "${job_pid[$name]}" != "$pid" ] || job_end "$name" "$status"
		done
	done
	trap - INT TERM HUP
}

jobs_times() {
	local name wall user system
	for name in "${job_names[@]}"; do
		case ${job_state[$name]} in waits | runs) bad "$name: not run to its end" ;; esac
	done
	printf '\n%-34s %7s %9s\n' "seconds" "clock" "processor"
	for name in "${job_names[@]}"; do
		[ -e "$OUT/$name.time" ] || continue
		read -r wall user system <"$OUT/$name.time"
		printf '%-34s %7d %9d\n' "$name" "$wall" $((user + system))
	done | sort -k 2 -n -r
	printf '%-34s %7d\n' "all" $((SECONDS - jobs_began))
}
