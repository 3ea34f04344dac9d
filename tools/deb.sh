#!/bin/bash
# Debian's package of the module, for the nginx of this machine's release.
#
#   tools/deb.sh build        build/deb/libnginx-mod-http-payment_*.deb, lintian
#   tools/deb.sh test         install, use, remove and purge it in a bare tree
#
# The package is built in a copy of what git knows, so that nothing else of the
# checkout gets into it. The test needs root: see tools/tree.sh.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
. "$ROOT/tools/tree.sh"

dir=$BUILD/deb
name=libnginx-mod-http-payment


build() {
    need dpkg-buildpackage dpkg-dev
    need dh debhelper
    need lintian lintian

    rm -rf -- "$dir"
    mkdir -p "$dir/source"

    git -C "$ROOT" ls-files -z --cached --others --exclude-standard \
        | tar -c -C "$ROOT" --ignore-failed-read --null -T - \
        | tar -x -C "$dir/source"

    # not a part of the make that may have called us
    (cd "$dir/source" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u DESTDIR \
        -u PREFIX dpkg-buildpackage -us -uc -b) >"$dir/log" 2>&1 || {
            last_lines "$dir/log" 30
            die "dpkg-buildpackage failed; its log is $dir/log"
        }

    lintian --fail-on error --no-tag-display-limit "$dir"/*.changes \
        || die "lintian finds errors"
}


# in_tree: what a bare system does with the package, as its only argument says

files() {
    find / -xdev \( -path /proc -o -path /dev -o -path /run -o -path /tmp \
        -o -path /src -o -path /var/cache -o -path /var/log \
        -o -path /var/lib/apt -o -path /var/lib/dpkg \) -prune -o -print | sort
}


in_tree() {
    local deb

    deb=$(ls "$ROOT/build/deb/${name}"_*.deb)

    # what a run that failed has left
    dpkg --purge $name

    # nginx makes directories of its own with its first look at a configuration
    nginx -t
    files >/tmp/before

    dpkg --install "$deb"
    ls -l /etc/nginx/modules-enabled/50-mod-http-payment.conf
    nginx -t
    "$ROOT/debian/tests/payment"

    dpkg --remove $name
    nginx -t
    dpkg --purge $name

    files >/tmp/after
    diff /tmp/before /tmp/after || die "the package leaves files behind"
}


run_test() {
    local codename tree log=$dir/test.log

    codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    tree=deb-$codename

    # what the package and its test depend on; the package itself is installed
    # without the network
    tree_make "$codename" "$tree" nginx libmariadb3 librdkafka1 libjansson4 \
        mariadb-client-core mariadb-server-core curl
    tree_copy "$tree"
    rm -rf -- "$trees/$tree$tree_checkout/build/deb"
    mkdir -p "$trees/$tree$tree_checkout/build/deb"
    cp -- "$dir"/*.deb "$trees/$tree$tree_checkout/build/deb/"

    tree_run "$tree" loopback tools/deb.sh in-tree >"$log" 2>&1 || {
        last_lines "$log" 30
        die "the package failed its test"
    }

    say "installed, one payment, removed, purged: nothing is left"
}


case ${1:-} in
    build)    build ;;
    test)     [[ -n $(ls "$dir"/*.deb 2>/dev/null) ]] || build; run_test ;;
    in-tree)  in_tree ;;
    *)        die "usage: tools/deb.sh build | test" ;;
esac
