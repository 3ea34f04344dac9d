#!/bin/bash
# Brings the tables of a payment database up to date.
#
#   ngx-payment-migrate [up] DATABASE [options of the mariadb client ..]
#   ngx-payment-migrate finish DATABASE [..]
#   ngx-payment-migrate status DATABASE [..]
#   ngx-payment-migrate add NAME DATABASE [..]
#
#   ngx-payment-migrate up payment --socket=/run/mysqld/mysqld.sock --user=root
#
# up applies, in order, the migrations of sql/ that are not applied yet, as far
# as the first that older modules could not live with; finish applies those.
# Which kind a migration has is said by its first line: expand or contract. A
# database without tables has no older modules, so that up applies everything.
#
# add applies the file of sql/optional/ that has this name: an index, which
# costs something and which up makes for nobody. Its second line says which.
# Whether it is there is asked of the server, and recorded nowhere.
#
# One session of the client does it all, from the lock to the last statement.
# So it has the lock for as long as it can change anything, also when this
# script is killed. What is applied is recorded, with a checksum of its file;
# what was interrupted is applied again from its beginning, which no statement
# of a migration minds.
#
# `make install` installs it as ngx-payment-migrate, with sql/ below share/. So
# it uses nothing else of tools/. In a checkout it is tools/migrate.sh.

set -euo pipefail

readonly lock_wait_s=300            # for another one that migrates
readonly table_wait_s=1             # for a table; all who come later wait behind
                                    # whoever waits to alter it
readonly mark='ngx-payment-migrate: so far'

above=$(cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.." && pwd)
sql=$above/sql

if [[ ! -d $sql ]]; then
    sql=$above/share/ngx-payment/sql
fi


say() {
    printf '%s\n' "$*" >&2
}


die() {
    say "${0##*/}: $*"
    [[ $* != usage:* ]] || exit 2
    exit 1
}


# --- the client's session

# What the server's settings, or those of the client's own files, would change
# in the meaning of a migration is set here.

connect() {
    coproc CLIENT {
        # not before we have what is to be had of a coprocess that lives
        read -r
        exec mariadb "${options[@]}" --batch --skip-column-names --unbuffered \
            --skip-force --skip-reconnect --skip-safe-updates \
            --default-character-set=utf8mb4 "$database" 2>&1
    }

    # bash forgets its own two, and the number, when the client ends
    exec {from}<&"${CLIENT[0]}" {to}>&"${CLIENT[1]}"
    eval "exec ${CLIENT[0]}<&- ${CLIENT[1]}>&-"
    client=$CLIENT_PID
    sent=0

    trap '' PIPE
    trap disconnect EXIT
    echo >&"$to"

    ask "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"
    ask "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci"
    ask "SET SESSION TRANSACTION READ WRITE"
    ask "SET SESSION autocommit = 1, foreign_key_checks = 1,
             check_constraint_checks = 1, max_statement_time = 0,
             lock_wait_timeout = $table_wait_s"
}


# Returns when the lock is free again, however this script ends.

disconnect() {
    exec {to}>&-
    wait "$client" || :
}


# ask STATEMENT [FILE]: answer is its rows; the statements of the file come
# first. Fails when the session ended, and tells what the client said then: it
# counts lines from the session's beginning, we from the file's.

ask() {
    local statement=$1 from_file=${2:-/dev/null} line rows=() before=$sent

    {
        cat -- "$from_file"
        printf "%s;\nSELECT '%s';\n" "$statement" "$mark"
    } 2>/dev/null >&"$to" || :

    sent=$((sent + $(cat -- "$from_file" <(printf '%s\n\n' "$statement") \
                     | wc -l)))

    while IFS= read -r line <&"$from"; do
        if [[ $line == "$mark" ]]; then
            answer=$(IFS=$'\n'; printf '%s' "${rows[*]}")
            return 0
        fi

        rows+=("$line")
    done

    for line in "${rows[@]}"; do
        if [[ $line =~ ^(ERROR .* at line )([0-9]+)(: .*)$ ]]; then
            line=${BASH_REMATCH[1]}$((BASH_REMATCH[2] - before))${BASH_REMATCH[3]}
        fi

        say "$line"
    done

    return 1
}


lock() {
    local name="CONCAT('ngx_payment_migrate.', MD5(DATABASE()))"

    ask "SELECT GET_LOCK($name, 0)" || return 1

    if [[ $answer != 1 ]]; then
        say "database $database: another ngx-payment-migrate is at work," \
            "waiting for it"
        ask "SELECT GET_LOCK($name, $lock_wait_s)" || return 1
    fi

    [[ $answer == 1 ]] \
        || die "another ngx-payment-migrate is at work in the database" \
               "'$database': waited $lock_wait_s s for it"
}


# --- the migrations there are: by number, file, kind, description, checksum

read_files() {
    local path head number=0

    for path in "$sql"/V[0-9]*__*.sql; do
        number=$((number + 1))

        [[ ${path##*/} == "$(printf 'V%03d__' $number)"* ]] \
            || die "the migration to version $number is not in $sql;" \
                   "found ${path##*/}"

        IFS= read -r head <"$path" || :
        [[ $head =~ ^--\ (expand|contract):\ ([A-Za-z0-9_,\ -]+)$ ]] \
            || die "the first line of ${path##*/} must be '-- expand: TEXT'" \
                   "or '-- contract: TEXT'"

        file[number]=$path
        kind[number]=${BASH_REMATCH[1]}
        description[number]=${BASH_REMATCH[2]}
        checksum[number]=$(sha256sum <"$path" | cut -d ' ' -f 1)
    done

    newest=$number
}


# --- the optional ones: by name, file, description, table and index

read_optional() {
    local path name text
    local head=$'^-- optional: ([A-Za-z0-9_, -]+)\n-- index: ([a-z_]+)\\.([a-z_]+)$'

    for path in "$sql"/optional/*.sql; do
        name=${path##*/}
        name=${name%.sql}
        text=$(head -n 2 -- "$path")

        [[ $text =~ $head ]] \
            || die "the first lines of ${path##*/} must be" \
                   "'-- optional: TEXT' and '-- index: TABLE.INDEX'"

        optional_file[$name]=$path
        optional_text[$name]=${BASH_REMATCH[1]}
        optional_table[$name]=${BASH_REMATCH[2]}
        optional_index[$name]=${BASH_REMATCH[3]}
    done
}


# --- what the database knows: by number, when, kind and checksum of what was
# applied. Tables that an older ngx-payment-migrate made have no checksums.

has() {
    ask "SELECT COUNT(*) FROM information_schema.columns
         WHERE table_schema = DATABASE()
           AND table_name = 'payment_schema_version'
           AND column_name = '$1'" || return 1
    found=$answer
}


read_applied() {
    local columns="'-', '-'" number at is sum

    applied_at=() applied_kind=() applied_sum=()
    version=0 finished=0

    has version || return 1
    (( found )) || return 0

    has checksum || return 1

    if (( found )); then
        columns="kind, COALESCE(checksum, '-')"
    fi

    ask "SELECT version, $columns, applied_at
         FROM payment_schema_version ORDER BY version" || return 1

    while read -r number is sum at; do
        if [[ -z $number ]]; then
            continue
        fi

        applied_at[number]=$at
        applied_kind[number]=$is
        applied_sum[number]=$sum
        version=$number

        if [[ $is == contract ]]; then
            finished=$number
        fi
    done <<<"$answer"
}


# Is the optional NAME there?

has_optional() {
    ask "SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics
         WHERE table_schema = DATABASE()
           AND table_name = '${optional_table[$1]}'
           AND index_name = '${optional_index[$1]}'" || return 1
    found=$answer
}


# The table in which the module looks at each connect, made or brought up to
# date. It is a few rows long.

keep_record() {
    ask "CREATE TABLE IF NOT EXISTS payment_schema_version (
             version      INT UNSIGNED NOT NULL PRIMARY KEY,
             description  VARCHAR(200) NOT NULL,
             applied_at   DATETIME     NOT NULL DEFAULT UTC_TIMESTAMP(),
             kind         ENUM('expand', 'contract') NOT NULL DEFAULT 'expand',
             checksum     CHAR(64) CHARACTER SET ascii NULL
         ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4" \
        || return 1

    has checksum || return 1
    (( found )) && return 0

    ask "ALTER TABLE payment_schema_version
             ADD COLUMN IF NOT EXISTS
                 kind ENUM('expand', 'contract') NOT NULL DEFAULT 'expand',
             ADD COLUMN IF NOT EXISTS
                 checksum CHAR(64) CHARACTER SET ascii NULL"
}


# What is wrong with the migration of that number, which was applied; nothing
# if all is well.

fault_of() {
    local number=$1

    if [[ -z ${applied_at[number]:-} ]]; then
        printf 'not recorded'

    elif [[ ${applied_sum[number]} == - ]]; then
        printf 'unknown'

    elif [[ ${applied_sum[number]} != "${checksum[number]}" ]]; then
        printf 'changed'
    fi
}


# Whoever changes a file that was applied somewhere has two schemas of one
# version.

check_applied() {
    local number fault

    for (( number = 1; number <= version && number <= newest; number++ )); do
        fault=$(fault_of $number)

        case $fault in
            changed)
                die "${file[number]##*/} is not what was applied to the" \
                    "database '$database': its checksum is" \
                    "${checksum[number]}, that of then" \
                    "${applied_sum[number]}"
                ;;

            'not recorded')
                die "${file[number]##*/} is not recorded in the database" \
                    "'$database', which is at version $version"
                ;;

            unknown)
                ask "UPDATE payment_schema_version
                     SET checksum = '${checksum[number]}'
                     WHERE version = $number AND checksum IS NULL" || return 1
                ;;
        esac
    done
}


apply() {
    local number=$1

    ask "INSERT INTO payment_schema_version
             (version, description, kind, checksum)
         VALUES ($number, '${description[number]}', '${kind[number]}',
                 '${checksum[number]}')" "${file[number]}" \
        || die "${file[number]##*/} failed in the database '$database'," \
               "which is at version $version: when the cause is gone, run" \
               "this again"

    version=$number
    say "database $database: applied ${file[number]##*/}"
}


# add NAME: what is optional. The server puts all of it back when it is
# interrupted.

add() {
    local name=$1

    has_optional "$name" || return 1

    if (( found )); then
        say "database $database: $name is there, nothing to add"
        return 0
    fi

    (( version > 0 )) \
        || die "the database '$database' has no tables: run" \
               "'ngx-payment-migrate up' first"

    say "database $database: adding $name; a table of many million rows takes" \
        "minutes, in which payments go on"

    ask "DO 0" "${optional_file[$name]}" \
        || die "$name failed in the database '$database', and changed" \
               "nothing there: when the cause is gone, run this again"

    say "database $database: added $name"
}


# migrate KIND: what is pending, as far as all of it is of that kind; of any
# kind if none is given.

migrate() {
    local only=$1 before=$version

    while (( version < newest )); do
        if [[ -n $only && ${kind[version + 1]} != "$only" ]]; then
            break
        fi

        apply $((version + 1))
    done

    if (( version == before )); then
        say "database $database: schema version $version, nothing to apply"
    fi
}


# What is there to be applied by another verb.

tell_pending() {
    local number rest=

    (( version < newest )) || return 0

    if [[ ${kind[version + 1]} == expand ]]; then
        say "database $database: ${file[version + 1]##*/} is pending: run" \
            "'ngx-payment-migrate up'"
        return 0
    fi

    for (( number = version + 1; number <= newest; number++ )); do
        if [[ ${kind[number]} == expand ]]; then
            rest=${file[number]##*/}
            break
        fi
    done

    say "database $database: ${file[version + 1]##*/} is pending: when no" \
        "node runs an older module, run 'ngx-payment-migrate finish'"

    [[ -z $rest ]] || die "$rest can only be applied after that"
}


status() {
    local number name at state fault wrong=0

    for (( number = 1; number <= newest || number <= version; number++ )); do
        if (( number > newest )); then
            printf 'V%03d  %-8s  %s  no file\n' $number \
                "${applied_kind[number]:--}" "${applied_at[number]:--}"
            continue
        fi

        at=${applied_at[number]:-pending}
        state='-'

        if (( number <= version )); then
            fault=$(fault_of $number)
            state=${fault:-ok}

            if [[ $fault == changed || $fault == 'not recorded' ]]; then
                wrong=1
            fi
        fi

        printf 'V%03d  %-8s  %-19s  %-8s  %s\n' $number "${kind[number]}" \
            "$at" "$state" "${description[number]}"
    done

    for name in "${!optional_file[@]}"; do
        has_optional "$name" || die "$cannot"

        at=$( (( found )) && printf there || printf 'not there')
        printf '%s  optional  %s  %s\n' "$name" "$at" \
            "${optional_text[$name]}"
    done

    return $wrong
}


verb=up
name=

case ${1:-} in
    up | finish | status)
        verb=$1
        shift
        ;;

    add)
        verb=$1
        name=${2:-}
        shift $(( $# > 1 ? 2 : 1 ))
        ;;
esac

(( $# >= 1 )) && [[ $1 != -* ]] \
    || die "usage: ${0##*/} [up | finish | status | add NAME] DATABASE" \
           "[client option ..]"

command -v mariadb >/dev/null 2>&1 \
    || die "mariadb is missing: install the Debian package mariadb-client-core"

database=$1
shift
options=("$@")

file=() kind=() description=() checksum=()
read_files

declare -A optional_file optional_text optional_table optional_index
read_optional

[[ $verb != add || -n ${optional_file[${name:--}]:-} ]] \
    || die "there is nothing optional of the name '$name': there are" \
           "${!optional_file[*]}"

cannot="cannot read the schema version of the database '$database'"

connect || die "$cannot"

if [[ $verb == status ]]; then
    read_applied || die "$cannot"
    status
    exit
fi

if [[ $verb == add ]]; then
    lock && read_applied || die "$cannot"
    add "$name" || die "$cannot"
    exit
fi

lock && keep_record && read_applied && check_applied || die "$cannot"

if (( version > newest )); then
    (( finished <= newest )) \
        || die "the database '$database' was finished for version $finished;" \
               "the newest here is $newest"

    say "database $database: schema version $version, newer than all of $sql"
    exit
fi

case $verb in
    up)      migrate "$( (( version )) && printf expand || : )" ;;
    finish)  migrate contract ;;
esac

tell_pending
