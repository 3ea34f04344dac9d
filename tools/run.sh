#!/bin/bash
# `make run` and `make stop`: the whole system on this machine, in run/.
#
#   tools/run.sh start     install, build, start what does not run, and make
#                          one payment to show that it works
#   tools/run.sh stop      stop what `start` started; the data stays
#   tools/run.sh env       where the running system is, as shell variables
#
# Settings, from the environment: PAYMENT_HTTP_PORT (8080), PAYMENT_DB_PORT
# (3316), PAYMENT_KAFKA_PORT (9092, and the next), PAYMENT_WORKERS (auto),
# MARIADB_BUFFER_POOL (1G).

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$ROOT/run
ports=$dir/ports
topic=payments
database=payment
user=payment
password=payment


status() {
    "$ROOT/tools/server.sh" "$1" status "$dir" >/dev/null
}


# A server that runs has its port; and nginx, if it runs, knows all three.

choose_ports() {
    http_port= db_port= kafka_port=

    if [[ -r $ports ]]; then
        . "$ports"

        if ! status nginx; then
            http_port=
            status mariadb || db_port=
            status kafka || kafka_port=
        fi
    fi

    if [[ -z $http_port ]]; then
        http_port=${PAYMENT_HTTP_PORT:-8080}
        port_free "$http_port" nginx PAYMENT_HTTP_PORT
    fi

    if [[ -z $db_port ]]; then
        db_port=${PAYMENT_DB_PORT:-3316}
        port_free "$db_port" MariaDB PAYMENT_DB_PORT
    fi

    if [[ -z $kafka_port ]]; then
        kafka_port=${PAYMENT_KAFKA_PORT:-9092}
        port_free "$kafka_port" Kafka PAYMENT_KAFKA_PORT
        port_free "$((kafka_port + 1))" "Kafka's controller" PAYMENT_KAFKA_PORT
    fi

    mkdir -p "$dir"
    printf '%s=%s\n' http_port "$http_port" db_port "$db_port" \
                     kafka_port "$kafka_port" >"$ports"
}


start_mariadb() {
    PORT_VARIABLE=PAYMENT_DB_PORT \
        "$ROOT/tools/server.sh" mariadb start "$dir" "$db_port" || return 1

    "$ROOT/tools/server.sh" mariadb database "$dir" \
        "$database" "$user" "$password" \
        2>"$dir/migrate.log" || {
            last_lines "$dir/migrate.log"
            return 1
        }
}


start_kafka() {
    PORT_VARIABLE=PAYMENT_KAFKA_PORT \
        "$ROOT/tools/server.sh" kafka start "$dir" "$kafka_port" || return 1

    kafka_topic "$kafka_port" $topic
}


# replace TEXT BY: in run/nginx.conf. It must be there, or the file that the
# operator reads and the one that nginx reads have drifted apart.

replace() {
    [[ $config == *"$1"* ]] || die "conf/quickstart.conf does not have: $1"
    config=${config//"$1"/"$2"}
}


write_config() {
    local config

    config=$(<"$ROOT/conf/quickstart.conf")

    replace /usr/lib/nginx/modules/ngx_http_payment_module.so \
            "$BUILD/ngx_http_payment_module.so"
    replace unix:/run/mysqld/mysqld.sock "unix:$dir/mariadb.sock"
    replace 127.0.0.1:9092 "127.0.0.1:$kafka_port"
    replace 127.0.0.1:8080 "127.0.0.1:$http_port"

    # root's nginx gives its workers to somebody who may not enter this
    # directory: they stay with the one who called
    if (( EUID == 0 )); then
        replace '#user  www-data;' 'user  root;'
    fi

    if [[ -n ${PAYMENT_WORKERS:-} ]]; then
        replace 'worker_processes  auto;' "worker_processes  $PAYMENT_WORKERS;"
    fi

    printf '# Made from conf/quickstart.conf by tools/run.sh.\n%s\n' \
        "$config" >"$dir/nginx.conf"
}


http_answers() {
    curl -sf -o /dev/null --max-time 2 "http://127.0.0.1:$http_port/status"
}


start_nginx() {
    if ! status nginx; then
        port_free "$http_port" nginx PAYMENT_HTTP_PORT
        write_config
    fi

    "$ROOT/tools/server.sh" nginx start "$dir" nginx.conf || return 1

    wait_until 10 http_answers || {
        last_lines "$dir/logs/error.log"
        say "nginx does not answer on port $http_port"
        return 1
    }
}


# One payment, in at one end and out at the other.

# until the workers have their connections, the answer is 503

authorize() {
    answer=$(curl -sS -i --max-time 10 "$url" \
             -H 'Content-Type: application/json' -d "$body") || return 1

    [[ $answer != HTTP/1.1\ 503* ]]
}


read_event() {
    event=$(kcat -C -q -e -b "127.0.0.1:$kafka_port" -t $topic \
            -o "s@$since" -f '%p\t%o\t%k\t%h\t%s\n' 2>/dev/null \
            | grep -F -m 1 -- "$id")
}


first_payment() {
    local url body answer id since event partition offset key headers value

    since=$(date +%s%3N)
    url=http://127.0.0.1:$http_port/api/payments/authorize
    body='{"merchantId":"MERCHANT-1","amount":25000,"currency":"KRW",'
    body+="\"idempotencyKey\":\"make-run-$since\"}"

    cat <<EOF

A payment goes in:

  curl -i $url \\
       -H 'Content-Type: application/json' \\
       -d '$body'

EOF

    wait_until 10 authorize || :
    answer=${answer//$'\r'/}
    sed 's/^/  /' <<<"$answer"

    if [[ ! $answer =~ ^HTTP/1.1\ 200.*\"paymentId\":\ *\"([0-9a-fA-F-]+)\" ]]
    then
        last_lines "$dir/logs/error.log"
        die "the payment was not accepted"
    fi

    id=${BASH_REMATCH[1]}

    if ! wait_until 5 read_event; then
        say "waiting for the event; a publisher that was killed keeps its" \
            "lease for up to 30 s"
    fi

    wait_until 40 read_event || {
        last_lines "$dir/logs/error.log"
        die "the event of the payment $id did not come out of Kafka"
    }

    IFS=$'\t' read -r partition offset key headers value <<<"$event"

    cat <<EOF

Its event comes out of Kafka:

  kcat -C -b 127.0.0.1:$kafka_port -t $topic -e -o s@$since

  partition  $partition, offset $offset
  key        $key
EOF

    sed 's/^/             /; 1s/^          /  headers /' <<<"${headers//,/$'\n'}"
    printf '  value      %s\n' "$value"
}


go_on() {
    local what is

    printf '\nGo on with:\n\n'

    while IFS='|' read -r what is; do
        printf '  %-56s  %s\n' "$what" "$is"
    done <<EOF
http://127.0.0.1:$http_port/api/payments/authorize|the API
http://127.0.0.1:$http_port/dashboard|what the node does, as a page
http://127.0.0.1:$http_port/status|counters and states
kcat -C -b 127.0.0.1:$kafka_port -t $topic -o end|the events as they come
mariadb -S run/mariadb.sock -u$user -p$password $database|the tables
run/nginx.conf, run/logs/|what nginx runs with, and says
make bench-k6 DURATION=60s|1000 payments a second
make stop|stop it; the data stays
EOF
}


start() {
    local mariadb_job kafka_job failed=

    if status mariadb && status kafka && status nginx && [[ -r $ports ]]; then
        . "$ports"
        printf 'It runs already.\n'
        go_on
        return
    fi

    "$ROOT/tools/install-deps.sh" run
    choose_ports

    say "building the module"
    "$ROOT/tools/build.sh" dynamic
    "$ROOT/tools/fetch.sh" kafka

    say "starting MariaDB on port $db_port and Kafka on port $kafka_port"

    start_mariadb &
    mariadb_job=$!
    start_kafka &
    kafka_job=$!

    wait $mariadb_job || failed=yes
    wait $kafka_job || failed=yes

    [[ -z $failed ]] || die "the system did not start; 'make stop' stops" \
                            "what did"

    say "starting nginx on port $http_port"
    start_nginx || die "the system did not start; 'make stop' stops what did"

    first_payment
    go_on
}


# nginx first: its helper still has events to hand over.

stop() {
    local server any=

    for server in nginx kafka mariadb; do
        if status $server; then
            any=yes
            "$ROOT/tools/server.sh" $server stop "$dir"
            say "stopped $server"
        fi
    done

    [[ -n $any ]] || say "nothing of 'make run' runs"
    rm -f -- "$ports"
}


print_env() {
    status mariadb && status kafka && status nginx && [[ -r $ports ]] \
        || die "the system does not run: start it with 'make run'"

    . "$ports"

    cat <<EOF
http_port=$http_port
db_port=$db_port
kafka_port=$kafka_port
db_socket=$dir/mariadb.sock
db_name=$database
db_user=$user
db_password=$password
topic=$topic
EOF
}


case ${1:-} in
    start) start ;;
    stop)  stop ;;
    env)   print_env ;;
    *)     die "usage: tools/run.sh start | stop | env" ;;
esac
