#!/bin/bash
# What a directive of http{} costs at saturation, on servers of its own in
# build/directive. Three minutes.
#
#   bench/directive.sh 'payment_operations on;' [--rounds N] [--seconds N]

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# )) || die "usage: bench/directive.sh 'NAME VALUE;' [--rounds N] [--seconds N]"

dir=$BUILD/directive

"$ROOT/tools/fetch.sh" venv
need wrk wrk
"$ROOT/tools/build.sh" dynamic

own_servers "$dir"

"$BUILD/venv/bin/python" "$ROOT/bench/directive.py" "$dir" "$@"
