#!/bin/bash
# Makes build/venv with the Python packages of t/requirements.txt. Does nothing
# when they are there already.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

wanted=$ROOT/t/requirements.txt
venv=$BUILD/venv

mkdir -p "$BUILD"
exec 9>"$BUILD/venv.lock"
flock 9

if cmp -s "$wanted" "$venv/requirements.txt" && [[ -x $venv/bin/python ]]; then
    exit 0
fi

need python3 python3
say "installing the tests' Python packages into build/venv"

rm -rf -- "$venv"
python3 -m venv "$venv" 9>&- >"$BUILD/venv.log" 2>&1 \
    || {
        last_lines "$BUILD/venv.log"
        die "python3 cannot make a venv: install the Debian package" \
            "python3-venv"
    }

"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$wanted" >"$BUILD/venv.log" 2>&1 9>&- || {
        last_lines "$BUILD/venv.log"
        die "pip could not install $wanted"
    }

cp "$wanted" "$venv/requirements.txt"
