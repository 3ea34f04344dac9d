#!/bin/bash
# One page, build/bench/report.html, of the raw numbers in bench/results.
#
#   bench/report.sh [FILE.json ..]      the newest of each kind by default

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tools/lib.sh"

"$ROOT/tools/fetch.sh" plots
mkdir -p "$BUILD/bench"
exec "$BUILD/plots/bin/python" "$ROOT/bench/report.py" \
    "$BUILD/bench/report.html" "$@"
