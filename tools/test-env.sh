#!/bin/bash
# The servers that the tests use: a private MariaDB and a private Kafka, on
# ports that are free.
#
#   tools/test-env.sh start [--for PID]   start what does not run; print `env`
#   tools/test-env.sh env                 the variables, as shell export lines
#   tools/test-env.sh release PID         PID is done with them
#   tools/test-env.sh stop                stop them, whoever uses them
#
# With --for, they stop by themselves when the last such process has ended,
# however it ended. Without, they stay until `stop`. When nothing runs, `start`
# begins with empty data; the data of a run stays until then, to be looked at.
#
# Settings, from the environment: PAYMENT_TEST_DIR (build/test),
# PAYMENT_TEST_DB_PORT and PAYMENT_TEST_KAFKA_PORT (and the next; without them,
# ports that are free), TEST_NGINX_BINARY (the system's nginx; the module is
# loaded into it unless TEST_NGINX_LOAD_MODULES is set, also to nothing).

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$(realpath -m -- "${PAYMENT_TEST_DIR:-$BUILD/test}")
module=${PAYMENT_TEST_MODULE:-$BUILD/ngx_http_payment_module.so}

database=payment
user=payment
password=un-logged-password            # to be found where it is not to be
admin=payment_admin

servers=(mariadb kafka)


print_env() {
    local binary=${TEST_NGINX_BINARY:-} name db_port kafka_port

    db_port=$(port_of mariadb)
    kafka_port=$(port_of kafka)

    if [[ -z $binary ]]; then
        binary=$(sbin nginx) || binary=nginx
    fi

    declare -A variables=(
        [TEST_NGINX_BINARY]=$binary
        [TEST_NGINX_LOAD_MODULES]=${TEST_NGINX_LOAD_MODULES-$module}
        [PAYMENT_TEST_DIR]=$dir
        [PAYMENT_TEST_MODULE]=$module
        [PAYMENT_TEST_DB_ADMIN_USER]=$admin
        [PAYMENT_TEST_DB_ADMIN_PASSWORD]=$password
    )

    # the second name is one that a t/*.t file can use in a configuration
    for name in DB_SOCKET="$dir/mariadb.sock" DB_PORT="$db_port" \
                DB_USER="$user" DB_PASSWORD="$password" DB_NAME="$database" \
                KAFKA_PORT="$kafka_port"
    do
        variables[PAYMENT_TEST_${name%%=*}]=${name#*=}
        variables[TEST_NGINX_PAYMENT_${name%%=*}]=${name#*=}
    done

    for name in $(printf '%s\n' "${!variables[@]}" | sort); do
        printf 'export %s=%s\n' "$name" \
               "${variables[$name]:+$(printf %q "${variables[$name]}")}"
    done
}


# --- who uses the servers: one file each, named by pid, holding the time the
# process started, so that a number given away again is not mistaken for it

started_at() {
    local stat

    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    set -- $stat
    printf '%s\n' "${20}"
}


owned() {
    local file pid

    for file in "$dir"/owners/*; do
        pid=${file##*/}

        if [[ $pid == nobody && -e $file ]]; then
            return 0
        fi

        if [[ -e $file && $(started_at "$pid") == "$(<"$file")" ]]; then
            return 0
        fi

        rm -f -- "$file"
    done

    return 1
}


lock() {
    mkdir -p "$dir/owners"
    exec 9>"$dir/lock"
    flock -w 300 9 || die "another $0 does not come to an end"
}


running() {
    "$ROOT/tools/server.sh" "$1" status "$dir" >/dev/null
}


port_of() {
    "$ROOT/tools/server.sh" "$1" port "$dir"
}


# choose_port SERVER WISH FREE VARIABLE: prints the port that the server has, or
# shall have: the one that is wished for, or one that is free.

choose_port() {
    local server=$1 wish=$2 free=$3 variable=$4 port

    if ! running "$server"; then
        printf '%s\n' "${wish:-$free}"
        return
    fi

    port=$(port_of "$server") || exit 1

    if [[ -n $wish && $wish != "$port" ]]; then
        die "$server runs on port $port, and $variable is $wish: stop it with" \
            "tools/test-env.sh stop, or unset the variable"
    fi

    printf '%s\n' "$port"
}


# The free ports are bound until the servers have them: see t/lib/FreePort.pm.

choose_ports() {
    local db kafka

    coproc FREE {
        exec perl -I"$ROOT/t/lib" -MFreePort=free_port \
            -e '$| = 1; print free_port(1), " ", free_port(2), "\n"; <STDIN>' \
            9>&-
    }

    read -r db kafka <&"${FREE[0]}" || die "no port is free"

    db_port=$(choose_port mariadb "${PAYMENT_TEST_DB_PORT:-}" "$db" \
              PAYMENT_TEST_DB_PORT)
    kafka_port=$(choose_port kafka "${PAYMENT_TEST_KAFKA_PORT:-}" "$kafka" \
                 PAYMENT_TEST_KAFKA_PORT)
}


start_mariadb() {
    MARIADB_BUFFER_POOL=${MARIADB_BUFFER_POOL:-256M} \
    MARIADB_LOG_SIZE=${MARIADB_LOG_SIZE:-128M} \
    PORT_VARIABLE=PAYMENT_TEST_DB_PORT \
        "$ROOT/tools/server.sh" mariadb start "$dir" "$db_port" || return 1

    "$ROOT/tools/server.sh" mariadb database "$dir" \
        "$database" "$user" "$password" \
        2>"$dir/migrate.log" || {
            last_lines "$dir/migrate.log"
            return 1
        }

    # tests kill connections, make databases, turn the server read-only
    mariadb --no-defaults --protocol=socket --socket="$dir/mariadb.sock" \
        --user="$(id -un)" <<EOF
CREATE USER IF NOT EXISTS '$admin'@'localhost' IDENTIFIED BY '$password';
CREATE USER IF NOT EXISTS '$admin'@'127.0.0.1' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO '$admin'@'localhost' WITH GRANT OPTION;
GRANT ALL ON *.* TO '$admin'@'127.0.0.1' WITH GRANT OPTION;
EOF
}


start_kafka() {
    KAFKA_HEAP_MB=${KAFKA_HEAP_MB:-320} PORT_VARIABLE=PAYMENT_TEST_KAFKA_PORT \
        "$ROOT/tools/server.sh" kafka start "$dir" "$kafka_port" || return 1

    kafka_topic "$kafka_port" payments
}


stop_servers() {
    local server jobs=()

    for server in "${servers[@]}"; do
        "$ROOT/tools/server.sh" "$server" stop "$dir" 9>&- &
        jobs+=($!)
    done

    # not for whoever holds the free ports: that one waits for us
    wait "${jobs[@]}" || :
}


start() {
    local any= mariadb_job kafka_job

    lock

    if ! running mariadb && ! running kafka; then
        rm -rf -- "$dir"/{mariadb,kafka}{,.*}
    fi

    choose_ports

    if ! running mariadb || ! running kafka; then
        (start_mariadb) 9>&- &
        mariadb_job=$!
        (start_kafka) 9>&- &
        kafka_job=$!

        wait $mariadb_job || any=failed
        wait $kafka_job || any=failed

        if [[ $any == failed ]]; then
            stop_servers
            die "the servers for the tests did not start"
        fi
    fi

    if [[ $1 == nobody ]]; then
        : >"$dir/owners/nobody"

    elif [[ ! -e $dir/owners/$1 ]]; then
        started_at "$1" >"$dir/owners/$1" || die "there is no process $1"

        setsid "${BASH_SOURCE[0]}" watch "$1" \
            </dev/null >/dev/null 2>&1 9>&- &
    fi

    print_env
}


release() {
    [[ -d $dir/owners ]] || return 0

    lock
    rm -f -- "$dir/owners/$1"
    owned || stop_servers
}


case ${1:-} in

    start)
        case ${2:-} in
            --for)  [[ ${3:-} =~ ^[0-9]+$ ]] || die "--for needs a pid"
                    start "$3" ;;
            '')     start nobody ;;
            *)      die "unknown argument '$2'" ;;
        esac
        ;;

    env)
        print_env
        ;;

    release)
        [[ ${2:-} =~ ^[0-9]+$ ]] || die "release needs a pid"
        release "$2"
        ;;

    watch)
        # detached, one for each --for
        tail --pid="$2" -f /dev/null
        release "$2"
        ;;

    stop)
        if [[ -d $dir ]]; then
            lock
            rm -rf -- "$dir/owners"
            stop_servers
        fi
        ;;

    *)
        die "usage: tools/test-env.sh start [--for PID] | env | release PID |" \
            "stop"
        ;;
esac
