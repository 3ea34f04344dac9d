#!/bin/bash
# Starts and stops private servers: the same code for `make run` and the tests.
#
#   tools/server.sh mariadb start DIR PORT     DIR/mariadb.sock and 127.0.0.1
#   tools/server.sh kafka   start DIR PORT     broker PORT, controller PORT+1
#   tools/server.sh nginx   start DIR CONF     prefix DIR, CONF inside it
#   tools/server.sh SERVER  stop | kill | status | port DIR
#   tools/server.sh mariadb database DIR NAME USER PASSWORD
#
# `start` returns when the server answers; on one that runs already it does
# nothing. Data stays in DIR over a stop. `kill` is SIGKILL, for fault tests;
# `status` prints the pid or fails; `port` prints the port at which that process
# itself listens. Everything listens on loopback only.
#
# `database` makes the database, with the schema of sql/, and its user; one that
# is there is brought up to date. The user may do what the module does and no
# more, on the databases whose name starts with NAME.
#
# Settings, from the environment:
#   MARIADB_BUFFER_POOL   innodb_buffer_pool_size (1G)
#   MARIADB_LOG_SIZE      innodb_log_file_size (512M)
#   MARIADB_OPTIONS       more lines for the [mariadbd] section, \n between
#   MARIADB_PRELOAD       a library that mariadbd loads before all others
#   KAFKA_HEAP_MB         heap of the broker (512)
#   KAFKA_PARTITIONS      partitions of a new topic (8)
#   KAFKA_OPTIONS         more lines for server.properties, \n between
#   KAFKA_JVM_OPTIONS     more options for its java
#   NGINX_BINARY          nginx
#   PORT_VARIABLE         what a message about a taken port should advise

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# long, for machines that are busy: the server's end would be seen at once
readonly start_seconds=180
readonly stop_seconds=20


usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}


# ready NAME PIDFILE TEXT LOG CONDITION: wait until the condition holds for the
# server's pid, but no longer than the process lives.

ready() {
    local name=$1 pidfile=$2 text=$3 log=$4 condition=$5

    up_or_dead() {
        local pid

        pid=$(pid_of "$pidfile" "$text") || return 0
        "$condition" "$pid" >/dev/null 2>&1
    }

    if ! wait_until $start_seconds up_or_dead; then
        last_lines "$log"
        die "$name does not answer after $start_seconds s"
    fi

    if ! pid_of "$pidfile" "$text" >/dev/null; then
        last_lines "$log"
        rm -f -- "$pidfile"
        die "$name ended at its start; its log is $log"
    fi
}


# --- MariaDB

mariadb_text() {
    printf -- '--defaults-file=%s/my.cnf' "$dir"
}


mariadb_config() {
    cat <<EOF
# Written by tools/server.sh at every start.

[mariadbd]
datadir                         = $dir/mariadb
tmpdir                          = $dir/tmp
socket                          = $dir/mariadb.sock
bind-address                    = 127.0.0.1
port                            = $port
skip-name-resolve
character-set-server            = utf8mb4
max-connections                 = 300

# a commit is on disk before it is answered
innodb-flush-log-at-trx-commit  = 1
innodb-buffer-pool-size         = ${MARIADB_BUFFER_POOL:-1G}
innodb-log-file-size            = ${MARIADB_LOG_SIZE:-512M}
EOF

    if [[ -n ${MARIADB_OPTIONS:-} ]]; then
        printf '\n%b\n' "$MARIADB_OPTIONS"
    fi
}


mariadb_port() {
    sed -n 's/^port *= *//p' "$dir/my.cnf"
}


# A client of 11.4 and newer wants TLS on a socket, too, and a server of the
# tests has none.

mariadb_answers() {
    listens "$1" "$port" &&
    mariadb --no-defaults --protocol=socket --socket="$dir/mariadb.sock" \
            --skip-ssl --user="$(id -un)" --connect-timeout=2 -e 'DO 1'
}


mariadb_start() {
    local server user=()

    if (( ${#dir} > 90 )); then
        die "the path $dir is too long for a unix socket in it"
    fi

    server=$(sbin mariadbd) || need mariadbd mariadb-server-core
    need mariadb mariadb-client-core
    port_free "$port" MariaDB "${PORT_VARIABLE:-}"

    if (( EUID == 0 )); then
        user=(--user=root)
    fi

    # a server that starts clears its directory for temporary tables, which
    # must therefore be no other server's
    mkdir -p "$dir/tmp"

    # built aside, so that an interrupted first start leaves no half of it
    if [[ ! -d $dir/mariadb ]]; then
        need mariadb-install-db mariadb-server-core
        rm -rf -- "$dir/mariadb.new"

        TMPDIR=$dir/tmp mariadb-install-db --no-defaults "${user[@]}" \
            --datadir="$dir/mariadb.new" --skip-test-db \
            --auth-root-authentication-method=socket \
            --auth-root-socket-user="$(id -un)" \
            >"$dir/mariadb-install.log" 2>&1 || {
                last_lines "$dir/mariadb-install.log"
                die "mariadb-install-db failed"
            }

        mv -- "$dir/mariadb.new" "$dir/mariadb"
    fi

    mariadb_config >"$dir/my.cnf"

    SPAWN_PRELOAD=${MARIADB_PRELOAD:-} \
        spawn "$dir/mariadb.pid" "$dir/mariadb.log" \
        "$server" "$(mariadb_text)" "${user[@]}"

    ready MariaDB "$dir/mariadb.pid" "$(mariadb_text)" "$dir/mariadb.log" \
        mariadb_answers
}


mariadb_database() {
    local database=$1 user=$2 password=$3
    local client=(--no-defaults --protocol=socket
                  --socket="$dir/mariadb.sock" --user="$(id -un)")

    [[ $database$user =~ ^[A-Za-z0-9_]+$ ]] \
        || die "the names of database and user are letters, digits and _"
    [[ $password =~ ^[A-Za-z0-9_.-]+$ ]] \
        || die "the password is letters, digits, '_', '.' and '-'"

    # a client of the loopback port is not 'localhost' to the server
    mariadb "${client[@]}" <<EOF
CREATE DATABASE IF NOT EXISTS $database;

CREATE USER IF NOT EXISTS '$user'@'localhost' IDENTIFIED BY '$password';
CREATE USER IF NOT EXISTS '$user'@'127.0.0.1' IDENTIFIED BY '$password';

GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE
    ON \`$database%\`.* TO '$user'@'localhost', '$user'@'127.0.0.1';
EOF

    "$ROOT/tools/migrate.sh" up "$database" "${client[@]}"
}


# --- Kafka

kafka_text() {
    printf 'kafka.Kafka %s/kafka.properties' "$dir"
}


kafka_config() {
    cat <<EOF
# Written by tools/server.sh at every start.

process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 1))
log.dirs=$dir/kafka

# a topic that somebody names is made
auto.create.topics.enable=true
num.partitions=${KAFKA_PARTITIONS:-8}
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# a killed broker may register again only when its session has run out
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
EOF

    if [[ -n ${KAFKA_OPTIONS:-} ]]; then
        printf '\n%b\n' "$KAFKA_OPTIONS"
    fi
}


kafka_port() {
    sed -n 's/^advertised.listeners=.*://p' "$dir/kafka.properties"
}


kafka_answers() {
    listens "$1" "$port" && kcat -q -L -b "127.0.0.1:$port" -m 2 -X log_level=0
}


kafka_java() {
    java -cp "$BUILD/kafka/libs/*" \
        -Dlog4j2.configurationFile="$ROOT/tools/kafka/log4j2.properties" "$@"
}


kafka_start() {
    local heap=${KAFKA_HEAP_MB:-512} options=()

    need java default-jre-headless
    need kcat kcat
    "$ROOT/tools/fetch.sh" kafka

    port_free "$port" Kafka "${PORT_VARIABLE:-}"
    port_free "$((port + 1))" "Kafka's controller" "${PORT_VARIABLE:-}"

    kafka_config >"$dir/kafka.properties"

    if [[ ! -e $dir/kafka/meta.properties ]]; then
        # any 16 bytes in base64 are a cluster id
        kafka_java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
            kafka.tools.StorageTool format -t bmd4X3BheW1lbnRfbW9kdQ \
            -c "$dir/kafka.properties" >"$dir/kafka-format.log" 2>&1 || {
                last_lines "$dir/kafka-format.log"
                die "Kafka could not format $dir/kafka"
            }
    fi

    # a library that it unpacks there stays when the broker is killed
    mkdir -p "$dir/tmp"

    if [[ -n ${KAFKA_JVM_OPTIONS:-} ]]; then
        read -ra options <<<"$KAFKA_JVM_OPTIONS"
    fi

    spawn "$dir/kafka.pid" "$dir/kafka.log" \
        java -Xms"${heap}m" -Xmx"${heap}m" -XX:+UseG1GC \
        -XX:MaxGCPauseMillis=20 -XX:+ExplicitGCInvokesConcurrent \
        -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
        -Djava.io.tmpdir="$dir/tmp" \
        -cp "$BUILD/kafka/libs/*" \
        -Dlog4j2.configurationFile="$ROOT/tools/kafka/log4j2.properties" \
        "${options[@]}" kafka.Kafka "$dir/kafka.properties"

    ready Kafka "$dir/kafka.pid" "$(kafka_text)" "$dir/kafka.log" \
        kafka_answers
}


# --- nginx

# The master's title keeps the arguments it was started with.

nginx_text() {
    printf -- '-p %s/ ' "$dir"
}


nginx_answers() {
    [[ -s $dir/nginx.pid ]]
}


nginx_start() {
    local server

    server=${NGINX_BINARY:-$(sbin nginx)} || need nginx nginx
    mkdir -p "$dir/logs"

    # it daemonizes once its sockets listen, and says on stderr why not
    "$server" -p "$dir/" -c "$dir/$conf" -e "$dir/logs/error.log" \
        || die "nginx did not start"

    ready nginx "$dir/nginx.pid" "$(nginx_text)" "$dir/logs/error.log" \
        nginx_answers
}


# --- all of them

(( $# >= 3 )) || usage

server=$1 verb=$2
dir=$(realpath -m -- "$3")
pidfile=$dir/$server.pid

case $server in
    mariadb) stop_signals=(TERM) ;;
    kafka)   stop_signals=(TERM) ;;
    nginx)   stop_signals=(QUIT TERM) ;;
    *)       usage ;;
esac

text=$("${server}_text")

case $verb in

    start)
        (( $# == 4 )) || usage

        if pid_of "$pidfile" "$text" >/dev/null; then
            exit 0
        fi

        mkdir -p "$dir"
        rm -f -- "$pidfile"
        port=$4 conf=$4
        "${server}_start"
        ;;

    stop)
        if pid=$(pid_of "$pidfile" "$text"); then
            stop_process "$pid" "$text" $stop_seconds "${stop_signals[@]}"
        fi

        rm -f -- "$pidfile"
        ;;

    kill)
        pid=$(pid_of "$pidfile" "$text") || die "$server does not run in $dir"
        kill -KILL "$pid"
        wait_until 10 gone "$pid" || die "process $pid does not end"
        rm -f -- "$pidfile"
        ;;

    status)
        pid_of "$pidfile" "$text"
        ;;

    database)
        [[ $server == mariadb ]] && (( $# == 6 )) || usage
        mariadb_database "${@:4}"
        ;;

    port)
        [[ $server != nginx ]] || usage
        pid=$(pid_of "$pidfile" "$text") || die "$server does not run in $dir"
        port=$("${server}_port")
        listens "$pid" "$port" \
            || die "port $port is not that of $server in $dir"
        printf '%s\n' "$port"
        ;;

    *)
        usage
        ;;
esac
