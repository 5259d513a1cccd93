#!/bin/sh
# Fetches the programs that the tests talk to: real clients and servers of the registry protocol.
#
#   scripts/peers.sh            the ordinary packages of this Debian release (when missing), and
#                               crane, two editions of cosign, oras, kubectl, a newer skopeo
#                               (skopeo18) and Python environments into target/peers
#   scripts/peers.sh --check    says what is there, and installs nothing (exit 1 when one is missing)
#
# crane, cosign, oras and kubectl are not in Debian 12, or too old there. They come from newer suites of the
# same archive that this machine uses, through a private apt root: the system's own sources, pins
# and package lists stay as they are. Their packages are only unpacked, never installed, so no
# maintainer script runs. skopeo18 runs with the C library of its own suite, from target/peers/trixie:
# the skopeo of Debian 12 is built without Sigstore. The Python client lies in a virtual environment.
# To undo: remove target/peers. Safe to run again; a second run costs nothing.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
peers="$here/target/peers"
bin="$peers/bin"
apt="$peers/apt"

# The programs of this release that the tests call, as "program:package".
ordinary='docker:docker.io dockerd:docker.io docker-registry:docker-registry runc:runc crun:crun skopeo:skopeo podman:podman jq:jq curl:curl softhsm2-util:softhsm2 pkcs11-tool:opensc openssl:openssl sshd:openssh-server debootstrap:debootstrap git-lfs:git-lfs mosquitto:mosquitto mosquitto_sub:mosquitto-clients /usr/lib/postgresql/15/bin/initdb:postgresql-15'
# What is fetched from newer suites, as "program:package:suites, the first that has it wins".
newer='crane:crane:sid,forky cosign:cosign:sid,forky cosign2:cosign:trixie oras:oras:trixie,forky,sid kubectl:kubectl:trixie,forky,sid'
# skopeo 1.18, and the packages whose libraries it is linked to, all of trixie.
skopeo18='skopeo libc6 libgpgme11t64 libassuan9 libgpg-error0 libsqlite3-0'
suites='trixie forky sid'
# A package list or package that does not arrive in this time is an error, not a hang.
net_timeout=60

say() { printf 'peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

check() {
    missing=0
    for pair in $ordinary; do
        have "${pair%%:*}" || { say "missing: ${pair%%:*} (package ${pair#*:})"; missing=1; }
    done
    for triple in $newer; do
        program=${triple%%:*}
        if [ -x "$bin/$program" ]; then say "have $program: $(cat "$bin/$program.version" 2>/dev/null || echo unknown)"
        else say "missing: $program (run scripts/peers.sh)"; missing=1; fi
    done
    if [ -x "$bin/skopeo18" ]; then say "have skopeo18: $(cat "$bin/skopeo18.version")"
    else say 'missing: skopeo18 (run scripts/peers.sh)'; missing=1; fi
    if cmp -s "$sigstore_pins" "$sigstore_venv/requirements.txt"; then say 'have the Python Sigstore client'
    else say 'missing: the Python Sigstore client (run scripts/peers.sh)'; missing=1; fi
    "$here/scripts/peers-python.sh" --check || missing=1
    return "$missing"
}

# Ordinary packages of this release, by the system's own apt.
install_ordinary() {
    wanted=''
    for pair in $ordinary; do
        have "${pair%%:*}" && continue
        case " $wanted " in *" ${pair#*:} "*) ;; *) wanted="$wanted ${pair#*:}" ;; esac
    done
    [ -n "$wanted" ] || { say 'ordinary packages: all there'; return 0; }
    say "installing:$wanted"
    # Services that packages start by themselves are not wanted: tests start their own.
    policy=/usr/sbin/policy-rc.d
    made_policy=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        made_policy=yes
    fi
    status=0
    as_root apt-get -qq update || status=$?
    # shellcheck disable=SC2086
    [ "$status" != 0 ] || DEBIAN_FRONTEND=noninteractive as_root apt-get -qq -y --no-install-recommends install $wanted >&2 || status=$?
    [ "$made_policy" = no ] || as_root rm -f "$policy"
    [ "$status" = 0 ] || die "apt-get could not install$wanted (exit $status); install them by hand and run this again"
}

# The addresses from which this machine gets its own release: stanzas (or lines) that name the
# code name itself as a suite; its -security and -updates suites live elsewhere on some mirrors.
archive_uris() {
    codename=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        awk -v want="$codename" '
            function flush(   i, n, s) {
                n = split(suites, s, /[ \t]+/)
                for (i = 1; i <= n; i++) if (s[i] == want) { print uris; break }
                uris = ""; suites = ""
            }
            /^[ \t]*$/ { flush(); next }
            /^#/ { next }
            { key = tolower($1); line = $0; sub(/^[^:]*:[ \t]*/, "", line) }
            key == "uris:" { uris = line }
            key == "suites:" { suites = line }
            END { flush() }' "$file"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        awk -v want="$codename" '$1 == "deb" {
            i = 2; if ($2 ~ /^\[/) { while ($i !~ /\]$/ && i < NF) i++; i++ }
            if ($(i + 1) == want) print $i }' "$file"
    done
}

private_apt() {
    apt_program=$1; shift
    "$apt_program" -q -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/state/status" \
        -o "Dir::Cache=$apt/cache" -o "Dir::Etc::sourcelist=$apt/newer.sources" \
        -o Dir::Etc::sourceparts=- -o "Dir::Etc::preferences=$apt/preferences" \
        -o Dir::Etc::preferencesparts=- -o APT::Sandbox::User=root \
        -o "APT::Architecture=$(dpkg --print-architecture)" -o Acquire::Languages=none \
        -o "Acquire::http::Timeout=$net_timeout" -o Acquire::Retries=3 "$@"
}

prepare_apt() {
    uris=$(archive_uris | tr ' ' '\n' | sed '/^$/d' | head -n 1)
    [ -n "$uris" ] || die 'found no archive for this release in /etc/apt: add the ordinary Debian sources first'
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/state/status"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] || die "$keyring is missing: install debian-archive-keyring"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$uris" "$suites" "$keyring" >"$apt/newer.sources"
    : >"$apt/preferences"
    for suite in $suites; do
        # Never by itself: each package below names its suite.
        printf 'Package: *\nPin: release n=%s\nPin-Priority: 50\n\n' "$suite" >>"$apt/preferences"
    done
    say 'reading package lists of newer suites (private, about 100 MB)'
    private_apt apt-get update >"$apt/update.log" 2>&1 || { cat "$apt/update.log" >&2; die 'could not read the package lists'; }
}

fetch_newer() {
    mkdir -p "$bin"
    ready=no
    for triple in $newer; do
        program=${triple%%:*}; rest=${triple#*:}; package=${rest%%:*}; from=${rest#*:}
        [ -x "$bin/$program" ] && { say "$program: there"; continue; }
        [ "$ready" = yes ] || { prepare_apt; ready=yes; }
        work="$peers/unpack-$program"
        rm -rf "$work"; mkdir -p "$work"
        for suite in $(printf %s "$from" | tr ',' ' '); do
            say "$program: $package from $suite"
            if (cd "$work" && private_apt apt-get download "$package/$suite") >"$apt/$program.log" 2>&1; then break; fi
        done
        deb=$(find "$work" -name '*.deb' | head -n 1)
        [ -n "$deb" ] || { cat "$apt/$program.log" >&2; die "no suite of ($from) gave $package"; }
        dpkg-deb -x "$deb" "$work/root"
        # An older edition beside a newer one has a name of its own here, and the package's there.
        found=$(find "$work/root" -type f \( -path "*/bin/$program" -o -path "*/bin/$package" \) | head -n 1)
        [ -n "$found" ] || die "$(basename "$deb") holds no bin/$program"
        "$found" version >/dev/null 2>&1 || "$found" --help >/dev/null 2>&1 \
            || die "$program of $(basename "$deb") does not run here"
        dpkg-deb -f "$deb" Version >"$bin/$program.version"
        mv "$found" "$bin/$program"
        rm -rf "$work"
    done
    fetch_skopeo18
    # The lists are large and of no further use.
    rm -rf "$apt/state/lists" "$apt/cache"
}

# skopeo of trixie with its libraries in a root of their own, and a program that starts it there.
fetch_skopeo18() {
    [ -x "$bin/skopeo18" ] && { say 'skopeo18: there'; return 0; }
    [ "$ready" = yes ] || { prepare_apt; ready=yes; }
    root="$peers/trixie"
    work="$peers/unpack-skopeo18"
    rm -rf "$root" "$work"; mkdir -p "$root" "$work"
    say "skopeo18: skopeo and its libraries from trixie"
    wanted=''
    for package in $skopeo18; do wanted="$wanted $package/trixie"; done
    # shellcheck disable=SC2086
    (cd "$work" && private_apt apt-get download $wanted) >"$apt/skopeo18.log" 2>&1 \
        || { cat "$apt/skopeo18.log" >&2; die 'trixie did not give skopeo and its libraries'; }
    for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$root"; done
    loader=$(find "$root/usr" -name 'ld-linux*.so.*' | head -n 1)
    [ -n "$loader" ] || die "trixie's libc6 brought no ld-linux"
    libraries=$(dirname "$(find "$root/usr" -name libc.so.6 | head -n 1)")
    printf '#!/bin/sh\n# skopeo of trixie with its own libraries; scripts/peers.sh made this.\nexec "%s" --library-path "%s" "%s" "$@"\n' \
        "$loader" "$libraries" "$root/usr/bin/skopeo" >"$work/skopeo18"
    chmod 755 "$work/skopeo18"
    "$work/skopeo18" --version >/dev/null || die 'skopeo of trixie does not run with its libraries: skopeo18= in this script lacks one'
    dpkg-deb -f "$work"/skopeo_*.deb Version >"$bin/skopeo18.version"
    mv "$work/skopeo18" "$bin/skopeo18"
    rm -rf "$work"
}

# The Python Sigstore client, pinned by hash, made anew when the pins change.
sigstore_pins="$here/tests/peers/sigstore-requirements.txt"
sigstore_venv="$peers/venv-sigstore"
install_sigstore() {
    cmp -s "$sigstore_pins" "$sigstore_venv/requirements.txt" && { say 'Python Sigstore client: there'; return 0; }
    say 'Python Sigstore client: into a virtual environment'
    python3 -m venv --clear "$sigstore_venv" || die 'python3 cannot make a virtual environment: install python3-venv'
    "$sigstore_venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r "$sigstore_pins" >&2 || die 'the Python Sigstore client could not be installed'
    cp "$sigstore_pins" "$sigstore_venv/requirements.txt"
}

case "${1-}" in
    --check) check ;;
    '') install_ordinary; fetch_newer; install_sigstore; "$here/scripts/peers-python.sh"; check ;;
    *) die 'usage: scripts/peers.sh [--check]' ;;
esac
