#!/bin/bash
# tools/ keeps its promises: what is started is stopped and nothing else is,
# data stays over a stop and a kill, a taken port is one sentence, migrations
# can be repeated.

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 255

dir=$(mktemp -d)
number=0


# is NAME COMMAND..: one test, passed if the command succeeds

is() {
    local name=$1 said
    shift
    number=$((number + 1))

    if said=$("$@" 2>&1); then
        printf 'ok %d - %s\n' "$number" "$name"
    else
        printf 'not ok %d - %s\n' "$number" "$name"
        sed 's/^/# /' <<<"$said"
    fi
}


isnt() {
    local name=$1
    shift
    is "$name" not "$@"
}


not() {
    ! "$@"
}


# says TEXT COMMAND..: it fails, and its one line holds TEXT

says() {
    local text=$1 said
    shift

    if said=$("$@" 2>&1); then
        printf 'it succeeded\n'
        return 1
    fi

    printf '%s\n' "$said"
    [[ $said == *"$text"* && $(wc -l <<<"$said") == 1 ]]
}


quiet() {
    "$@" >/dev/null 2>&1
}


query() {
    mariadb --no-defaults --protocol=socket --socket="$dir/mariadb.sock" \
            --user="$(id -un)" --batch --skip-column-names "$@"
}


answers() {
    [[ $(query payment -e "SELECT '$1'") == "$1" ]]
}


rows() {
    [[ $(query payment -e "SELECT COUNT(*) FROM outbox_lease
                              WHERE name = 'l'") == "$1" ]]
}


# its port is what the server itself has
has_port() {
    [[ $(tools/server.sh mariadb port "$dir") == "$port" ]]
}


# as if it had lost a race for the port
elsewhere() {
    sed -i "s/^port .*/port = $1/" "$dir/my.cnf"
}


perl_gets() {
    perl -It/lib -MFreePort -e "exit !defined FreePort::hold($1)"
}


python_gets() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=t/lib \
        python3 -c "import freeport; freeport._hold('0.0.0.0', $1)"
}


# test-env's servers, in a directory of their own, with these settings
test_env() {
    env -u PAYMENT_TEST_KAFKA_PORT PAYMENT_TEST_DIR="$dir" \
        PAYMENT_TEST_DB_PORT="$1" tools/test-env.sh start
}


# whatever happens, nothing stays behind
finish() {
    quiet tools/server.sh mariadb stop "$dir"
    [[ -z ${bystander:-} ]] || kill "$bystander" 2>/dev/null
    rm -rf -- "$dir"
}

trap finish EXIT
trap 'exit 1' INT TERM HUP


export MARIADB_BUFFER_POOL=32M MARIADB_LOG_SIZE=16M

# free, and nobody else's for as long as this script runs
coproc FREE {
    exec perl -It/lib -MFreePort=free_port \
        -e '$| = 1; print free_port(2), "\n"; <STDIN>'
}

read -r port <&"${FREE[0]}" || { echo 'Bail out!  no port is free'; exit 1; }

is   'a server starts'               tools/server.sh mariadb start "$dir" $port
is   'starting it again is fine'     tools/server.sh mariadb start "$dir" $port
is   'it has a status'               tools/server.sh mariadb status "$dir"
is   'its port is its own'           has_port
elsewhere $((port + 1))
is   'another port is not'           says "port $((port + 1)) is not that of" \
                                     tools/server.sh mariadb port "$dir"
is   'test-env sees that, too'       says "is not that of mariadb" \
                                     test_env ''
elsewhere $port
is   'test-env wants it elsewhere'   says "mariadb runs on port $port" \
                                     test_env 1
is   'a database is made'            tools/server.sh mariadb database \
                                     "$dir" payment u p
is   'and can be made again'         tools/server.sh mariadb database \
                                     "$dir" payment u p
is   'it answers'                    answers yes
is   'nobody shares its tmpdir'      test "$(query -e 'SELECT @@tmpdir')" = \
                                     "$dir/tmp"
is   'its user comes in by TCP'      quiet mariadb --no-defaults -h127.0.0.1 \
                                     -P$port -uu -pp payment -e 'DO 1'
is   'and can look after the archive' quiet mariadb --no-defaults -h127.0.0.1 \
                                     -P$port -uu -pp payment -e \
                                     'CALL outbox_archive_upkeep();
                                      DELETE FROM outbox_archive'
isnt 'and may not change the tables' quiet mariadb --no-defaults -h127.0.0.1 \
                                     -P$port -uu -pp payment -e \
                                     'DROP TABLE outbox_lease'

is   'no migration is left to apply' grep -q 'nothing to apply' \
                                     <(tools/migrate.sh payment --no-defaults \
                                       --socket="$dir/mariadb.sock" \
                                       --user="$(id -un)" 2>&1)
is   'a database that is not there'  grep -q 'cannot read the schema version' \
                                     <(tools/migrate.sh nowhere --no-defaults \
                                       --socket="$dir/mariadb.sock" \
                                       --user="$(id -un)" 2>&1)

is   'a taken port is one sentence'  says "port $port, wanted for MariaDB, is" \
                                     tools/server.sh mariadb start "$dir/b" \
                                     $port
is   'and names what to set'         says "choose another with MY_PORT=PORT" \
                                     env MY_PORT= PORT_VARIABLE=MY_PORT \
                                     tools/server.sh mariadb start "$dir/b" \
                                     $port
is   'so is what is no port'         says "'x' is not a port number" \
                                     tools/server.sh mariadb start "$dir/b" x

is   'test-env fails, and ends'      grep -q 'did not start' \
                                     <(PAYMENT_TEST_DIR="$dir/c" \
                                       PAYMENT_TEST_DB_PORT=0 \
                                       PAYMENT_TEST_KAFKA_PORT=0 \
                                       timeout 100 tools/test-env.sh start 2>&1)

query payment -e "INSERT INTO outbox_lease VALUES
                  ('l', NOW(), NOW(), 'test', 1, UUID())"

is   'it is killed'                  tools/server.sh mariadb kill "$dir"
isnt 'then it has no status'         tools/server.sh mariadb status "$dir"
is   'it starts on its data'         tools/server.sh mariadb start "$dir" $port
is   'nothing was lost'              rows 1
is   'it is stopped'                 tools/server.sh mariadb stop "$dir"
is   'stopping it again is fine'     tools/server.sh mariadb stop "$dir"
isnt 'nobody has the port'           grep -q . <(ss -ltnH "sport = :$port")
isnt 'but it is still held: for perl' perl_gets $port
isnt 'and for python'                python_gets $port
is   'perl gets another'             perl_gets 0
is   'and so does python'            python_gets 0

# a pid file whose number now belongs to somebody else
tail -f /dev/null &
bystander=$!
echo "$bystander" >"$dir/mariadb.pid"

isnt 'a stranger is not the server'  tools/server.sh mariadb status "$dir"
is   'stop with a stale pid file'    tools/server.sh mariadb stop "$dir"
is   'leaves the stranger alone'     kill -0 "$bystander"

printf '1..%d\n' "$number"
