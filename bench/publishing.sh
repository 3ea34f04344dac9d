#!/bin/bash
# `make bench-publishing`: what publishing costs the database: one build with
# its helper, and without, in turns, on servers of its own in build/publishing.
# Five minutes.
#
#   bench/publishing.sh [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/publishing

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/publishing.py" "$dir" "$@"
