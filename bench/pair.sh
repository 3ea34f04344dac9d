#!/bin/bash
# `make bench-pair BASE=COMMIT`: what is checked out here beside an older
# commit, in turns, on servers of its own in build/pair. Seven minutes.
#
#   bench/pair.sh BASE [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# )) || die "usage: bench/pair.sh COMMIT [--rounds N] [--seconds N]"

dir=$BUILD/pair
base=$BUILD/pair-base

commit=$(git -C "$ROOT" rev-parse --verify --quiet "$1^{commit}") \
    || die "there is no commit '$1'"
shift

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

rm -rf -- "$base"
git clone -q --shared --no-checkout "$ROOT" "$base"
git -C "$base" checkout -q --detach "$commit"
"$base/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/pair.py" "$dir" "$base" "$@"
