# Root file systems of Debian releases below build/trees, made by mmdebstrap
# from the archive that this machine's apt uses, and what runs in them. Sourced
# after lib.sh by those who need one; making and entering a tree needs root.

readonly trees=$BUILD/trees
readonly tree_days=7                   # older trees are made anew: sid moves
readonly tree_checkout=/src/ngx_payment_module


# The archives of this machine's apt, with another release's name. sid has
# neither updates nor security: what is new is in it.

tree_sources() {
    local suite=$1 codename uri release component kind

    codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")

    apt-get indextargets 'Identifier: Packages' 'Origin: Debian' \
        --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' | sort -u \
        | while read -r uri release component; do
            [[ $component == main ]] || continue

            if [[ $suite == sid && $release != "$codename" ]]; then
                continue
            fi

            for kind in deb deb-src; do
                printf '%s %s %s %s\n' "$kind" "$uri" \
                    "${release/#$codename/$suite}" "$component"
            done
        done
}


# tree_make SUITE NAME PACKAGE..: the tree NAME of that release with these
# packages, unless it is there.

tree_make() {
    local suite=$1 name=$2 tree=$trees/$2 sources packages stamp
    shift 2

    (( EUID == 0 )) || die "making and entering a tree needs root"
    need mmdebstrap mmdebstrap
    need unshare util-linux
    need ip iproute2

    packages=$(printf '%s\n' "$@" | sort -u | paste -sd ,)
    sources=$(tree_sources "$suite")
    [[ -n $sources ]] || die "apt knows no Debian archive; run 'apt-get update'"
    stamp=$(printf '%s\n' "$packages" "$sources")

    if [[ -e $tree.stamp && $(<"$tree.stamp") == "$stamp" ]] \
       && [[ -z $(find "$tree.stamp" -mtime "+$tree_days") ]]
    then
        return 0
    fi

    say "making the tree $name (minutes)"
    mkdir -p "$trees"
    rm -rf --one-file-system -- "$tree" "$tree.stamp"

    # apt's lists stay, for what is installed later; a mirror that lags by more
    # than the days that a list is valid for will do, its signature is checked
    unshare --mount --pid --fork --kill-child --mount-proc \
        mmdebstrap --quiet --mode=root --variant=minbase \
            --skip=cleanup/apt/lists --include="$packages" \
            --aptopt='Acquire::Check-Valid-Until "false"' \
            "$suite" "$tree" - <<<"$sources" >"$tree.log" 2>&1 || {
                last_lines "$tree.log"
                die "mmdebstrap could not make the tree of $suite"
            }

    printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
    printf '%s\n' "$stamp" >"$tree.stamp"
}


# tree_run NAME NETWORK COMMAND..: run the command in the tree, in its copy of
# the checkout. NETWORK is online or loopback. What runs there has mounts,
# processes and, on loopback, ports of its own: when the command ends, the
# kernel ends all that it started, and no port of this machine was taken.

tree_run() {
    local tree=$trees/$1 network=$2 spaces=(--mount --pid --fork --kill-child)
    shift 2

    if [[ $network == loopback ]]; then
        spaces+=(--net)
    fi

    unshare "${spaces[@]}" bash -c '
        set -e
        tree=$1 network=$2 dir=$3
        shift 3

        # what runs there can then have mounts of its own
        mount --bind "$tree" "$tree"

        mount --bind /dev "$tree/dev"
        mount -t tmpfs tmpfs "$tree/dev/shm"
        mount -t proc proc "$tree/proc"
        mount -t tmpfs tmpfs "$tree/run"

        if [ "$network" = loopback ]; then
            ip link set lo up
        else
            cp /etc/resolv.conf "$tree/etc/resolv.conf"
        fi

        exec chroot "$tree" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            PROVE="${PROVE:-}" NGINX_SOURCE="${NGINX_SOURCE:+/src/nginx}" \
            bash -c "cd $dir && exec \"\$@\"" inside "$@"
    ' inside "$tree" "$network" "$tree_checkout" "$@"
}


# tree_copy NAME: the files that git knows, as they are now. The copy's build/
# stays.

tree_copy() {
    local dir=$trees/$1$tree_checkout

    mkdir -p "$dir/build"
    find "$dir" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +

    git -C "$ROOT" ls-files -z --cached --others --exclude-standard \
        | tar -c -C "$ROOT" --ignore-failed-read --null -T - \
        | tar -x -C "$dir"
}
