#!/bin/bash
# Builds, starts what the tests need on ports of their own, runs the suites
# named and stops everything, also when interrupted.
#
#   tools/test.sh [tidy] [unit] [fuzz] [nginx] [static] [asan] [api] [fault]
#                 [browser]
#
# tidy is what of unit reads the files and runs nothing: seconds. static is
# nginx's suite once more, with build/static/nginx; asan is the same with
# build/asan/nginx, and the fault tests that are marked so; with one of PROVE
# and PYTEST, only that. It fails with any report, whatever the tests say.
#
# PROVE and PYTEST are the arguments of prove and pytest, FUZZ the seconds that
# the fuzzer has. The status is 0 only if every suite passed; one that fails
# does not keep the next from running. With PAYMENT_TEST_SECRETS, nginx logs all
# that it can, and how much of it was searched for secrets is told at the end.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# t/*.t and the fault tests mostly wait
readonly files_at_once=2 faults_at_once=2

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


# not a part of the make that may have called us

own_make() {
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make --no-print-directory "$@"
}


# and what only clang warns of

run_unit() {
    tools/build.sh clang && own_make -C t/unit PYTHON="$BUILD/venv/bin/python"
}


run_tidy() {
    "$BUILD/venv/bin/python" -m pytest -q -p no:cacheprovider \
        t/unit/test_tidy.py t/unit/test_docs.py t/unit/test_events.py \
        t/unit/test_openapi.py
}


run_fuzz() {
    own_make -C t/fuzz run SECONDS="${FUZZ:-20}"
}


# into arguments, by blanks that are not quoted

split() {
    mapfile -t arguments < <(xargs printf '%s\n' <<<"$1")
}


# One of the fault tests reads what all of t/*.t publish, and is told that there
# must be something.

run_nginx() {
    local arguments

    if [[ -z ${PROVE:-} ]]; then
        export PAYMENT_TEST_PUBLISHED=yes
    fi

    split "${PROVE:--j $files_at_once -r t}"
    prove -It/lib "${arguments[@]}"
}


run_static() {
    TEST_NGINX_BINARY=$BUILD/static/nginx TEST_NGINX_LOAD_MODULES='' run_nginx
}


# Leaks are not looked for: nginx leaves its last pools to exit(). A subshell,
# so that the suites after it run without all this.

run_asan() (
    local report=$BUILD/asan/report status=0

    rm -f -- "$report".*

    export TEST_NGINX_BINARY=$BUILD/asan/nginx TEST_NGINX_LOAD_MODULES=''
    export ASAN_OPTIONS=detect_leaks=0:log_path=$report
    export UBSAN_OPTIONS=print_stacktrace=1:log_path=$report

    if [[ -n ${PROVE:-} || -z ${PYTEST:-} ]]; then
        run_nginx || status=1
    fi

    if [[ -n ${PYTEST:-} || -z ${PROVE:-} ]]; then
        run_pytest "$faults -m asan" || status=1
    fi

    for report in "$report".*; do
        if [[ -s $report ]]; then
            last_lines "$report" 40
            status=1
        fi
    done

    exit $status
)


# worksteal: whichever process has nothing more to do takes tests of the other

faults="t/fault -n $faults_at_once --dist worksteal"

run_pytest() {
    local arguments

    split "${PYTEST:-$1}"
    "$BUILD/venv/bin/python" -m pytest -q -ra -p no:cacheprovider \
        "${arguments[@]}"
}


run_api() {
    run_pytest t/api
}


run_fault() {
    run_pytest "$faults"
}


run_browser() {
    "$BUILD/browser/bin/python" -m pytest -q -ra -p no:cacheprovider t/browser
}


finish() {
    local status=$?

    trap '' INT TERM HUP
    tools/test-env.sh release $$
    exit $status
}


(( $# )) || die "usage: tools/test.sh [tidy] [unit] [fuzz] [nginx] [static]" \
             "[asan] [api] [fault] [browser]"

fetched=(promtool plugins)

if [[ " $* " == *' browser '* ]]; then
    tools/install-deps.sh browser
    fetched+=(browser)
else
    tools/install-deps.sh all
fi

if [[ " $* " == *\ @(unit|api|fault)\ * ]]; then
    fetched+=(venv)
fi

if [[ " $* " == *\ @(api|fault)\ * ]]; then
    fetched+=(node)
fi

tools/fetch.sh "${fetched[@]}"

if [[ " $* " == *\ @(nginx|static|asan|api|fault|browser)\ * ]]; then
    tools/build.sh dynamic

    for name in static asan; do
        if [[ " $* " == *\ $name\ * ]]; then
            tools/build.sh "$name"
        fi
    done

    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    exports=$(tools/test-env.sh start --for $$)
    eval "$exports"
    rm -f -- "$PAYMENT_TEST_DIR/searched"
fi

for name in "$@"; do
    case $name in
        tidy | unit | fuzz | nginx | static | asan | api | fault | browser)
            suite "$name" "run_$name"
            ;;
        *)
            die "there is no suite '$name'"
            ;;
    esac
done

if [[ -n ${PAYMENT_TEST_SECRETS:-} ]]; then
    awk '{ bytes += $1 } END {
             printf "searched %d logs, %.1f MB\n", NR, bytes / 1e6 }' \
        "$PAYMENT_TEST_DIR/searched" >&2
fi

if (( ${#failed[@]} )); then
    say "failed: ${failed[*]}"
    exit 1
fi
