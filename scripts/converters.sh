#!/bin/sh
# Makes the images that turn models of other frameworks into ONNX (pipelines/converters), in the
# Docker daemon of the tests or in the one that DOCKER_HOST names.
#
#   scripts/converters.sh [sklearn] [pytorch] [tensorflow]     all of them without a name
#
# BASE=image takes that base; without it a Debian 12 is made by debootstrap (a package of Debian) and
# imported. Needs root, network, and 0.6 (sklearn) to 2.5 GB (tensorflow) of disk. Doing it twice does
# nothing. To undo: docker rmi pitlane-converter:NAME.
set -eu
cd "$(dirname "$0")/.."

say() { echo "converters: $*" >&2; }
die() { say "error: $*"; exit 1; }

if [ -z "${DOCKER_HOST-}" ]; then
    exec scripts/dockerd.sh with "$0" "$@"
fi
[ $# -gt 0 ] || set -- sklearn pytorch tensorflow

PIP_CERT=
if [ -z "${BASE-}" ]; then
    BASE=pitlane-debian:12
    PIP_CERT=/etc/machine-ca.crt
    if ! docker image inspect "$BASE" >/dev/null 2>&1; then
        root=target/converters/debian
        command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
        rm -rf "$root"
        mkdir -p "$root"
        say "making Debian 12 for the base"
        debootstrap --variant=minbase bookworm "$root" >target/converters/debootstrap.log 2>&1 \
            || die "debootstrap failed: target/converters/debootstrap.log"
        # Whom this machine trusts: its way to the Python index may have a certificate of its own.
        cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/machine-ca.crt"
        tar -C "$root" --numeric-owner -c . | docker import - "$BASE" >/dev/null
        rm -rf "$root"
    fi
fi

for name in "$@"; do
    image=pitlane-converter:$name
    # The same files give the same image; the daemon's cache does the rest.
    say "making $image"
    context=$(mktemp -d)
    cp pipelines/converters/* "$context/"
    status=0
    docker build --network host --build-arg "BASE=$BASE" ${PIP_CERT:+--build-arg "PIP_CERT=$PIP_CERT"} \
        --target "$name" --tag "$image" --file "$context/Containerfile" "$context" \
        >"target/converters/$name.log" 2>&1 || status=$?
    rm -r "$context"
    [ "$status" = 0 ] || { tail -n 15 "target/converters/$name.log" >&2; die "target/converters/$name.log"; }
done
