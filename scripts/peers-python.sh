#!/bin/sh
# Makes two Python environments of independent judges. scripts/peers.sh calls it.
#
#   scripts/peers-python.sh             makes what is missing; a second run costs nothing
#   scripts/peers-python.sh --check     says what is there, and installs nothing
#
#   target/peers/venv-model-signing     what a release carries: the OpenSSF project's model_signing,
#                                       and CycloneDX's own schema validator
#   target/peers/venv-service           what the service offers: schemathesis for its API, OTLP's own
#                                       messages for its traces, and the
#                                       schemas of Kubernetes for its manifests
#
# The packages named below are pinned; what they bring along is the newest that fits them. To undo:
# remove the folders.
set -eu
cd "$(dirname "$0")/.."
# The tool imports pyOpenSSL without asking for it.
judges='model-signing==1.1.1 pyOpenSSL==26.4.0 cyclonedx-python-lib[json-validation]==11.12.0'
service='schemathesis==4.32.5 kubernetes-validate==1.37.0 opentelemetry-proto==1.45.2'

say() { printf 'peers: %s\n' "$*" >&2; }

# NAME PROGRAM PACKAGES: an environment, and a program of it that must start.
environment() {
    venv="target/peers/venv-$1"
    if [ "$(cat "$venv/pitlane.wanted" 2>/dev/null)" = "$3" ]; then
        say "have $venv"
        return 0
    fi
    if [ "$mode" = check ]; then
        say "missing: $venv (run scripts/peers.sh)"
        return 1
    fi
    say "making $venv"
    rm -rf "$venv"
    mkdir -p target/peers
    python3 -m venv "$venv" || return 1
    # shellcheck disable=SC2086
    "$venv/bin/pip" install --quiet --disable-pip-version-check $3 >&2 || return 1
    "$venv/bin/$2" --version >/dev/null || return 1
    printf '%s\n' "$3" > "$venv/pitlane.wanted"
}

case "${1-}" in
    --check) mode=check ;;
    '') mode=make ;;
    *) say 'usage: scripts/peers-python.sh [--check]'; exit 2 ;;
esac
status=0
environment model-signing model_signing "$judges" || status=1
environment service schemathesis "$service" || status=1
exit "$status"
