"""A pipeline with `build:` beside plain `docker build` and `docker push` of the same Dockerfile.

Both run on the same daemon without its cache, and push to a registry that has the base already: Debian's
docker-registry, on loopback. Each pair builds a file that nobody built before; who goes first alternates. The steps
`assemble` and `push` of ours are compared; model, check and signature come on top for both.
"""

import json
import os
import shutil
import socket
import subprocess
import time

from bench_lab import ROOT, Lab, Trouble, free_port, load, ratio, summary

PAIRS = 5
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
        raise Trouble(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return done.stdout


def base(lab: Lab):
    """The root file system of `make base`, with busybox to run steps by."""
    root = lab.work / "root"
    shutil.copytree(ROOT / "target/base/rootfs/amd64", root, symlinks=True)
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy(ROOT / "target/builder/busybox-amd64/bin/busybox", root / "bin/busybox")
    for name in ["sh", "cat", "dd", "wc", "ls", "mkdir", "test"]:
        (root / "bin" / name).symlink_to("busybox")
    tar = lab.work / "root.tar"
    run("tar", "--owner=0", "--group=0", "-cf", tar, "-C", root, ".")
    run("docker", "import", "--change", "ENV PATH=/usr/bin:/bin", tar, BASE)
    tar.unlink()


def registry(lab: Lab) -> str:
    port, file = free_port(), lab.work / "registry.yml"
    file.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {lab.work}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    lab.start("docker-registry", "docker-registry", "serve", file)
    for _ in range(200):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return f"127.0.0.1:{port}"
        time.sleep(0.05)
    raise Trouble("docker-registry did not start")


class Bench:
    def __init__(self, lab: Lab, host: str):
        work = lab.work
        self.work, self.bin, self.host, self.number = work, lab.bin, host, 0
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
        run(self.bin / "pitlane", "keys", "generate", "--name", "release", "--out", work, "--password-file", work / "password")
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
                    "runtime": {"linux/amd64": str(self.bin / "pitlane-car")},
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
        out = run(self.bin / "pitlane", "release", "--pipeline", self.work / "pipeline.yaml", "--tag",
                  f"v{self.number}", "--output", "json", "--work", self.work / "runs", "--cache", self.work / "cache")
        wall = time.monotonic() - began
        stages = {name: ms / 1000 for name, ms in json.loads(out)["stagesMs"].items()}
        both = stages["assemble"] + stages["push"]
        shutil.rmtree(self.work / "runs")
        return {"build": stages["assemble"], "push": stages["push"], "both": both, "whole": wall}


def build(lab, say):
    docker = subprocess.run([ROOT / "scripts/dockerd.sh", "start"], stdin=subprocess.DEVNULL, stdout=open(lab.work / "dockerd", "w"),
                            stderr=subprocess.STDOUT, timeout=120)
    told = (lab.work / "dockerd").read_text()
    if docker.returncode:
        raise Trouble(told)
    os.environ["DOCKER_HOST"] = told.strip().split("=", 1)[1]
    try:
        return measure(lab, say)
    finally:
        subprocess.run([ROOT / "scripts/dockerd.sh", "stop"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120)
        del os.environ["DOCKER_HOST"]


def measure(lab, say):
    base(lab)
    try:
        bench = Bench(lab, registry(lab))
        bench.change()
        bench.plain(), bench.ours()  # the base is in the registry now, twice
        rows = []
        for number in range(PAIRS):
            bench.change()
            order = [("plain", bench.plain), ("ours", bench.ours)]
            rows.append({name: take() for name, take in (order if number % 2 else order[::-1])})
            say(f"build: ours {rows[-1]['ours']['both']:.2f} s, docker build and push {rows[-1]['plain']['both']:.2f} s")
    finally:
        run("docker", "rmi", "--force", BASE)
    of = lambda side, part: [row[side][part] for row in rows]
    details = {side: {part: summary(of(side, part)) for part in rows[0][side]} for side in ("plain", "ours")}
    return {"vs_docker": ratio(of("ours", "both"), of("plain", "both"))}, details | {"load": load()}
