#!/bin/bash
# Brings the database to where a new version of the module needs it: its tables,
# and the rights of the module's user. Run before each start of a new version;
# what is there already is kept.
#
#   ngx-payment-database [up | finish] [option of the mariadb client ..]
#
# Settings, from the environment:
#
#   PAYMENT_DB_HOST            of the server
#   PAYMENT_DB_PORT            (3306)
#   PAYMENT_DB_NAME            (payment)
#   PAYMENT_DB_ADMIN           a user that may create and grant (root)
#   PAYMENT_DB_ADMIN_PASSWORD  a file with that user's password
#   PAYMENT_DB_USER            the module's user (payment)
#   PAYMENT_DB_USER_HOST       where that one comes from (%)
#   PAYMENT_DB_PASSWORD        a file with its password: then the database and
#                              the user are created, if they are not there

set -euo pipefail

verb=up

if [[ ${1:-} == up || ${1:-} == finish ]]; then
    verb=$1
    shift
fi

name=${PAYMENT_DB_NAME:-payment}
user=${PAYMENT_DB_USER:-payment}
host=${PAYMENT_DB_USER_HOST:-%}
doc=${PAYMENT_DOC:-/usr/share/doc/libnginx-mod-http-payment}

[[ $name$user =~ ^[A-Za-z0-9_]+$ && $host =~ ^[A-Za-z0-9_.:%/-]+$ ]] || {
    echo "${0##*/}: the names of database and user are letters, digits and _" >&2
    exit 1
}

options=(--host="$PAYMENT_DB_HOST" --port="${PAYMENT_DB_PORT:-3306}"
         --user="${PAYMENT_DB_ADMIN:-root}" "$@")


# MariaDB's client checks whom it sends a password to, unless it has the password
# from the environment. A file has it here, one that is a pipe: nothing need be
# writable. See https://mariadb.com/docs/server/security/encryption/ on zero-configuration.

login() {
    local password

    password=$(<"$PAYMENT_DB_ADMIN_PASSWORD")
    password=${password//\\/\\\\}
    password=${password//\"/\\\"}
    printf '[client]\npassword="%s"\n' "$password"
}


client() {
    mariadb --defaults-file=<(login) "${options[@]}" "$@"
}


if [[ -n ${PAYMENT_DB_PASSWORD:-} ]]; then
    password=$(<"$PAYMENT_DB_PASSWORD")

    # a text in quotes, whatever is in it
    password=${password//\\/\\\\}
    password=${password//\'/\\\'}

    client <<SQL
SET SESSION sql_mode = '';
CREATE DATABASE IF NOT EXISTS $name CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS '$user'@'$host' IDENTIFIED BY '$password';
SQL
fi

ngx-payment-migrate "$verb" "$name" --defaults-file=<(login) "${options[@]}"

sed "s|'payment'@'10.0.0.%'|'$user'@'$host'|" "$doc/conf/grants.sql" \
    | client "$name"
