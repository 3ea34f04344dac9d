#!/bin/bash
# Debian's package of the module, for the nginx of this machine's release.
#
#   tools/deb.sh build        build/deb/libnginx-mod-http-payment_*.deb, lintian
#   tools/deb.sh test         install, use, upgrade, remove and purge it in a
#                             bare tree
#
# The package is built in a copy of what git knows, so that nothing else of the
# checkout gets into it. The test needs root: see tools/tree.sh.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
. "$ROOT/tools/tree.sh"

dir=$BUILD/deb
name=libnginx-mod-http-payment
versions=(9.0.1 9.0.2 9.0.3)            # as long as the present one


build() {
    "$ROOT/tools/install-deps.sh" deb

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


# newer VERSION DIRECTORY: the package again, under the name of another version,
# which the module in it has, too.

newer() {
    local version=$1 to=$2 unpacked=$dir/newer old

    old=$(sed -n 's/^#define NGX_PAYMENT_VERSION *"\(.*\)"$/\1/p' \
          "$ROOT/ngx_payment_module/shared/ngx_payment_version.h")

    rm -rf -- "$unpacked"
    dpkg-deb --raw-extract "$dir/${name}"_*.deb "$unpacked"
    sed -i "s/^Version: .*/Version: $version-1/" "$unpacked/DEBIAN/control"
    LC_ALL=C sed -i "s/${old//./\\.}/$version/g" \
        "$unpacked/usr/lib/nginx/modules/ngx_http_payment_module.so"
    dpkg-deb --root-owner-group --build "$unpacked" "$to/$version.deb" \
        >/dev/null
    rm -rf -- "$unpacked"
}


# in_tree: what a bare system does with the package, as its only argument says

files() {
    find / -xdev \( -path /proc -o -path /dev -o -path /run -o -path /tmp \
        -o -path /src -o -path /var/cache -o -path /var/log \
        -o -path /var/lib/apt -o -path /var/lib/dpkg \) -prune -o -print | sort
}


deb() {
    ls "$ROOT/build/deb/${name}"_*.deb
}


# What the package installs is what `make install` does, but for the changelog
# of the package itself, and by Debian's names: a manual page is compressed, and
# CHANGES is the changelog.

same_files() {
    local to=/tmp/installed

    # nothing is built here; it is the list that counts
    ln -sfn /usr/lib/nginx/modules/ngx_http_payment_module.so "$BUILD/"

    rm -rf -- $to
    DESTDIR=$to "$ROOT/tools/install.sh"

    diff <(cd $to && find . -type f | sed 's|^\.||' | sort) \
        <(dpkg -L $name | while IFS= read -r file; do
              [[ -d $file || -L $file ]] || printf '%s\n' "$file"
          done | sed '/\/changelog\.Debian\.gz$/d; s/\.gz$//
                      s|/changelog$|/CHANGES|' | sort) \
        || die "the package and make install differ"
}


# with the network, as an operator does it, on a system without nginx

in_bare() {
    # what an earlier run has left
    rm -f -- /etc/nginx/conf.d/payment.conf /usr/sbin/policy-rc.d
    apt-get --yes --purge --autoremove remove nginx nginx-common

    apt-get --yes --no-install-recommends install "$(deb)"
    nginx -t
}


# without

in_tree() {
    local deb

    deb=$(deb)
    dpkg --purge $name

    # nginx makes directories of its own with its first look at a configuration
    nginx -t
    files >/tmp/before

    dpkg --install "$deb"
    ls -l /etc/nginx/modules-enabled/50-mod-http-payment.conf
    same_files
    nginx -t
    "$ROOT/debian/tests/payment"
    "$ROOT/debian/tests/upgrade" "${versions[0]}" \
        "$ROOT/build/newer/${versions[0]}.deb" "${versions[1]}" \
        "$ROOT/build/newer/${versions[1]}.deb" "${versions[2]}" \
        "$ROOT/build/newer/${versions[2]}.deb"

    dpkg --remove $name
    nginx -t
    dpkg --purge $name

    files >/tmp/after
    diff /tmp/before /tmp/after || die "the package leaves files behind"
}


run_test() {
    local codename tree built version log=$dir/test.log

    codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    tree=deb-$codename

    # what the test needs; what the package needs comes with it
    tree_make "$codename" "$tree" mariadb-client-core mariadb-server-core curl
    tree_copy "$tree"
    built=$trees/$tree$tree_checkout/build
    rm -rf -- "$built/deb" "$built/newer"
    mkdir -p "$built/deb" "$built/newer"
    cp -- "$dir"/*.deb "$built/deb/"

    for version in "${versions[@]}"; do
        newer "$version" "$built/newer"
    done

    { tree_run "$tree" online tools/deb.sh in-bare \
      && tree_run "$tree" loopback tools/deb.sh in-tree; } >"$log" 2>&1 || {
        last_lines "$log" 30
        die "the package failed its test"
    }

    say "installed, used, upgraded ($(grep 'none failed' "$log")), removed," \
        "purged: nothing is left"
}


case ${1:-} in
    build)    build ;;
    test)     [[ -n $(ls "$dir"/*.deb 2>/dev/null) ]] || build; run_test ;;
    in-bare)  in_bare ;;
    in-tree)  in_tree ;;
    *)        die "usage: tools/deb.sh build | test" ;;
esac
