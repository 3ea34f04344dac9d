#!/bin/bash
# `make bench`: saturation beside what the machine can do, in one run, on
# servers of its own in build/bench. Eight minutes; without --preload 0, that is.
#
#   bench/run.sh [--rounds N] [--seconds N] [--preload ROWS] [--keep]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tools/lib.sh"

dir=$BUILD/bench

"$ROOT/tools/fetch.sh" venv
need wrk wrk
mkdir -p "$dir"

# shellcheck disable=SC2046
gcc -O2 -Wall -Wextra -Werror -o "$dir/physical" \
    "$ROOT/bench/physical/physical.c" \
    $(pkg-config --cflags --libs libmariadb) -lpthread

cleanup() {
    "$ROOT/tools/server.sh" nginx stop "$dir"
    "$ROOT/tools/server.sh" kafka stop "$dir"
    "$ROOT/tools/server.sh" mariadb stop "$dir"
    rm -rf -- "$dir/mariadb" "$dir/kafka"
}

trap cleanup EXIT
trap 'exit 130' INT TERM

"$BUILD/venv/bin/python" "$ROOT/bench/saturation.py" "$dir" "$@"
