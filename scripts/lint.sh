#!/bin/sh
# Format, clippy, and the licences and sources of dependencies. `make lint` runs it.
set -eu
cd "$(dirname "$0")/.."

# Kept outside of Debian and rustup; built once, into target/tools.
deny_version=0.20.2
deny=target/tools/bin/cargo-deny
if command -v cargo-deny >/dev/null 2>&1; then
    deny=cargo-deny
elif ! [ -x "$deny" ]; then
    echo "lint: building cargo-deny $deny_version, once" >&2
    cargo install --quiet --locked --version "$deny_version" --root target/tools cargo-deny
fi

cargo fmt --all --check
cargo clippy --release --workspace --all-targets --locked -- -D warnings
"$deny" --offline check licenses bans sources 2>/dev/null || "$deny" check licenses bans sources
for file in scripts/*.sh .ci/run; do
    bash -n "$file"
done
python3 - <<'PY'
import ast, pathlib
for file in pathlib.Path("scripts").glob("*.py"):
    ast.parse(file.read_text(), str(file))
PY
echo "lint: clean" >&2
