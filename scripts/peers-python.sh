#!/bin/sh
# Makes a Python environment with two independent judges of what a release carries: the OpenSSF
# project's model_signing, and CycloneDX's own schema validator. scripts/peers.sh calls it.
#
#   scripts/peers-python.sh     target/peers/venv-model-signing; a second run costs nothing
#
# The three packages named below are pinned; what they bring along is the newest that fits them. To
# undo: remove the folder.
set -eu
cd "$(dirname "$0")/.."
venv=target/peers/venv-model-signing
# The tool imports pyOpenSSL without asking for it.
wanted='model-signing==1.1.1 pyOpenSSL==26.4.0 cyclonedx-python-lib[json-validation]==11.12.0'

say() { printf 'peers: %s\n' "$*" >&2; }

if [ "$(cat "$venv/pitlane.wanted" 2>/dev/null)" = "$wanted" ]; then
    say "model_signing and cyclonedx: there"
    exit 0
fi
say "making $venv"
rm -rf "$venv"
mkdir -p target/peers
python3 -m venv "$venv"
# shellcheck disable=SC2086
"$venv/bin/pip" install --quiet --disable-pip-version-check $wanted >&2
"$venv/bin/model_signing" --version >/dev/null
printf '%s\n' "$wanted" > "$venv/pitlane.wanted"
