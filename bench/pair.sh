#!/bin/bash
# `make bench-pair BASE=COMMIT`: what is checked out here beside an older
# commit, in turns, on servers of its own in build/pair. Ten minutes.
#
#   bench/pair.sh BASE [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# )) || die "usage: bench/pair.sh COMMIT [--rounds N] [--seconds N]"

dir=$BUILD/pair
base=$("$ROOT/tools/checkout.sh" "$1")
shift

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/pair.py" "$dir" "$base" "$@"
