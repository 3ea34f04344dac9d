#!/bin/bash
# Makes the database and its user in a server that tools/server.sh started,
# and brings the schema up to date. Repeating it changes nothing.
#
#   tools/database.sh DIR DATABASE USER PASSWORD
#
# The user may do what the module does and no more, on the databases whose
# name starts with DATABASE.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# == 4 )) || die "usage: tools/database.sh DIR DATABASE USER PASSWORD"

dir=$(realpath -m -- "$1") database=$2 user=$3 password=$4
client=(--no-defaults --protocol=socket --socket="$dir/mariadb.sock"
        --user="$(id -un)")

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

"$ROOT/tools/migrate.sh" "$database" "${client[@]}"
