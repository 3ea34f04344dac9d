#!/bin/bash
# `make bench-observing`: what metrics, health, access log and traces cost, and
# how long a scrape takes, on servers of its own in build/observing. Six minutes.
#
#   bench/observing.sh [--rounds N] [--seconds N]
#                      [--only log | trace | asking | combined | spans | probes]
#                      [--sample PERCENT] [--beside bare | combined | trace | returns]
#                      [--logs DIRECTORY]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/observing

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/observing.py" "$dir" "$@"
