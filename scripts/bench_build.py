#!/usr/bin/env python3
"""Measures a pipeline with `build:` against plain `docker build` and `docker push` of the same Dockerfile.

    scripts/dockerd.sh with scripts/bench_build.py [--pairs 5]

Both run on the same daemon without its cache, and push to registries of their own kind that have the base
already: Debian's docker-registry, on loopback. Each pair builds a file that nobody built before; who
goes first alternates. Needs what scripts/peers.sh installs, `make base`, and the programs in
target/release. Prints JSON: seconds of both, the ratio of each pair, and its median.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = "localhost/pitlane-bench-base:amd64"
# Some work and some bytes: 60 MB that do not shrink, and a program that reads them again and again.
DOCKERFILE = f"""\
FROM {BASE}
COPY data /opt/data
RUN dd if=/dev/urandom of=/opt/noise bs=1M count=60
RUN for i in 1 2 3; do dd if=/opt/noise bs=1M | busybox gzip -6 | wc -c; done
COPY mark /opt/mark
RUN cat /opt/mark /opt/data/* | busybox sha256sum > /opt/sum
ENTRYPOINT ["/usr/bin/pitlane-car"]
"""


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def base(work):
    """The root file system of `make base`, with busybox to run steps by."""
    root = work / "root"
    shutil.copytree(ROOT / "target/base/rootfs/amd64", root, symlinks=True)
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy(ROOT / "target/builder/busybox-amd64/bin/busybox", root / "bin/busybox")
    for name in ["sh", "cat", "dd", "wc", "ls", "mkdir", "test"]:
        (root / "bin" / name).symlink_to("busybox")
    tar = work / "root.tar"
    run("tar", "--owner=0", "--group=0", "-cf", tar, "-C", root, ".")
    run("docker", "import", "--change", "ENV PATH=/usr/bin:/bin", tar, BASE)
    tar.unlink()


def registry(work):
    port = free_port()
    (work / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {work}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    log = open(work / "registry.log", "w")
    server = subprocess.Popen(["docker-registry", "serve", work / "registry.yml"], stdout=log, stderr=log)
    for _ in range(200):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"127.0.0.1:{port}"
        time.sleep(0.05)
    raise SystemExit("docker-registry did not start")


class Bench:
    def __init__(self, work, host):
        self.work, self.host, self.number = work, host, 0
        self.repo = work / "car"
        shutil.copytree(ROOT / "examples/donkeycar/models", self.repo / "models")
        context = self.repo / "car"
        (context / "data").mkdir(parents=True)
        for name in range(20):
            (context / "data" / f"{name}").write_bytes(os.urandom(1 << 20))
        (context / "Dockerfile").write_text(DOCKERFILE)
        self.git("init", "--quiet", "-b", "main")
        (work / "password").write_text("correct horse")
        (work / "password").chmod(0o600)
        pitlane = ROOT / "target/release/pitlane"
        run(pitlane, "keys", "generate", "--name", "release", "--out", work, "--password-file", work / "password")
        policy = (ROOT / "policies/donkeycar.yaml").read_text()
        start, end = policy.index("  laps:"), policy.index("  # The model fits")
        policy = policy[:start] + policy[end:]
        (work / "policy.yaml").write_text(policy.replace("  golden: { frames: [black, white, noise], maxTolerance: 0.001 }\n", ""))
        pipeline = {
            "apiVersion": "pitlane.dev/v1", "kind": "Pipeline", "metadata": {"name": "bench"},
            "spec": {
                "carKind": "donkeycar", "platforms": ["linux/amd64"],
                "source": {"repository": "team/donkeycar", "url": str(self.repo)},
                "build": {
                    "context": "car", "bases": [BASE], "engine": {"host": os.environ["DOCKER_HOST"]},
                    "runtime": {"linux/amd64": str(ROOT / "target/release/pitlane-car")},
                },
                "registry": {"repository": f"{host}/team/ours"},
                "sign": {"key": str(work / "release.key"), "passwordFile": str(work / "password"), "expireDays": 30},
                "policy": str(work / "policy.yaml"),
            },
        }
        (work / "pipeline.yaml").write_text(json.dumps(pipeline))

    def git(self, *args):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return run("git", *who, *args, cwd=self.repo)

    def change(self):
        """A file that nobody built before, as a tag."""
        self.number += 1
        (self.repo / "car/mark").write_text(f"{self.number} {time.time()}\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "a")
        self.git("tag", f"v{self.number}")

    def plain(self):
        tag = f"{self.host}/team/plain:v{self.number}"
        began = time.monotonic()
        run("docker", "build", "--no-cache", "--quiet", "--network=none", "--tag", tag, self.repo / "car",
            env={**os.environ, "DOCKER_BUILDKIT": "0"})
        built = time.monotonic()
        run("docker", "push", "--quiet", tag)
        done = time.monotonic()
        run("docker", "rmi", "--force", tag)
        return {"build": built - began, "push": done - built, "both": done - began}

    def ours(self):
        began = time.monotonic()
        out = run(ROOT / "target/release/pitlane", "release", "--pipeline", self.work / "pipeline.yaml", "--tag",
                  f"v{self.number}", "--output", "json", "--work", self.work / "runs", "--cache", self.work / "cache")
        wall = time.monotonic() - began
        stages = {name: ms / 1000 for name, ms in json.loads(out)["stagesMs"].items()}
        both = stages["assemble"] + stages["push"]
        shutil.rmtree(self.work / "runs")
        return {"build": stages["assemble"], "push": stages["push"], "both": both, "whole": wall}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="pitlane-bench-") as folder:
        work = pathlib.Path(folder)
        base(work)
        server, host = registry(work)
        try:
            bench = Bench(work, host)
            bench.change()
            bench.plain(), bench.ours()  # the base is in the registry now, twice
            rows = []
            for number in range(pairs):
                bench.change()
                order = [("plain", bench.plain), ("ours", bench.ours)]
                row = {name: measure() for name, measure in (order if number % 2 else order[::-1])}
                row["ratio"] = row["ours"]["both"] / row["plain"]["both"]
                rows.append(row)
        finally:
            server.terminate()
            server.wait()
            run("docker", "rmi", "--force", BASE)
    median = {
        side: {part: round(statistics.median(row[side][part] for row in rows), 3) for part in rows[0][side]}
        for side in ("plain", "ours")
    }
    ratios = [round(row["ratio"], 3) for row in rows]
    print(json.dumps({"pairs": pairs, "medianSeconds": median, "ratios": ratios,
                      "medianRatio": round(statistics.median(ratios), 3)}, indent=2))


if __name__ == "__main__":
    main()
