#!/bin/bash
# Another commit of this repository, built: prints its directory, which is one
# below build/checkouts and stays there for the next time.
#
#   tools/checkout.sh COMMIT

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

(( $# == 1 )) || die "usage: tools/checkout.sh COMMIT"

need git git

commit=$(git -C "$ROOT" rev-parse --verify --quiet "$1^{commit}") \
    || die "there is no commit '$1'"
tree=$BUILD/checkouts/$commit

mkdir -p "$BUILD/checkouts"
exec 9>"$BUILD/checkouts/lock"
flock 9

if [[ ! -e $tree/build/ngx_http_payment_module.so ]]; then
    rm -rf -- "$tree"
    git clone -q --shared --no-checkout "$ROOT" "$tree"
    git -C "$tree" checkout -q --detach "$commit"
    "$tree/tools/build.sh" dynamic 9>&- >&2
fi

printf '%s\n' "$tree"
