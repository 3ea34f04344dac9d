#!/bin/bash
# Brings a database's schema up to date: applies, in order, every migration of
# sql/ whose number is above the one in payment_schema_version. Applying
# nothing is not an error. One at a time: do not run two for one database.
#
#   tools/migrate.sh DATABASE [options of the mariadb client ..]
#   tools/migrate.sh payment --socket=/run/mysqld/mysqld.sock --user=root
#
# `make install` installs it as ngx-payment-migrate, with sql/ below share/. So
# it uses nothing else of tools/.

set -euo pipefail

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
    exit 1
}


(( $# >= 1 )) && [[ $1 != -* ]] \
    || die "usage: ${0##*/} DATABASE [client option ..]"

command -v mariadb >/dev/null 2>&1 \
    || die "mariadb is missing: install the Debian package mariadb-client-core"

database=$1
shift
options=("$@")


query() {
    mariadb "${options[@]}" --batch --skip-column-names \
        --default-character-set=utf8mb4 "$database" "$@"
}


# The highest version applied; 0 for a database that has no tables of ours.

current_version() {
    local known

    known=$(query -e "SELECT COUNT(*) FROM information_schema.tables
                      WHERE table_schema = DATABASE()
                        AND table_name = 'payment_schema_version'") \
        || return 1

    if (( known )); then
        query -e "SELECT COALESCE(MAX(version), 0)
                  FROM payment_schema_version"
    else
        echo 0
    fi
}


version=$(current_version) \
    || die "cannot read the schema version of the database '$database'"

applied=0

for file in "$sql"/V[0-9]*__*.sql; do
    number=${file##*/V}
    number=$((10#${number%%__*}))

    if (( number <= version )); then
        continue
    fi

    if (( number != version + 1 )); then
        die "the migration to version $((version + 1)) is not in $sql;" \
            "found ${file##*/}"
    fi

    # DDL commits by itself: what failed half-way is for a person to look at
    query <"$file" \
        || die "${file##*/} failed in the database '$database', which was" \
               "at version $version"

    version=$(current_version)

    if (( version != number )); then
        die "${file##*/} does not record its version"
    fi

    say "database $database: applied ${file##*/}"
    applied=$((applied + 1))
done

if (( applied == 0 )); then
    say "database $database: schema version $version, nothing to apply"
fi
