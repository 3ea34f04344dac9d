#!/bin/bash
# `make bench-guards`: what the guards of docs/high-availability.md cost, on
# servers of its own in build/guards. Four minutes each.
#
#   bench/guards.sh claim | voters [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# )) || die "usage: bench/guards.sh claim | voters [--rounds N]" \
                "[--seconds N]"

dir=$BUILD/guards

"$ROOT/tools/fetch.sh" venv
"$ROOT/tools/fetch.sh" k6
need wrk wrk
"$ROOT/tools/build.sh" dynamic
own_servers "$dir"
trap 'stop_voters; stop_own_servers' EXIT


# the two that bench/guards.py starts beside the primary

stop_voters() {
    local voter

    for voter in voter-2 voter-3; do
        "$ROOT/tools/server.sh" mariadb stop "$dir/$voter"
        rm -rf -- "${dir:?}/$voter"
    done
}


# shellcheck disable=SC2046
gcc -O2 -Wall -Wextra -Werror -o "$dir/physical" \
    "$ROOT/bench/physical/physical.c" \
    $(pkg-config --cflags --libs libmariadb) -lpthread

"$BUILD/venv/bin/python" "$ROOT/bench/guards.py" "$dir" "$@"
