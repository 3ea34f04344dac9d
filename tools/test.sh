#!/bin/bash
# Builds, starts what the tests need on ports of their own, runs the suites
# named and stops everything, also when interrupted.
#
#   tools/test.sh [unit] [nginx] [fault]
#
# PROVE and PYTEST are the arguments of prove and pytest. The status is 0 only
# if every suite passed; one that fails does not keep the next from running.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
failed=()


suite() {
    local name=$1
    shift

    say "=== $name"

    if ! "$@"; then
        failed+=("$name")
    fi
}


run_unit() {
    # not a part of the make that may have called us
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
        make --no-print-directory -C t/unit \
        PYTEST="$BUILD/venv/bin/python -m pytest"
}


run_nginx() {
    local arguments

    read -ra arguments <<<"${PROVE:--r t}"
    prove -It/lib "${arguments[@]}"
}


run_fault() {
    local arguments

    read -ra arguments <<<"${PYTEST:-t/fault}"
    "$BUILD/venv/bin/python" -m pytest -q -ra -p no:cacheprovider \
        "${arguments[@]}"
}


finish() {
    local status=$?

    trap '' INT TERM HUP
    tools/test-env.sh release $$
    exit $status
}


(( $# )) || die "usage: tools/test.sh [unit] [nginx] [fault]"

tools/install-deps.sh all
tools/venv.sh

if [[ "$*" != unit ]]; then
    tools/build.sh dynamic

    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    exports=$(tools/test-env.sh start --for $$)
    eval "$exports"
fi

for name in "$@"; do
    case $name in
        unit | nginx | fault) suite "$name" "run_$name" ;;
        *)                    die "there is no suite '$name'" ;;
    esac
done

if (( ${#failed[@]} )); then
    say "failed: ${failed[*]}"
    exit 1
fi
