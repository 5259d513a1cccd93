#!/bin/sh
# A Docker daemon for tests, apart from any other on this machine: own data, own socket, no network
# changes. Needs root (or sudo), and the packages that scripts/peers.sh installs.
#
#   scripts/dockerd.sh start           starts it unless it runs; prints DOCKER_HOST=...
#   scripts/dockerd.sh stop            stops it
#   scripts/dockerd.sh status          exit 0 when it runs
#   scripts/dockerd.sh with COMMAND..  runs COMMAND with DOCKER_HOST set, starting the daemon before
#                                      and stopping it after the last of several such users
#
# Everything lies in target/dockerd; `stop`, then remove the folder, to undo.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
dir="$here/target/dockerd"
socket="$dir/docker.sock"
pidfile="$dir/docker.pid"
# Seconds; a cold start takes about two.
start_limit=60
stop_limit=30

say() { printf 'dockerd: %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The pid, when that process is still our daemon and not another that got its number.
running() {
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -F -- "--pidfile=$pidfile"
}

answers() { DOCKER_HOST="unix://$socket" docker version >/dev/null 2>&1; }

start() {
    mkdir -p "$dir"
    if ! running; then
        PATH="$PATH:/usr/sbin:/sbin"
        command -v dockerd >/dev/null || { say 'dockerd is missing: run scripts/peers.sh'; exit 1; }
        rm -f "$pidfile"
        # overlay2 as on real machines; vfs where target/ lies on an overlay itself.
        driver=overlay2
        [ "$(stat -f -c %T "$dir")" != overlayfs ] || driver=vfs
        # No bridge and no firewall rules: images are only built, pushed and pulled here.
        # In a subshell that lets go of the locks below: they would be held as long as the daemon runs.
        (
            exec 8>&- 9>&-
            as_root setsid dockerd --data-root="$dir/data" --exec-root="$dir/exec" \
                --pidfile="$pidfile" --host="unix://$socket" --group="$(id -gn)" \
                --storage-driver="$driver" --bridge=none --iptables=false --ip6tables=false --ip-masq=false
        ) >"$dir/log" 2>&1 </dev/null &
        tries=0
        until answers; do
            tries=$((tries + 1))
            if [ "$tries" -gt $((start_limit * 5)) ]; then
                say "did not answer within $start_limit s; its log ends:"
                tail -n 15 "$dir/log" >&2
                exit 1
            fi
            sleep 0.2
        done
    fi
    echo "DOCKER_HOST=unix://$socket"
}

stop() {
    running || return 0
    as_root kill "$pid"
    tries=0
    while [ -e "/proc/$pid" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt $((stop_limit * 5)) ]; then
            say "process $pid does not end"
            exit 1
        fi
        sleep 0.2
    done
}

# Users hold a shared lock (descriptor 9) while their command runs; who can make it exclusive
# afterwards was the last. A second lock keeps starts and stops apart.
with() {
    mkdir -p "$dir"
    exec 9>"$dir/users.lock" 8>"$dir/turn.lock"
    flock 8; flock -s 9
    start >/dev/null
    flock -u 8
    status=0
    DOCKER_HOST="unix://$socket" "$@" 8>&- 9>&- || status=$?
    flock 8
    if flock -n -x 9; then stop; fi
    exit "$status"
}

case "${1-}" in
    start) start ;;
    stop) stop ;;
    status) running && answers ;;
    with) shift; [ "$#" -gt 0 ] || { say 'usage: scripts/dockerd.sh with COMMAND..'; exit 2; }; with "$@" ;;
    *) say 'usage: scripts/dockerd.sh start|stop|status|with COMMAND..'; exit 2 ;;
esac
