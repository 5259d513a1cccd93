#!/bin/sh
# Installs the Debian packages that building, the demo and the tests need, when they are missing.
#
#   scripts/setup.sh demo     a compiler, runc, the arm64 cross linker and its Rust library
#   scripts/setup.sh tests    the peers of the tests, too (scripts/peers.sh, scripts/qemu.sh)
#
# Needs root or sudo only when something is missing. What it installed is listed in
# target/setup.installed; `apt-get remove $(cat target/setup.installed)` undoes it.
set -eu
cd "$(dirname "$0")/.."
mkdir -p target

say() { printf 'setup: %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=
want() { # program package
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}

common() {
    command -v cargo >/dev/null 2>&1 || { say "cargo is missing; install Rust with rustup first"; exit 1; }
    want git git
    want gcc gcc
    want python3 python3
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
    want runc runc
    want aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    # For everyone else: rustup target add aarch64-unknown-linux-gnu
    if ! [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ]; then
        [ -x /usr/bin/rustc ] || missing="$missing rustc-web"
    fi
}

tests() {
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
    want unshare util-linux
    want strace strace
    [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing="$missing libc6-dev"
    # Measured beside ours by `make bench`.
    want webhook webhook
    want wrk wrk
    [ -x /usr/bin/time ] || missing="$missing time"
}

common
[ "${1:-demo}" = tests ] && tests
if [ -n "$missing" ]; then
    say "installing:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
    printf '%s\n' $missing >> target/setup.installed
fi
if [ "${1:-demo}" = tests ]; then
    scripts/peers.sh
    as_root scripts/qemu.sh >/dev/null
fi
