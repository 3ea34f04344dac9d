#!/bin/bash
# Unpacks the source of the distribution's nginx to build/nginx-source, for the
# builds that need all of it (nginx-dev has the headers, which is enough for a
# dynamic module). Takes the very version that is installed where the archive
# still has its source package, else the same upstream version of the release.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=$BUILD/nginx-source

need apt-get apt
need dpkg-source dpkg-dev

installed=$(dpkg-query -W -f '${source:Version}' nginx 2>/dev/null) \
    || die "the Debian package nginx is not installed: run 'make install-deps'"
upstream=${installed%-*}

if [[ -e $dir/for && $(<"$dir/for") == "$upstream" ]]; then
    exit 0
fi

work=$BUILD/nginx-source.new
rm -rf -- "$dir" "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"


# The archives are the system's own, its lists stay as they are: source
# packages are looked up in lists kept aside.

apt-get indextargets 'Identifier: Packages' 'Origin: Debian' \
    --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    | sort -u >"$work/sources.list"

[[ -s $work/sources.list ]] \
    || die "apt knows no Debian archive; run 'apt-get update'"

codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")

apt_get() {
    (cd "$work" && apt-get -qq \
        -o Dir::Etc::sourcelist="$work/sources.list" \
        -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@") >>"$work/log" 2>&1
}

say "fetching the source of nginx $upstream"

apt_get update || {
    last_lines "$work/log"
    die "apt-get cannot read the lists of source packages"
}

apt_get source --download-only "nginx=$installed" \
    || apt_get source --download-only "nginx/$codename" \
    || {
        last_lines "$work/log"
        die "apt-get cannot fetch nginx's source package"
    }

dsc=$(ls "$work"/nginx_"$upstream"-*.dsc | tail -n 1)

dpkg-source --no-check -x "$dsc" "$work/tree" >>"$work/log" 2>&1 || {
    last_lines "$work/log"
    die "dpkg-source cannot unpack ${dsc##*/}"
}

mv "$work/tree" "$dir"
printf '%s\n' "$upstream" >"$dir/for"
rm -rf -- "$work"
