#!/bin/bash
# Builds, outside the source tree, one of:
#
#   tools/build.sh dynamic    build/ngx_http_payment_module.so, loadable by the
#                             distribution's nginx
#   tools/build.sh clang      the same by clang, which warns of other things;
#                             for `make test-unit`
#   tools/build.sh static     build/static/nginx, the module compiled in
#   tools/build.sh asan       build/asan/nginx, the same under AddressSanitizer
#                             and UndefinedBehaviorSanitizer
#
# CC is the compiler, gcc unless it says another, e.g. CC=clang. NGINX_SOURCE is
# a directory of nginx's source that static and asan use in place of the
# distribution's own.
#
# nginx is configured anew only when `config` or what it depends on changed;
# otherwise this is make's own look at the times of the files.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

kind=${1:-}
tree=$BUILD/$kind
dev=/usr/share/nginx/src

[[ -r $dev/conf_flags ]] \
    || die "nginx's headers are missing: run 'make install-deps', or install" \
           "the Debian package nginx-dev"

cc=${CC:-gcc}

if [[ $kind == clang ]]; then
    cc=clang
fi

need "$cc" "${cc##*/}"
need make make

# the configure arguments of the distribution's own nginx
. "$dev/conf_flags"
arguments=("${NGX_CONF_FLAGS[@]}" --with-cc="$cc")

# what nginx writes is beside the bodies that it buffers, not below its prefix
if [[ -z ${PAYMENT_OUTBOX_PATH:-} ]]; then
    body=$(printf '%s\n' "${NGX_CONF_FLAGS[@]}" \
           | sed -n 's/^--http-client-body-temp-path=//p')
    export PAYMENT_OUTBOX_PATH=${body:+${body%/*}/payment_outbox_temp}
fi

# which a patch of the distribution's made options of configure
if [[ -n ${NGINX_SOURCE:-} ]]; then
    mapfile -t arguments < <(printf '%s\n' "${arguments[@]}" \
                             | grep -v '^--override-')
fi

# the module's style, as warnings that are errors; nginx itself, as the
# distribution patches it, would not pass
style="-Wdeclaration-after-statement"
hardening="-fstack-protector-strong -D_FORTIFY_SOURCE=2"
linker="-Wl,-z,relro -Wl,-z,now"

case $kind in
    dynamic | clang)
        source=$dev
        target=modules
        product=$tree/objs/ngx_http_payment_module.so
        result=$BUILD/ngx_http_payment_module.so

        if [[ $kind == clang ]]; then
            result=$tree/ngx_http_payment_module.so
        fi

        arguments+=(--add-dynamic-module="$ROOT"
                    --with-cc-opt="-g -O2 $hardening $style"
                    --with-ld-opt="$linker")
        ;;

    static)
        source=${NGINX_SOURCE:-$BUILD/nginx-source}
        target=binary
        product=$tree/objs/nginx
        result=$tree/nginx
        arguments+=(--add-module="$ROOT"
                    --with-cc-opt="-g -O2 $hardening"
                    --with-ld-opt="$linker")
        ;;

    asan)
        # every allocation of a pool is one of malloc's, so that an overrun of
        # one is seen; what nginx itself does with NULL and 0 bytes is its own
        sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
        sanitize+=" -fno-sanitize=nonnull-attribute,pointer-overflow,alignment"
        source=${NGINX_SOURCE:-$BUILD/nginx-source}
        target=binary
        product=$tree/objs/nginx
        result=$tree/nginx
        arguments+=(--add-module="$ROOT"
                    --with-cc-opt="-g -O1 -fno-omit-frame-pointer $sanitize \
-DNGX_DEBUG_PALLOC=1 -DNGX_DEBUG_MALLOC=1"
                    --with-ld-opt="$sanitize")
        ;;

    *)
        die "usage: tools/build.sh dynamic | clang | static | asan"
        ;;
esac

mkdir -p "$tree"
exec 9>"$tree/lock"
flock 9

if [[ $source == "$BUILD/nginx-source" ]]; then
    "$ROOT/tools/fetch.sh" nginx 9>&-
fi


# A source that config does not name is built by nobody.

for file in "$ROOT"/ngx_payment_module/*/*.c "$ROOT"/worker/{,rules/}*.c; do
    if [[ -e $file ]] && ! grep -qF -- "/${file#"$ROOT/"} " "$ROOT/config"; then
        say "warning: config does not list ${file#"$ROOT/"}"
    fi
done


# How the objects are compiled, and which of them there are. The first decides
# whether what is there can be used at all.

flags=$(printf '%s\n' "${arguments[@]}" "$("$cc" --version | head -n 1)" \
        "$(sha256sum <"$source/src/core/nginx.h")")
list=$(printf '%s\n' "${MARIADB_INC:-}" "${MARIADB_LIB:-}" \
       "${RDKAFKA_INC:-}" "${RDKAFKA_LIB:-}" \
       "${JANSSON_INC:-}" "${JANSSON_LIB:-}" "${PAYMENT_OUTBOX_PATH:-}" \
       "$(<"$ROOT/config")")

if [[ ! -e $tree/flags || $(<"$tree/flags") != "$flags" ]]; then
    rm -rf -- "$tree/objs" "$tree/list"
    printf '%s\n' "$flags" >"$tree/flags"
fi

if [[ ! -e $tree/list || $(<"$tree/list") != "$list" ]]; then
    rm -f -- "$tree/list"

    # configure writes into its working directory: give it one of links
    for name in auto configure src contrib man conf html; do
        if [[ -e $source/$name ]]; then
            ln -sfn "$source/$name" "$tree/$name"
        fi
    done

    # an unchanged header must not look new, or all of nginx compiles again
    headers=(ngx_auto_config.h ngx_auto_headers.h)

    for header in "${headers[@]}"; do
        if [[ -e $tree/objs/$header ]]; then
            cp -p "$tree/objs/$header" "$tree/$header"
        fi
    done

    # a released source has configure on top, nginx's repository has not
    configure=./configure
    [[ -e $source/configure ]] || configure=auto/configure

    # the one line that says what is missing comes on stderr
    (cd "$tree" && $configure "${arguments[@]}") \
        >"$tree/configure.log" 2>"$tree/configure.err" 9>&- || {
            if [[ -s $tree/configure.err ]]; then
                cat "$tree/configure.err" >&2
            else
                last_lines "$tree/configure.log" 5
            fi

            die "configure failed; its log is $tree/configure.log"
        }

    for header in "${headers[@]}"; do
        if cmp -s "$tree/$header" "$tree/objs/$header"; then
            mv "$tree/$header" "$tree/objs/$header"
        fi
    done

    printf '%s\n' "$list" >"$tree/list"
fi

quiet=--silent
if [[ -n ${V:-} ]]; then
    quiet=
fi

# not a part of the make that may have called us
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
    make $quiet -j "$(nproc)" -C "$tree" -f objs/Makefile $target 9>&-

# a shared object links with anything missing; nginx would say it at its start
if [[ $kind == dynamic ]]; then
    undefined=$(nm -D --undefined-only "$product" \
                | sed -n 's/.* U \(.*payment_.*\)/\1/p')

    if [[ -n $undefined ]]; then
        rm -f -- "$product"
        die "nothing defines" $undefined
    fi

    exported=$(nm -D --defined-only "$product" \
               | sed '/ ngx_module\(s\|_names\|_order\)\(@\|$\)/d')

    if [[ -n $exported ]]; then
        rm -f -- "$product"
        die "the module exports more than nginx looks up:" $exported
    fi
fi

[[ $product -ef $result ]] || ln -sfn "$product" "$result"
