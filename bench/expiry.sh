#!/bin/bash
# A million expired authorizations are swept beside 1000 payments a second, on
# servers of its own in build/expiry. Half an hour; less with fewer --rows.
#
#   bench/expiry.sh [--rows N] [--rounds N] [--seconds N] [--limit SECONDS]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/expiry

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/expiry.py" "$dir" "$@"
