#!/bin/bash
# `make bench-tables`: payments into tables with fifty million rows beside
# payments into empty ones, in turns, on servers of its own in build/tables.
# Half an hour, 20 GB of disk and 6 of memory.
#
#   bench/tables.sh [--rows N] [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/tables

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/tables.py" "$dir" "$@"
