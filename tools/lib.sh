# Shared by the scripts in tools/: messages, processes, ports, bounded waits.
# Sourced, never run. Expects bash with `set -euo pipefail`.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build


say() {
    printf '%s\n' "$*" >&2
}


die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    [[ $* != usage:* ]] || exit 2
    exit 1
}


# need COMMAND PACKAGE: a missing tool is one sentence that says what to do.

need() {
    command -v "$1" >/dev/null 2>&1 \
        || die "$1 is missing: run 'make install-deps', or install the" \
               "Debian package $2"
}


# A path to nginx and mariadbd, which live where a user's PATH may not look.

sbin() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}


# alive PID TEXT: PID exists, is no zombie, and its command line holds TEXT.
# A pid file can outlive its process and its number can be given away again;
# nothing is ever signalled on the strength of the number alone.

alive() {
    local pid=$1 text=$2 line

    [[ $pid =~ ^[1-9][0-9]*$ ]] || return 1

    line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    [[ $line == *"$text"* ]]
}


# pid_of FILE TEXT: the pid that FILE holds, if that process is still it.

pid_of() {
    local pid=

    [[ -r $1 ]] || return 1

    read -r pid <"$1" || [[ -n $pid ]] || return 1
    alive "$pid" "$2" || return 1

    printf '%s\n' "$pid"
}


# wait_until SECONDS CONDITION..: run the condition until it holds. Bounded.

wait_until() {
    local deadline=$(( ${EPOCHREALTIME/[.,]/} + $1 * 1000000 ))
    shift

    until "$@"; do
        if (( ${EPOCHREALTIME/[.,]/} >= deadline )); then
            return 1
        fi

        sleep 0.02
    done
}


# gone PID: it has let go of everything it held. The command line is empty
# long before that; a zombie's last thread has closed the files.

gone() {
    local stat tasks

    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    tasks=("/proc/$1/task"/*)

    [[ $stat == *') Z '* ]] && (( ${#tasks[@]} <= 1 ))
}


# stop_process PID TEXT SECONDS SIGNAL..: ask with one signal after the other,
# wait after each, and only then insist.

stop_process() {
    local pid=$1 text=$2 seconds=$3 signal
    shift 3

    for signal in "$@" KILL; do
        alive "$pid" "$text" || break
        kill "-$signal" "$pid" 2>/dev/null || break

        if wait_until "$seconds" gone "$pid"; then
            return 0
        fi

        say "process $pid did not stop within $seconds s of SIG$signal"
    done

    wait_until 1 gone "$pid" || die "process $pid cannot be stopped"
}


# port_free PORT WHAT VARIABLE: one sentence when somebody listens there.

port_free() {
    local port=$1 what=$2 variable=${3:-} owner

    [[ $port =~ ^[0-9]+$ ]] && (( port > 0 && port < 65536 )) \
        || die "'$port' is not a port number"

    need ss iproute2
    owner=$(ss -ltnHp "sport = :$port")
    [[ -n $owner ]] || return 0

    if [[ $owner =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]]; then
        owner=" by ${BASH_REMATCH[1]} (pid ${BASH_REMATCH[2]})"
    else
        owner=" by another user's process"
    fi

    die "port $port, wanted for $what, is taken$owner: free it""${variable:+, or choose another with $variable=PORT}"
}


# listens PID PORT: the process itself has the port. An answer from there alone
# could be that of another server, which took the port a moment earlier.

listens() {
    [[ $(ss -ltnHp "sport = :$2") == *",pid=$1,"* ]]
}


# spawn PIDFILE LOG COMMAND..: a process of its own session that outlives us
# and holds none of our files (a caller may wait for the end of a pipe). The
# library $SPAWN_PRELOAD, if there is one, is loaded into it.

spawn() {
    local pidfile=$1 log=$2 pid
    shift 2

    # the inner shell writes its own pid and becomes the command
    setsid bash -c 'echo $$ >"$1"; shift
                    [[ -z ${SPAWN_PRELOAD:-} ]] \
                        || export LD_PRELOAD=$SPAWN_PRELOAD
                    exec "$@"' spawn "$pidfile" "$@" \
        </dev/null >>"$log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &

    wait_until 5 test -s "$pidfile" || die "cannot start $1"

    # until then its command line may be empty, as that of one that has ended
    pid=$(<"$pidfile")
    wait_until 5 became "$pid" "$1" || die "cannot start $1"
}


# became PID NAME: the process runs the program of that name, or has ended.

became() {
    local line

    line=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") || return 0
    [[ $line == "$2 "* ]] || gone "$1"
}


last_lines() {
    if [[ -s $1 ]]; then
        say "--- the end of $1"
        tail -n "${2:-15}" -- "$1" >&2
    fi
}


# kafka_topic PORT TOPIC: it exists, every partition has a leader. The broker
# makes a topic that a client asks for.

kafka_topic() {
    local port=$1 topic=$2

    topic_ready() {
        local answer

        answer=$(kcat -L -J -b "127.0.0.1:$port" -t "$topic" -m 5 2>/dev/null) \
            || return 1
        [[ $answer == *'"leader":'[0-9]* && $answer != *'"error":'* ]]
    }

    wait_until 20 topic_ready \
        || die "Kafka on port $port does not make the topic $topic"
}
