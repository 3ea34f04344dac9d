#!/bin/bash
# How fast the outbox empties a standing backlog, and how soon an event is in
# Kafka at a steady rate; on servers of its own in build/bench-outbox.
#
#   bench/outbox/run.sh [--rows N,N..] [--rounds N] [--rate N] [--outage SECONDS]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../tools/lib.sh"

dir=$BUILD/bench-outbox

"$ROOT/tools/fetch.sh" venv
mkdir -p "$dir"

cleanup() {
    "$ROOT/tools/server.sh" nginx stop "$dir"
    "$ROOT/tools/server.sh" kafka stop "$dir"
    "$ROOT/tools/server.sh" mariadb stop "$dir"
    rm -rf -- "$dir/mariadb" "$dir/kafka"
}

trap cleanup EXIT
trap 'exit 130' INT TERM

"$BUILD/venv/bin/python" "$ROOT/bench/outbox/outbox.py" "$dir" "$@"
