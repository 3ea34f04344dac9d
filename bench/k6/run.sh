#!/bin/bash
# Runs a k6 scenario against the system of `make run`, then checks that what
# was answered, what is in the tables and what came out of Kafka agree.
#
#   bench/k6/run.sh authorize | full-flow  DURATION  RATE

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../tools/lib.sh"

(( $# == 3 )) || die "usage: bench/k6/run.sh authorize | full-flow DURATION RATE"

settings=$("$ROOT/tools/run.sh" env)
set -a
eval "$settings"
set +a

"$ROOT/tools/fetch.sh" venv
"$ROOT/tools/fetch.sh" k6

exec "$BUILD/venv/bin/python" "$ROOT/bench/k6/run.py" "$@"
