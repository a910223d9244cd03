#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A prompt in a lab host, on this terminal. Arguments go to tests/lab/lab.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
[ -t 0 ] || { echo "lab-shell: needs a terminal" >&2; exit 2; }
saved=$(stty -g)
trap 'stty "$saved"' EXIT
"$here/lab" -i "$@"
