#!/bin/bash
# Installs the Debian packages that the project needs and this machine lacks.
#
#   tools/install-deps.sh [run | all | browser | trees | deb | image]
#                                         run: for `make run`; all: tests too;
#                                         browser: those in a browser, too;
#                                         trees: those in other root file
#                                         systems, too; deb, image: and what
#                                         makes a package, or an image
#   tools/install-deps.sh list            print what `all` would look for
#
# Needs root or sudo only if something is missing. A freshly installed package
# must not start or leave behind a running service: ours are private ones.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Only the server's core package: it has mariadbd and no system service.

run_packages=(
    gcc make pkg-config libc6-dev
    nginx nginx-dev
    libmariadb-dev librdkafka-dev libjansson-dev libssl-dev
    mariadb-server-core mariadb-client-core
    maven kcat curl procps iproute2 util-linux
)

test_packages=(
    mariadb-client
    libcmocka-dev libtest-base-perl libtest-longstring-perl
    liblist-moreutils-perl libhttp-message-perl libtext-diff-perl
    libipc-run-perl liburi-perl
    python3-venv python3-dev python3-seccomp openssl wrk dpkg-dev
    clang libclang-rt-dev
)

browser_packages=(chromium fonts-dejavu-core)

# what makes a root file system of packages, and what reads shell scripts
tree_packages=(mmdebstrap shellcheck)

# what makes Debian's package, and looks at it
deb_packages=(debhelper lintian)

image_packages=(buildah)

# what Node.js programs are run with, and what fetches their packages
node_packages=(nodejs npm)

# Kafka 4 wants Java 17 or newer, which every release's default is.
java_package=default-jre-headless


# A Java that is there already, from anywhere, will do.

have_java() {
    local version

    version=$(java -XshowSettings:none -version 2>&1 | head -n 1) || return 1
    [[ $version =~ \"([0-9]+) ]] && (( BASH_REMATCH[1] >= 17 ))
}


# The same of Node.js: packages from elsewhere bring npm along in one.

have_node() {
    local version

    version=$(node --version 2>/dev/null) || return 1
    [[ $version =~ ^v([0-9]+) ]] && (( BASH_REMATCH[1] >= 18 )) \
        && command -v npm >/dev/null
}


missing() {
    local package installed

    # it fails when it has never heard of one of them
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" \
                2>/dev/null | sed -n 's/^installed //p') || :

    for package in "$@"; do
        grep -qxF -- "$package" <<<"$installed" || printf '%s\n' "$package"
    done
}


forbid_service_starts() {
    local policy=/usr/sbin/policy-rc.d

    if [[ -e $policy ]]; then
        return 0
    fi

    # the guard is ours: it goes when we go
    trap "$as_root rm -f $policy" EXIT
    trap 'exit 130' INT TERM

    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
}


install() {
    if (( EUID == 0 )); then
        as_root=

    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo

    else
        die "packages are missing and there is neither root nor sudo;" \
            "have somebody run: apt-get install $*"
    fi

    # one at a time on a machine: the first to end would take the guard against
    # service starts away from another
    exec 9</var/lib/dpkg
    flock 9

    say "installing: $*"
    forbid_service_starts

    mkdir -p "$BUILD"

    $as_root apt-get -qq update >"$BUILD/apt.log" 2>&1 9<&- \
        || say "apt-get update reported errors; trying with what it got"

    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" \
        </dev/null >>"$BUILD/apt.log" 2>&1 9<&- || {
            last_lines "$BUILD/apt.log"
            die "apt-get could not install: $*"
        }
}


command -v dpkg-query >/dev/null 2>&1 \
    || die "this is not a Debian system; install the equivalents of:" \
           "${run_packages[*]}"

packages=("${run_packages[@]}")

case ${1:-all} in
    run) ;;
    all) packages+=("${test_packages[@]}") ;;
    browser) packages+=("${test_packages[@]}" "${browser_packages[@]}") ;;
    trees) packages+=("${test_packages[@]}" "${tree_packages[@]}") ;;

    deb)
        packages+=("${test_packages[@]}" "${tree_packages[@]}"
                   "${deb_packages[@]}")
        ;;

    image)
        packages+=("${test_packages[@]}" "${tree_packages[@]}"
                   "${image_packages[@]}")
        ;;

    list)
        printf '%s\n' "${packages[@]}" "${test_packages[@]}" \
               "${node_packages[@]}" "$java_package"
        exit 0
        ;;

    *)
        die "usage: tools/install-deps.sh [run | all | browser | trees |" \
            "deb | image | list]"
        ;;
esac

mapfile -t wanted < <(missing "${packages[@]}")

# dpkg's word is cheap and a JVM's is not: ask the JVM only if dpkg says no
if [[ -n $(missing "$java_package") ]] && ! have_java; then
    wanted+=("$java_package")
fi

if [[ ${1:-all} != run ]] && ! have_node; then
    wanted+=("${node_packages[@]}")
fi

if (( ${#wanted[@]} )); then
    install "${wanted[@]}"
fi
