#!/bin/bash
# Builds the module and runs t/*.t on other Debian releases than this one, each
# in a tree of its own (tools/tree.sh), and their promtool on the alerts and the
# dashboard; and prints a table of the versions and results.
#
#   tools/matrix.sh [SUITE ..]               bookworm, trixie, sid by default
#   tools/matrix.sh run SUITE COMMAND ..     run one command in the tree
#
# A tree has the packages of tools/install-deps.sh, and pytest. In each, one
# after the other:
#
#   dynamic clang, dynamic gcc     the module for the packaged nginx
#   t/*.t, dynamic                 with what gcc built
#   static clang, static gcc       nginx's source with the module compiled in
#   t/*.t, static                  with what gcc built
#   alerts                         the rules and the dashboard, with its promtool
#
# nginx warns as errors; so does every build here. PROVE is prove's arguments,
# as for make test-nginx. NGINX_SOURCE is a directory of nginx's source for the
# static builds, for a mirror that has no source packages.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
. "$ROOT/tools/tree.sh"


# prepare SUITE: all that has to be fetched. What follows has no network.

prepare() {
    local suite=$1 log=$trees/$1-fetch.log fetched='promtool plugins nginx'

    "$ROOT/tools/install-deps.sh" trees
    mapfile -t packages < <("$ROOT/tools/install-deps.sh" list)
    packages+=(python3-pytest python3-yaml)
    tree_make "$suite" "$suite" "${packages[@]}"
    tree_copy "$suite"

    "$ROOT/tools/fetch.sh" kafka
    cp -a -u "$BUILD/kafka" "$trees/$suite$tree_checkout/build/"

    if [[ -n ${NGINX_SOURCE:-} ]]; then
        rm -rf -- "$trees/$suite/src/nginx"
        cp -a -- "$NGINX_SOURCE" "$trees/$suite/src/nginx"
        fetched='promtool plugins'
    fi

    tree_run "$suite" online \
        bash -c "tools/install-deps.sh all && tools/fetch.sh $fetched" \
        >"$log" 2>&1 || {
            last_lines "$log"
            die "what $suite needs could not be fetched; if it is nginx's" \
                "source, name a directory of it in NGINX_SOURCE"
        }
}


# step SUITE NAME COMMAND..: one cell of the table; its output goes to a log.

step() {
    local suite=$1 name=$2 log="$trees/$1-${2//[^a-z]/-}.log" began=$SECONDS
    shift 2

    if tree_run "$suite" loopback "$@" >"$log" 2>&1; then
        result[$name]=ok
    else
        result[$name]=FAILED
        failed=yes
        last_lines "$log" 20
    fi

    say "$suite: $name: ${result[$name]}, $((SECONDS - began)) s"
}


# versions SUITE: of what matters, without epochs and Debian's revisions; of the
# dynamic build's nginx and the static one's first.

versions() {
    local tree=$trees/$1 package

    for package in nginx libmariadb3 mariadb-server-core librdkafka1 libssl-dev \
                   gcc clang
    do
        chroot "$tree" dpkg-query -W -f '${Version}\n' "$package" \
            | sed 's/^[0-9]*://; s/-[^-]*$//; s/+.*//'

        if [[ $package == nginx ]]; then
            chroot "$tree" "$tree_checkout/build/static/nginx" -v 2>&1 \
                | sed 's|^nginx version: nginx/||; s| .*||; /[^0-9.]/s/.*/none/'
        fi
    done

    chroot "$tree" "$tree_checkout/build/bin/promtool" --version \
        | sed -n 's/^promtool, version \([0-9.]*\).*/\1/p'
}


test_suite() {
    local suite=$1 name cells
    local -A result=()

    prepare "$suite"

    step "$suite" 'dynamic clang'    env CC=clang tools/build.sh dynamic
    step "$suite" 'dynamic gcc'      tools/build.sh dynamic
    step "$suite" 't/*.t, dynamic'   tools/test.sh nginx
    step "$suite" 'static clang'     env CC=clang tools/build.sh static
    step "$suite" 'static gcc'       tools/build.sh static
    step "$suite" 't/*.t, static'    tools/test.sh static
    step "$suite" 'alerts' python3 -m pytest -q -p no:cacheprovider \
        t/unit/test_alerts.py \
        t/unit/test_docs.py::test_the_{alerts_are,dashboard_is}_promql

    mapfile -t cells < <(versions "$suite")

    for name in "${steps[@]}"; do
        cells+=("${result[$name]}")
    done

    rows+=("$(printf '| %s ' "$suite" "${cells[@]}")|")
}


steps=('dynamic clang' 'dynamic gcc' 't/*.t, dynamic'
       'static clang' 'static gcc' 't/*.t, static' 'alerts')
failed='' rows=()

if [[ ${1:-} == run ]]; then
    (( $# >= 3 )) || die "usage: tools/matrix.sh run SUITE COMMAND .."
    prepare "$2"
    tree_run "$2" loopback "${@:3}"
    exit
fi

(( $# )) || set -- bookworm trixie sid

for suite in "$@"; do
    test_suite "$suite"
done

printf '\n%s\n%s\n' "$(printf '| %s ' Debian nginx 'nginx, static' libmariadb \
    MariaDB librdkafka OpenSSL gcc clang Prometheus "${steps[@]}")|" \
    '|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|'
printf '%s\n' "${rows[@]}"

[[ -z $failed ]]
