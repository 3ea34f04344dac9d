# For the scripts of bench/ that have servers of their own. Sourced, never run.

. "$(dirname -- "${BASH_SOURCE[0]}")/../tools/lib.sh"


# own_servers DIR: the servers that live in DIR are stopped at our end, however
# it comes, and their data goes with them.

own_servers() {
    bench_dir=$1

    mkdir -p "$bench_dir"
    trap stop_own_servers EXIT
    trap 'exit 130' INT TERM
}


stop_own_servers() {
    local server

    for server in nginx kafka mariadb; do
        "$ROOT/tools/server.sh" $server stop "$bench_dir"
    done

    rm -rf -- "$bench_dir/mariadb" "$bench_dir/kafka" \
              "$bench_dir/logs/payment.log"
}
