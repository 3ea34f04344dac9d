#!/bin/bash
# `make bench`: saturation beside what the machine can do, in one run, on
# servers of its own in build/bench. It takes six minutes with --preload 0, and
# longer with the ten million rows that are preloaded otherwise. It ends with one
# page of all that was measured, build/bench/report.html.
#
#   bench/run.sh [--rounds N] [--seconds N] [--workers N] [--preload ROWS]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/bench

"$ROOT/tools/fetch.sh" venv
need wrk wrk
own_servers "$dir"

# shellcheck disable=SC2046
gcc -O2 -Wall -Wextra -Werror -o "$dir/physical" \
    "$ROOT/bench/physical/physical.c" \
    $(pkg-config --cflags --libs libmariadb) -lpthread

"$BUILD/venv/bin/python" "$ROOT/bench/saturation.py" "$dir" "$@"
"$ROOT/bench/report.sh"
