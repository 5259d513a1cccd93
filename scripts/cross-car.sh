#!/bin/sh
# Builds pitlane-car for arm64 cars into target/arm64/pitlane-car, on an amd64 Debian machine.
#
#   scripts/cross-car.sh
#
# Compiler: the rustup toolchain, where its target aarch64-unknown-linux-gnu is installed; else
# Debian's rustc-web together with its arm64 standard library, which is unpacked beside the
# system (target/arm64/sysroot) and never installed: the machine's architectures stay as they are.
# Linker: Debian's gcc-aarch64-linux-gnu. The arm64 libc to link against is unpacked likewise
# (target/arm64/libc): the cross compiler only recommends one, and this one is the base image's.
# Environment: CARGO_TARGET_DIR is respected for intermediate files (default: target).
set -eu
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
linker=aarch64-linux-gnu-gcc
out=target/arm64
build=${CARGO_TARGET_DIR:-target}/cross-arm64

say() { echo "cross-car: $*" >&2; }
die() { say "error: $*"; exit 1; }

command -v "$linker" >/dev/null || die "$linker is missing; install the Debian package gcc-aarch64-linux-gnu"
mkdir -p "$out"

# A sysroot is bin/../lib/rustlib: the host's part for build scripts and macros, the target's part
# for the program. Here both are links, into the system and into what was unpacked.
debian_sysroot() {
    rustc=/usr/bin/rustc
    [ -x "$rustc" ] || die "no rustup target $target (rustup target add $target), and no $rustc (Debian package rustc-web)"
    package=$(dpkg-query -S "$(readlink -f "$rustc")" | sed -n 's/:.*//p')
    version=$(dpkg-query -W -f '${Version}' "$package")
    case $package in
        rustc-web) library=libstd-rust-web-dev ;;
        *) library=libstd-rust-dev ;;
    esac
    # Libraries of exactly the compiler's version: rustc refuses others.
    scripts/base.py --deb "$library=$version" --arch arm64 --into "$out/libstd"
    host=$("$rustc" --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu
    [ -d "$host" ] || die "$host is missing; install the Debian package $library"
    found=$(find "$out/libstd" -type d -path "*/rustlib/$target" | head -n 1)
    [ -n "$found" ] || die "$library $version (arm64) has no rustlib/$target"
    mkdir -p "$out/sysroot/lib/rustlib"
    ln -sfn "$host" "$out/sysroot/lib/rustlib/x86_64-unknown-linux-gnu"
    ln -sfn "$(pwd)/$found" "$out/sysroot/lib/rustlib/$target"
    say "$("$rustc" --version), $library $version"
    RUSTC=$rustc
    sysroot="--sysroot=$(pwd)/$out/sysroot"
    export RUSTC
}

sysroot=
if [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$target" ]; then
    say "$(rustc --version) with its target $target"
else
    debian_sysroot
fi

scripts/base.py --deb libc6 libc6-dev libgcc-s1 --arch arm64 --into "$out/libc"

# The same flags for every machine: no path of this checkout or its owner ends up in the program.
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker \
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$sysroot -Clink-arg=--sysroot=$(pwd)/$out/libc --remap-path-prefix=$(pwd)=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    cargo build --release --locked -p pitlane-car --target "$target" --target-dir "$build" >&2

aarch64-linux-gnu-strip -o "$out/pitlane-car.new" "$build/$target/release/pitlane-car"
mv -f "$out/pitlane-car.new" "$out/pitlane-car"
say "$out/pitlane-car, $(stat -c %s "$out/pitlane-car") bytes"
