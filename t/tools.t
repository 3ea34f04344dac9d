#!/bin/bash
# tools/ keeps its promises: what is started is stopped and nothing else is,
# data stays over a stop and a kill, a taken port is one sentence, migrations
# can be repeated.

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 255

dir=$(mktemp -d)
number=0
port=


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


# a port that nobody has just now
free_port() {
    for port in $(shuf -i 20000-29999 -n 50); do
        [[ -n $(ss -ltnH "sport = :$port") ]] || return 0
    done

    return 1
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
free_port || { echo 'Bail out!  no port is free'; exit 1; }

is   'a server starts'               tools/server.sh mariadb start "$dir" $port
is   'starting it again is fine'     tools/server.sh mariadb start "$dir" $port
is   'it has a status'               tools/server.sh mariadb status "$dir"
is   'a database is made'            tools/database.sh "$dir" payment u p
is   'and can be made again'         tools/database.sh "$dir" payment u p
is   'it answers'                    answers yes
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

query payment -e "INSERT INTO outbox_lease VALUES
                  ('l', NOW(), NOW(), 'test', 1, UUID())"

is   'it is killed'                  tools/server.sh mariadb kill "$dir"
isnt 'then it has no status'         tools/server.sh mariadb status "$dir"
is   'it starts on its data'         tools/server.sh mariadb start "$dir" $port
is   'nothing was lost'              rows 1
is   'it is stopped'                 tools/server.sh mariadb stop "$dir"
is   'stopping it again is fine'     tools/server.sh mariadb stop "$dir"
isnt 'nobody has the port'           grep -q . <(ss -ltnH "sport = :$port")

# a pid file whose number now belongs to somebody else
tail -f /dev/null &
bystander=$!
echo "$bystander" >"$dir/mariadb.pid"

isnt 'a stranger is not the server'  tools/server.sh mariadb status "$dir"
is   'stop with a stale pid file'    tools/server.sh mariadb stop "$dir"
is   'leaves the stranger alone'     kill -0 "$bystander"

printf '1..%d\n' "$number"
