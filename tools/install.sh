#!/bin/bash
# Installs what `make build` built, and all that an operator needs beside it:
# the same files, in the same places, as Debian's package has.
#
#   tools/install.sh [all | module | data]
#
# module is the shared object and its load_module line, data the rest. Settings,
# from the environment:
#
#   DESTDIR       put in front of every path, e.g. to make a package
#   PREFIX        of programs and data (/usr)
#   MODULES_DIR   of the shared object (where this machine's nginx looks)

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr}
name=libnginx-mod-http-payment
data=$destdir$prefix/share/ngx-payment
doc=$destdir$prefix/share/doc/$name


# put MODE DIRECTORY FILE..

put() {
    local mode=$1 dir=$2
    shift 2

    install -d -m 755 -- "$dir"
    install -m "$mode" -- "$@" "$dir"
}


# tree FROM TO: the files of a folder, in its folders; not what Python leaves
# there when it is run.

tree() {
    local file

    while IFS= read -r file; do
        put 644 "$2/$(dirname -- "$file")" "$1/$file"
    done < <(cd "$1" && find . -type f ! -name '*.pyc' | sort)
}


# nginx's own word, since the path is compiled in.

modules_dir() {
    local nginx

    nginx=$(sbin nginx) || need nginx nginx
    "$nginx" -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p'
}


install_module() {
    local built=$BUILD/ngx_http_payment_module.so dir available

    [[ -e $built ]] || die "there is no $built: run 'make build' first"

    dir=${MODULES_DIR:-$(modules_dir)}
    [[ -n $dir ]] || die "nginx does not say where its modules are:" \
                         "set MODULES_DIR"

    # Debian's nginx enables a module by a link in modules-enabled to this file
    available=$destdir$prefix/share/nginx/modules-available

    put 644 "$destdir$dir" "$built"
    install -d -m 755 -- "$available"
    printf 'load_module modules/%s;\n' "${built##*/}" \
        >"$available/mod-http-payment.conf"
    chmod 644 "$available/mod-http-payment.conf"
}


install_data() {
    put 644 "$data/sql" "$ROOT"/sql/*.sql
    put 644 "$data/sql/optional" "$ROOT"/sql/optional/*.sql
    put 644 "$data/api" "$ROOT"/ngx_payment_module/http/*.json
    install -d -m 755 -- "$destdir$prefix/bin"
    install -m 755 -- "$ROOT/tools/migrate.sh" \
        "$destdir$prefix/bin/ngx-payment-migrate"
    put 644 "$destdir$prefix/share/man/man8" "$ROOT/tools/ngx-payment-migrate.8"

    put 644 "$doc" "$ROOT"/{README.md,CHANGES,SECURITY.md}
    install -m 644 -- "$ROOT/LICENSE" "$doc/copyright"
    tree "$ROOT/docs" "$doc/docs"
    tree "$ROOT/conf" "$doc/conf"
    tree "$ROOT/examples" "$doc/examples"

    install -d -m 755 -- "$destdir$prefix/lib/tmpfiles.d"
    install -m 644 -- "$ROOT/conf/systemd/tmpfiles.conf" \
        "$destdir$prefix/lib/tmpfiles.d/ngx-payment.conf"
}


case ${1:-all} in
    all)     install_module; install_data ;;
    module)  install_module ;;
    data)    install_data ;;
    *)       die "usage: tools/install.sh [all | module | data]" ;;
esac
