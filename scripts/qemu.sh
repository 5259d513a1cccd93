#!/bin/sh
# Lets this amd64 machine run arm64 programs, for the tests of the arm64 car image.
#
#   scripts/qemu.sh          prepare; prints the emulator's path on stdout
#   scripts/qemu.sh --undo   remove the handler again
#
# The emulator is the machine's own qemu-aarch64-static if there is one; else Debian's package is
# unpacked into target/arm64/qemu, and nothing is installed. The handler for arm64 programs is registered
# with the flag F: the kernel keeps the emulator open, so it also works inside a chroot.
# Needs root. Doing it twice does nothing.
set -eu
cd "$(dirname "$0")/.."

handlers=/proc/sys/fs/binfmt_misc
handler=$handlers/qemu-aarch64

say() { echo "qemu: $*" >&2; }
die() { say "error: $*"; exit 1; }

[ "$(id -u)" = 0 ] || die "registering a handler with the kernel needs root; run it with sudo"

if [ "${1-}" = --undo ]; then
    [ ! -e "$handler" ] || echo -1 > "$handler"
    exit 0
fi
[ $# = 0 ] || { say "unknown argument: $1 (only --undo)"; exit 2; }

if [ "$(uname -m)" = aarch64 ]; then
    say "this machine is arm64: nothing to do"
    exit 0
fi

emulator=$(command -v qemu-aarch64-static || true)
if [ -z "$emulator" ]; then
    emulator=$(pwd)/target/arm64/qemu/usr/bin/qemu-aarch64-static
    if [ ! -x "$emulator" ]; then
        scripts/base.py --deb qemu-user-static --into target/arm64/qemu >&2
        # Some releases ship a mere link there, to a program of another package.
        [ -x "$emulator" ] || die "$emulator does not exist in that package; install qemu-user-static"
    fi
fi

if [ ! -e "$handlers/register" ]; then
    modprobe binfmt_misc 2>/dev/null || true
    mount -t binfmt_misc binfmt_misc "$handlers" \
        || die "the kernel has no binfmt_misc here (in a container: run this on the host)"
fi
[ "$(cat "$handlers/status")" = enabled ] || echo 1 > "$handlers/status"

# A handler that is enabled, knows flag F and whose emulator is still there is good as it is.
if [ -e "$handler" ]; then
    registered=$(sed -n 's/^interpreter //p' "$handler")
    if grep -q '^enabled' "$handler" && grep -q '^flags:.*F' "$handler" && [ -x "$registered" ]; then
        echo "$registered"
        exit 0
    fi
    echo -1 > "$handler"
fi

# The first twenty bytes of an ELF file: 64 bit, little endian, executable or shared (the mask
# ignores that bit and the ABI), machine 183.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
# printf of some shells would read the escapes; the kernel wants them as they are.
printf '%s' ":qemu-aarch64:M::$magic:$mask:$emulator:F" > "$handlers/register" \
    || die "the kernel refused the handler for $emulator"
say "arm64 programs run by $("$emulator" --version | head -n 1)"
echo "$emulator"
