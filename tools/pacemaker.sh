#!/bin/bash
# Runs t/pacemaker: Debian's Pacemaker and corosync on three nodes that are made
# of namespaces, with an nginx that pays by way of them.
#
#   tools/pacemaker.sh
#
# The nodes' root file system is a tree (tools/tree.sh). Mounts, processes and
# the network are of this run alone and end with it; no address or port of this
# machine is used. Needs root. PYTEST is pytest's arguments, as for
# make test-fault; PAYMENT_TEST_ROUNDS how often each thing happens (2).

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
. "$ROOT/tools/tree.sh"

readonly dir=$BUILD/pacemaker
readonly on_nodes=(corosync pacemaker pacemaker-cli-utils resource-agents crmsh
                   mariadb-server mariadb-client iproute2 procps)


run_tests() {
    local arguments

    mount -t tmpfs tmpfs /run
    ip link set lo up

    mapfile -t arguments < <(xargs printf '%s\n' <<<"${PYTEST:-t/pacemaker}")
    cd "$ROOT"
    export PAYMENT_TEST_PACEMAKER=yes PAYMENT_TEST_DIR=$dir
    "$BUILD/venv/bin/python" -m pytest -q -ra -s -p no:cacheprovider \
        "${arguments[@]}"
}


if [[ ${1:-} == inside ]]; then
    run_tests
    exit
fi

(( EUID == 0 )) || die "namespaces and trees need root"

"$ROOT/tools/install-deps.sh" trees
"$ROOT/tools/fetch.sh" venv kafka
"$ROOT/tools/build.sh" dynamic
tree_make bookworm pacemaker "${on_nodes[@]}"

mkdir -p "$dir"
rm -f -- "$dir/pacemaker.md"

unshare --mount --net --pid --fork --kill-child --mount-proc \
    "${BASH_SOURCE[0]}" inside
