#!/bin/bash
# `make bench-k6-pair BASE=COMMIT`: the authorizations of bench-k6 by what is
# checked out here and by an older commit, in turns, each on servers of its own
# that `make run` starts, with one worker. Seven minutes.
#
#   bench/k6/pair.sh BASE [--pairs N] [--seconds N] [--rate N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../tools/lib.sh"

(( $# )) || die "usage: bench/k6/pair.sh COMMIT [--pairs N] [--seconds N]" \
                "[--rate N]"

base=$("$ROOT/tools/checkout.sh" "$1")
shift

"$ROOT/tools/fetch.sh" venv
"$ROOT/tools/build.sh" dynamic

exec "$BUILD/venv/bin/python" "$ROOT/bench/k6/pair.py" "$base" "$@"
