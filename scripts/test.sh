#!/bin/sh
# Runs every test: the crates' own, then the whole lane with real peers. `make test` runs it.
#
#   scripts/test.sh                 all of them
#   scripts/test.sh -E 'test(x)'    arguments go to nextest: one group alone
set -eu
cd "$(dirname "$0")/.."
PITLANE_SHARED=${PITLANE_SHARED:-$(dirname "$(pwd)")/shared}
export PITLANE_SHARED ORT_DISABLE_TELEMETRY=1

if cargo nextest --version >/dev/null 2>&1; then
    # The programs first: tests start them. With the tests, so that nothing is built twice.
    cargo build --release --workspace --bins --tests --locked
    exec cargo nextest run --release --workspace --locked --no-fail-fast "$@"
fi
cargo build --release --workspace --bins --tests --locked
exec cargo test --release --workspace --locked --no-fail-fast
