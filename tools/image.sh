#!/bin/bash
# Builds the image of deploy/Dockerfile and makes a payment with it.
#
#   tools/image.sh
#
# The image is built by buildah, which needs no Docker, in a store of its own
# below build/image, on a base made from Debian's archive instead of a
# registry's. It runs as deploy/compose.yaml has it: not as root, without a
# capability, its root file system read-only. MariaDB and Kafka are this
# checkout's own. All that runs has mounts, processes and a network of its own,
# loopback alone, and ends with it. Needs root.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
. "$ROOT/tools/tree.sh"

readonly dir=$BUILD/image
readonly base=docker.io/library/debian:13-slim
readonly image=localhost/ngx-payment
readonly uid=33                        # as the Dockerfile's USER
readonly patience=30                   # seconds, for what is waited for


store() {
    buildah --root "$dir/store" --runroot "$dir/runroot" \
        --storage-driver vfs "$@"
}


# the base is what debian:13-slim is: an essential system with apt

build_base() {
    local container

    tree_make trixie image ca-certificates

    if store inspect --type image "$base" >/dev/null 2>&1 \
       && [[ $dir/base.stamp -nt $trees/image.stamp ]]
    then
        return 0
    fi

    say "making the base image"
    container=$(store from scratch)
    store add --quiet "$container" "$trees/image" / >/dev/null
    store commit --quiet --rm "$container" "$base" >/dev/null
    touch "$dir/base.stamp"
}


build() {
    local context=$dir/context

    say "building the image (minutes)"
    rm -rf -- "$context"
    mkdir -p "$context"
    git -C "$ROOT" ls-files -z --cached --others --exclude-standard \
        | tar -c -C "$ROOT" --ignore-failed-read --null -T - \
        | tar -x -C "$context"

    store build --layers --isolation chroot --network host --pull=never \
        --file "$context/deploy/Dockerfile" --tag "$image" \
        "$context" >"$dir/build.log" 2>&1 || {
            last_lines "$dir/build.log"
            die "buildah could not build the image"
        }
}


run() {
    local container

    container=$(store from --pull=never "$image")

    unshare --mount --pid --net --fork --kill-child --mount-proc \
        "${BASH_SOURCE[0]}" inside "$(store mount "$container")" \
        || { store rm "$container" >/dev/null; die "the image does not pay"; }

    store rm "$container" >/dev/null
}


# --- in mounts, processes and a network of its own

mount_all() {
    local root=$1

    printf '127.0.0.1 localhost mariadb kafka\n' >"$dir/hosts"
    touch "$root/etc/hosts"
    mkdir -p "$root/run/secrets"

    mount --bind "$root" "$root"
    mount --bind "$dir/hosts" "$root/etc/hosts"
    mount --bind "$dir/secrets" "$root/run/secrets"
    mount -t tmpfs -o "uid=$uid,gid=$uid" tmpfs "$root/run/nginx"
    mount -t tmpfs -o "uid=$uid,gid=$uid" tmpfs "$root/var/lib/nginx"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -o remount,bind,ro "$root"
}


# in_image COMMAND..: as the image's user, with nothing that root may

in_image() {
    chroot "$root" /usr/bin/env -i HOME=/tmp "${environment[@]}" \
        PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all "$@"
}


ask() {
    curl --silent --fail --max-time 10 -H 'Content-Type: application/json' "$@"
}


published() {
    # a topic that is not there yet would be waited for
    timeout 5 kcat -q -C -b kafka:9092 -t payments -o beginning -e \
        -X broker.address.family=v4 2>/dev/null \
        | grep -q '"eventType":"authorized"'
}


until_true() {
    local end=$(( SECONDS + patience ))

    until "$@" >/dev/null 2>&1; do
        (( SECONDS < end )) || { cat "$dir/log" >&2; die "never: $*"; }
        sleep 0.1
    done
}


inside() {
    local root=$1 environment=() nginx servers=$dir/servers

    # a host with 127.0.0.1 alone is one without an address, to those who look a
    # name up for the kinds of addresses that the host has (AI_ADDRCONFIG)
    ip link set lo up
    ip address add 127.0.0.2/8 dev lo

    mkdir -p "$dir/secrets"
    printf '%s\n' 'not a "secret" \n' >"$dir/secrets/admin-password"
    printf 'not a secret\n' >"$dir/secrets/db-password"
    mount_all "$root"
    mount --bind "$dir/hosts" /etc/hosts

    rm -rf -- "$servers"
    mkdir -p "$servers/logs"
    "$ROOT/tools/server.sh" mariadb start "$servers" 3306
    "$ROOT/tools/server.sh" kafka start "$servers" 9092

    mariadb --no-defaults --socket="$servers/mariadb.sock" --user=root <<SQL
SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES';
CREATE USER admin@'%' IDENTIFIED BY '$(<"$dir/secrets/admin-password")';
GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;
SQL

    # as the compose file's first service, and again: what is there stays
    environment=(PAYMENT_DB_HOST=mariadb PAYMENT_DB_ADMIN=admin
                 PAYMENT_DB_ADMIN_PASSWORD=/run/secrets/admin-password
                 PAYMENT_DB_PASSWORD=/run/secrets/db-password)
    in_image ngx-payment-database up --skip-ssl
    in_image ngx-payment-database up --skip-ssl

    # without being told so, the password goes to no server that has no TLS
    if in_image ngx-payment-database up 2>"$dir/log"; then
        die "ngx-payment-database logged in without TLS"
    fi

    grep -q 'SSL is required' "$dir/log" || {
        last_lines "$dir/log"
        die "ngx-payment-database was refused for another reason"
    }

    environment=()

    # engines give what a container writes to the user of the container
    : >"$dir/log"
    chown "$uid" "$dir/log"
    in_image nginx -e stderr -g 'daemon off;' >>"$dir/log" 2>&1 &
    nginx=$!

    until_true ask http://127.0.0.1:8081/ready

    ask -d '{"merchantId": "M-1", "amount": 1000, "currency": "KRW",
        "idempotencyKey": "first"}' \
        http://127.0.0.1:8080/api/payments/authorize
    printf '\n'

    until_true published

    # to nginx itself: what runs behind a shell's back ignores QUIT
    kill -s "$(sed -n 's/^STOPSIGNAL //p' "$ROOT/deploy/Dockerfile")" \
        "$(<"$root/run/nginx/nginx.pid")"
    wait "$nginx" || die "nginx ended with $?"

    if grep -E '\[(alert|emerg|crit|error)\]' "$dir/log"; then
        die "the node complained"
    fi
}


case ${1:-test} in
inside)
    inside "$2"
    ;;

test)
    "$ROOT/tools/install-deps.sh" image
    mkdir -p "$dir"
    "$ROOT/tools/fetch.sh" kafka
    build_base
    build
    run
    say "the image pays, publishes and stops"
    ;;

*)
    die "usage: tools/image.sh"
    ;;
esac
