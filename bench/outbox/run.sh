#!/bin/bash
# How fast the outbox empties a standing backlog, and how soon an event is in
# Kafka at a steady rate; on servers of its own in build/bench-outbox.
#
#   bench/outbox/run.sh [--rows N,N..] [--rounds N] [--rate N] [--outage SECONDS]
#                       [--base COMMIT]
#
# With --base it is the backlog only, emptied by this build and by that commit's
# in turns.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"

dir=$BUILD/bench-outbox

arguments=()

while (( $# )); do
    if [[ $1 == --base ]]; then
        (( $# > 1 )) || die "--base needs a commit"
        base=$("$ROOT/tools/checkout.sh" "$2")
        arguments+=(--base "$base")
        shift
    else
        arguments+=("$1")
    fi

    shift
done

"$ROOT/tools/fetch.sh" venv
own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/outbox/outbox.py" "$dir" \
    "${arguments[@]}"
