#!/bin/bash
# How fast the outbox empties a standing backlog, and how soon an event is in
# Kafka at a steady rate; on servers of its own in build/bench-outbox.
#
#   bench/outbox/run.sh [--rows N,N..] [--rounds N] [--rate N] [--outage SECONDS]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"

dir=$BUILD/bench-outbox

"$ROOT/tools/fetch.sh" venv
own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/outbox/outbox.py" "$dir" "$@"
