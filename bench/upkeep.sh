#!/bin/bash
# What the purge of idempotency keys and the upkeep of the archive do to about
# 1000 payments a second, on servers of its own in build/upkeep. Ten minutes.
#
#   bench/upkeep.sh [--only purge|archive] [--rounds N] [--seconds N] [--rows N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/upkeep

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/upkeep.py" "$dir" "$@"
