#!/bin/bash
# `make bench-lists`: what the index of payment_list costs, and how long a page
# takes beside payments, on servers of its own in build/lists. Seven minutes.
#
#   bench/lists.sh [--rows N] [--rounds N] [--seconds N] [--pages N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/lists

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/lists.py" "$dir" "$@"
