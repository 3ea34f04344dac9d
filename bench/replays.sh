#!/bin/bash
# `make bench-replays`: what repeated requests and reads cost, beside payments
# that are new, on servers of its own in build/replays. With BASE=COMMIT an
# older build takes turns with this one. Three minutes, or six.
#
#   bench/replays.sh [COMMIT] [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/replays
older=()

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

if [[ -n ${1-} && $1 != --* ]]; then
    older=(--base "$("$ROOT/tools/checkout.sh" "$1")")
    shift
fi

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/replays.py" "$dir" "${older[@]}" "$@"
