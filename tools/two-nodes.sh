#!/bin/bash
# `make run-two-nodes`: two nginx nodes behind a balancer, two shards, in
# run/two-nodes. Starts them, shows who publishes what, kills a node and shows
# the other take over, brings it back, and stops everything at the end.
#
#   tools/two-nodes.sh show     all of it
#   tools/two-nodes.sh start    only start, to try things out; then `stop`
#   tools/two-nodes.sh stop
#
# Settings, from the environment: PAYMENT_TWO_PORT (8180: the balancer; the
# nodes have the next two), PAYMENT_TWO_DB_PORT (3326), PAYMENT_TWO_KAFKA_PORT
# (9192, and the next).

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$ROOT/run/two-nodes
port=${PAYMENT_TWO_PORT:-8180}
db_port=${PAYMENT_TWO_DB_PORT:-3326}
kafka_port=${PAYMENT_TWO_KAFKA_PORT:-9192}
nodes=(node-1 node-2 balancer)

# a lease of the example may last this long after its holder was killed
at_most_seconds=30


node_port() {
    case $1 in
        balancer) echo "$port" ;;
        node-1)   echo $((port + 1)) ;;
        node-2)   echo $((port + 2)) ;;
    esac
}


# replace TEXT BY: in the file being made; it must be there.

replace() {
    [[ $config == *"$1"* ]] || die "conf/two-nodes/$file does not have: $1"
    config=${config//"$1"/"$2"}
}


write_configs() {
    local file config node

    file=shards.conf
    config=$(<"$ROOT/conf/two-nodes/$file")
    replace unix:/run/mysqld/mysqld.sock "unix:$dir/mariadb.sock"
    replace 127.0.0.1:9092 "127.0.0.1:$kafka_port"
    printf '%s\n' "$config" >"$dir/shards.conf"

    for node in "${nodes[@]}"; do
        file=$node.conf
        config=$(<"$ROOT/conf/two-nodes/$file")

        if (( EUID == 0 )); then
            replace '#user  www-data;' 'user  root;'
        fi

        if [[ $node == balancer ]]; then
            replace 127.0.0.1:8080 "127.0.0.1:$port"
            replace 127.0.0.1:8081 "127.0.0.1:$(node_port node-1)"
            replace 127.0.0.1:8082 "127.0.0.1:$(node_port node-2)"

        else
            replace /usr/lib/nginx/modules/ngx_http_payment_module.so \
                    "$BUILD/ngx_http_payment_module.so"
            replace ../../conf/two-nodes/shards.conf "$dir/shards.conf"
            replace "127.0.0.1:$([[ $node == node-1 ]] && echo 8081 || echo 8082)" \
                    "127.0.0.1:$(node_port "$node")"
        fi

        mkdir -p "$dir/$node"
        printf '%s\n' "$config" >"$dir/$node/nginx.conf"
    done
}


start_node() {
    "$ROOT/tools/server.sh" nginx start "$dir/$1" nginx.conf
}


start() {
    local node database

    "$ROOT/tools/install-deps.sh" run
    "$ROOT/tools/build.sh" dynamic
    "$ROOT/tools/fetch.sh" kafka
    mkdir -p "$dir"

    say "starting MariaDB, Kafka, two nodes and a balancer"

    PORT_VARIABLE=PAYMENT_TWO_DB_PORT \
        "$ROOT/tools/server.sh" mariadb start "$dir" "$db_port"

    for database in payment_1 payment_2; do
        "$ROOT/tools/server.sh" mariadb database "$dir" \
            $database payment payment \
            2>"$dir/migrate.log" || {
                last_lines "$dir/migrate.log"
                die "the schema of $database could not be applied"
            }
    done

    PORT_VARIABLE=PAYMENT_TWO_KAFKA_PORT \
        "$ROOT/tools/server.sh" kafka start "$dir" "$kafka_port"
    kafka_topic "$kafka_port" payments

    write_configs

    for node in "${nodes[@]}"; do
        port_free "$(node_port "$node")" "$node" PAYMENT_TWO_PORT
        start_node "$node"
    done
}


stop() {
    local node

    for node in balancer node-1 node-2; do
        "$ROOT/tools/server.sh" nginx stop "$dir/$node"
    done

    "$ROOT/tools/server.sh" kafka stop "$dir"
    "$ROOT/tools/server.sh" mariadb stop "$dir"
}


# held NODE: the shards whose lease the node holds, on one line

held() {
    curl -sf --max-time 2 "http://127.0.0.1:$(node_port "$1")/status" \
        | python3 -c '
import json, sys
shards = json.load(sys.stdin)["outbox"]["shards"]
print(*(s["name"] for s in shards if s["lease_held"]))' 2>/dev/null
}


one_each() {
    [[ $(held node-1) =~ ^shard-[12]$ && $(held node-2) =~ ^shard-[12]$ \
       && $(held node-1) != $(held node-2) ]]
}


both_on() {
    [[ $(held "$1") == "shard-1 shard-2" ]]
}


# await SECONDS CONDITION..: prints how long it took

await() {
    local limit=$1 begin
    shift

    begin=$(date +%s%3N)
    wait_until "$limit" "$@" || die "this did not happen in $limit s: $*"
    printf '%d ms' $(($(date +%s%3N) - begin))
}


who() {
    local node

    for node in node-1 node-2; do
        printf '  %-8s publishes: %s\n' "$node" "$(held $node || echo '(down)')"
    done
}


pay() {
    local n=$1 i id answers=0

    for ((i = 1; i <= n; i++)); do
        id=$(date +%s%N)
        curl -sf -o /dev/null --max-time 10 \
             "http://127.0.0.1:$port/api/payments/authorize" \
             -H 'Content-Type: application/json' \
             -d "{\"merchantId\":\"MERCHANT-$i\",\"amount\":1000,
                  \"currency\":\"KRW\",\"idempotencyKey\":\"two-$id\"}" \
            && answers=$((answers + 1))
    done

    printf '  %d payments sent to the balancer, %d accepted\n' "$n" $answers
    (( answers == n )) || die "a payment was not accepted"
}


outbox_empty() {
    local database

    for database in payment_1 payment_2; do
        [[ $(mariadb --no-defaults --protocol=socket \
                 --socket="$dir/mariadb.sock" --user="$(id -un)" -BN $database \
                 -e 'SELECT COUNT(*) FROM outbox_event') == 0 ]] || return 1
    done
}


kill_node() {
    local master children

    # all at once: a master that lives starts others, and a helper that sees
    # its master die gives its lease up
    master=$(<"$dir/$1/nginx.pid")
    kill -STOP "$master"
    children=$(pgrep -P "$master")

    # shellcheck disable=SC2086
    kill -KILL $children "$master"
    wait_until 10 gone "$master"
    rm -f -- "$dir/$1/nginx.pid"
}


show() {
    trap stop EXIT
    trap 'exit 130' INT TERM

    start

    printf '\nEach node takes one shard: %s\n' "$(await 60 one_each)"
    who
    pay 20
    printf '  all published: %s\n' "$(await 10 outbox_empty)"

    printf '\nnode-1 is killed (SIGKILL); node-2 takes over: '
    kill_node node-1
    pay 20 >"$dir/pay.log"
    printf '%s\n' "$(await $((at_most_seconds + 5)) both_on node-2)"
    cat "$dir/pay.log"
    who
    printf '  all published: %s\n' "$(await 10 outbox_empty)"

    printf '\nnode-1 comes back; one each again: '
    start_node node-1
    printf '%s\n' "$(await $((at_most_seconds + 5)) one_each)"
    who

    printf '\nnode-2 is stopped gracefully; node-1 takes over: '
    "$ROOT/tools/server.sh" nginx stop "$dir/node-2"
    printf '%s\n' "$(await $((at_most_seconds + 5)) both_on node-1)"
    who
    pay 20
    printf '  all published: %s\n\n' "$(await 10 outbox_empty)"
}


case ${1:-} in
    show)  show ;;
    start) start; printf 'http://127.0.0.1:%s/api/payments\n' "$port" ;;
    stop)  stop ;;
    *)     die "usage: tools/two-nodes.sh show | start | stop" ;;
esac
