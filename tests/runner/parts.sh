# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the schedules of "make check" and "make check-long" have in common.  . tests/runner/parts.sh
# It takes in jobs.sh, verdicts.sh, the lab's scenario.sh and cache.sh; $BUILD and $OUT are set.
#
#   on ARCH COMMAND...          with what belongs to that architecture: ARCH, BUILD
#   for_arch SCRIPT ARCH        is the scenario for hosts of that architecture? "# arch: x86 arm64" says so; x86 without
#                               a word
#   lab_run NAME SECONDS SCRIPT CPU [ARG...]   a scenario, with so many SECONDS more than it says; where a program that it
#                               needs is not to be had, NAME.why says so
#   lab_needs ARCH SCRIPT       the jobs that come before a scenario, with commas between them
#   prepare_x86, prepare_arm64  jobs that fetch and make what the lab's hosts are made of; most of the time it is in the
#                               cache
#   address_sanitized, thread_sanitized   the units' builds: arguments of make, to which the targets are added
#   asan, tsan                  what is put before a program that was built so

# shellcheck source=tests/runner/verdicts.sh
. tests/runner/verdicts.sh
# shellcheck source=tests/runner/jobs.sh
. tests/runner/jobs.sh
# shellcheck source=tests/lab/scenario.sh
. tests/lab/scenario.sh
# shellcheck source=scripts/cache.sh
. scripts/cache.sh

slots=$(nproc)
[ "$slots" -ge 2 ] || slots=2
# Compilers' output is kept for all clones.
export CCACHE=ccache CCACHE_DIR=$GODWIT_CACHE/ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=2G

# How much longer than on a machine with nothing else to do a unit test may take.
read -r load _ </proc/loadavg
export GODWIT_PATIENCE=$((2 + ${load%.*} / slots))
export GODWIT_GUESTS=$PWD/$BUILD/tests/guests

on() {
	local ARCH=$1 BUILD=$BUILD
	shift
	[ "$ARCH" = x86 ] || BUILD=$BUILD/$ARCH
	export ARCH BUILD
	"$@"
}

for_arch() {
	case " $(header "$1" arch x86) " in *" $2 "*) return 0 ;; esac
	return 1
}

lab_run() {
	local name=$1 more=$2 script=$3 cpu=$4 why
	shift 4
	why=$BUILD/lab/$(basename "$script" .sh).why
	if [ -e "$why" ]; then
		cp "$why" "$OUT/$name.why"
		return
	fi
	LAB_CPU=$cpu scenario "$OUT/$name" "$more" "$script" "$@"
}

lab_needs() {
	if [ "$1" != x86 ]; then
		echo "build-$1,make-lab-$1"
		return
	fi
	local needs=build,make-lab
	[ "$(header "$2" kernel debian)" != iommufd ] || needs=$needs,make-kernel
	[ -z "$(header "$2" disk "")" ] || needs=$needs,make-debian
	case $2 in */qemu-client.sh) needs=$needs,fetch-qemu-client ;; esac
	echo "$needs"
}

prepare_x86() {
	job fetch-lab 0 - one on x86 tests/lab/fetch.sh
	job fetch-qemu-client 0 - one on x86 tests/lab/qemu-client.sh
	job make-lab 1 fetch-lab one on x86 tests/lab/setup.sh
	job make-kernel 1 make-lab one on x86 env LAB_JOBS=1 tests/lab/kernel.sh
	job make-debian 1 make-lab one on x86 tests/lab/debian.sh
}

prepare_arm64() {
	job fetch-sysroot-arm64 0 - one on arm64 make -s ARCH=arm64 sysroot
	job fetch-lab-arm64 0 - one on arm64 tests/lab/fetch.sh
	job build-arm64 1 fetch-sysroot-arm64 one on arm64 make -s ARCH=arm64 all tests examples
	job make-lab-arm64 1 fetch-lab-arm64,fetch-sysroot-arm64 one on arm64 tests/lab/setup.sh
}

# shellcheck disable=SC2034 # used by who takes this in
address_sanitized=(make -s VARIANT=-asan CC=clang PLAIN=1 CFLAGS="-O1 -g"
	SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined")
# shellcheck disable=SC2034
thread_sanitized=(make -s VARIANT=-tsan PLAIN=1 CFLAGS="-O1 -g -Wno-tsan" SANITIZE=-fsanitize=thread)
# shellcheck disable=SC2034
asan=(env ASAN_OPTIONS=detect_leaks=0)
# shellcheck disable=SC2034
tsan=(setarch -R env TSAN_OPTIONS="exitcode=66 die_after_fork=0")
