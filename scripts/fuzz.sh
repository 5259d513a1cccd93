#!/bin/sh
# Runs one fuzz target by coverage: libFuzzer through cargo-fuzz, on a nightly toolchain.
#
#   scripts/fuzz.sh TARGET [SECONDS]    inputs that break it are put to fuzz/artifacts/TARGET
#
# Starts from the seeds in tests/fuzz/seeds/TARGET; what it learns is kept in fuzz/corpus/TARGET
# (ignored by git). Installs nothing; build output goes to target/libfuzzer.
set -eu
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/fuzz.sh TARGET [SECONDS]}
seconds=${2:-60}

say() { printf 'fuzz: %s\n' "$*" >&2; }
if ! cargo +nightly --version >/dev/null 2>&1; then
    say 'a nightly toolchain is missing: rustup toolchain install nightly'; exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    say 'cargo-fuzz is missing: cargo install cargo-fuzz'; exit 1
fi
[ -d "tests/fuzz/seeds/$target" ] || { say "no target $target: see docs/fuzzing.md"; exit 1; }
mkdir -p "fuzz/corpus/$target"
CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/target/libfuzzer}
PITLANE_FUZZ_TARGET=$target
export CARGO_TARGET_DIR PITLANE_FUZZ_TARGET
exec cargo +nightly fuzz run --sanitizer none any "fuzz/corpus/$target" "tests/fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -artifact_prefix="$PWD/fuzz/artifacts/$target-"
