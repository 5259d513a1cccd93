"""A model-only release: ours beside crane and docker, from one file on disk to three signatures.

Base (60 MB a platform) and runtime (8 MB) are in the registry already; a new 21 MB model goes
out for two platforms. Every side signs the index and both platform manifests with the same key,
and attests nothing else. All use the same registry: the service's own, on loopback.
"""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from bench_lab import ROOT, Lab, Model, Registry, Trouble, free_port, load, median, ratio, secret_file, summary

REPO = "team/bench"
# Of its own, because a service and a one-shot command that share one would race for counters.
# Blobs are shared by all repositories of the registry, so base and runtime are there as well.
ONESHOT_REPO = "team/oneshot"
ROUNDS, DOCKER_ROUNDS, BUDGET_S = 9, 3, 150
PLATFORMS = ("amd64", "arm64")
COMMIT = "1f0c" * 10
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SIGN = ("--yes", "--recursive", "--use-signing-config=false", "--tlog-upload=false",
        "--allow-http-registry")


class Releases:
    def __init__(self, lab: Lab):
        self.lab, self.work = lab, lab.work / "release"
        self.work.mkdir()
        self.model, self.number = Model(), 0
        self.file = self.work / "pilot.onnx"

    def prepare(self, attest: list | None = None, peers: bool = True) -> None:
        """Keys, base layout, pipeline, service; then one release, after which base and runtime
        are in the registry for everybody, peers included."""
        work, lab, self.attest = self.work, self.lab, attest or []
        password = secret_file(work / "password")
        lab.run("pitlane", "keys", "generate", "--out", work, "--password-file", password)
        roots = []
        for platform in PLATFORMS:
            root = work / "rootfs" / platform / "usr/lib"
            root.mkdir(parents=True)
            (root / "base.so").write_bytes(os.urandom(60_000_000))
            (work / f"car-{platform}").write_bytes(os.urandom(8_000_000))
            roots += ["--rootfs", f"linux/{platform}={work}/rootfs/{platform}"]
        lab.run("pitlane", "base", *roots, "--out", work / "layout")
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.pipeline = work / "bench.yaml"
        self.pipeline.write_text(json.dumps(self.pipeline_file(self.host)))
        service = work / "service.yaml"
        service.write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": str(work / "state"),
            "pipelines": [str(self.pipeline)], "localModels": True,
            "listen": {"webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": self.host},
        }))
        self.service = lab.start("service", "pitlane", "--log", "warn", "serve", "--config", service)
        self.api = lab.listening("service", self.service)["api"]
        token = work / "state/registry-token"
        self.registry = Registry(self.host, token)
        self.env = self.registry.docker_config(work / "docker") | {
            "COSIGN_PASSWORD": password.read_text()}
        # For the one-shot command, which is not told the token by a service.
        self.one_pipeline = work / "oneshot.yaml"
        self.one_pipeline.write_text(json.dumps(self.pipeline_file(self.host, token)))
        first = self.by_service()
        if peers:
            self.peer_bases(json.loads(first.out)["image"].split("@")[1])

    def pipeline_file(self, host: str, token: Path | None = None) -> dict:
        work = self.work
        # A service knows the token of its own registry; the one-shot command is told.
        registry = {"repository": f"{host}/{REPO}"}
        if token:
            registry = {"repository": f"{host}/{ONESHOT_REPO}", "passwordFile": str(token)}
        return {
            "apiVersion": "pitlane.dev/v1", "kind": "Pipeline", "metadata": {"name": "bench"},
            "spec": {
                "carKind": "bench",
                "source": {"repository": "team/bench", "url": "/nonexistent"},
                "base": {"layout": str(work / "layout")},
                "runtime": {f"linux/{p}": str(work / f"car-{p}") for p in PLATFORMS},
                "registry": registry,
                "sign": {"key": str(work / "release.key"), "passwordFile": str(work / "password"),
                         "attest": self.attest},
                "policy": str(ROOT / "policies/signed.yaml"),
            },
        }

    def peer_bases(self, index: str) -> None:
        """Images of base and runtime alone, for others to add a model to: the first release
        without its last layer."""
        get = lambda path: json.loads(self.registry.request("GET", f"{REPO}/{path}"))
        for child in get(f"manifests/{index}")["manifests"]:
            platform = child["platform"]["architecture"]
            manifest = get(f"manifests/{child['digest']}")
            config = get(f"blobs/{manifest['config']['digest']}")
            config["rootfs"]["diff_ids"].pop()
            config["history"] = []
            manifest["layers"].pop()
            put = self.registry.put_blob(REPO, json.dumps(config).encode())
            manifest["config"] |= put
            self.registry.request("PUT", f"{REPO}/manifests/base-{platform}",
                                  json.dumps(manifest).encode(), MANIFEST)

    # --- one release each ----------------------------------------------------------------------

    def tag(self) -> str:
        self.number += 1
        return f"v{self.number}"

    def by_service(self):
        self.model.write(self.file)
        return self.lab.run(
            "pitlane", "--log", "warn", "release", "--service", self.api, "--token-file",
            self.work / "state/api-token", "--pipeline", "bench", "--tag", self.tag(),
            "--model", self.file, "--commit", COMMIT, "--output", "json")

    def by_oneshot(self, pipeline: Path | None = None):
        self.model.write(self.file)
        return self.lab.run(
            "pitlane", "--log", "warn", "release", "--pipeline", pipeline or self.one_pipeline,
            "--tag", self.tag(), "--model", self.file, "--commit", COMMIT,
            "--cache", self.work / "cache", "--output", "json")

    def by_crane(self) -> float:
        self.model.write(self.file)
        image, tag = f"{self.host}/{REPO}", self.tag()
        began = time.perf_counter()
        layer = self.work / "layer.tar"
        self.lab.run("tar", "-C", self.work, "--transform", "s,^,models/,", "-cf", layer,
                     "pilot.onnx", "pilot.yaml")
        for p in PLATFORMS:
            self.lab.run("crane", "append", "-b", f"{image}:base-{p}", "-f", layer,
                         "-t", f"{image}:{tag}-{p}", env=self.env)
        self.index_and_sign(image, tag)
        return time.perf_counter() - began

    def index_and_sign(self, image: str, tag: str) -> None:
        parts = [part for p in PLATFORMS for part in ("-m", f"{image}:{tag}-{p}")]
        made = self.lab.run("crane", "index", "append", *parts, "-t", f"{image}:{tag}", env=self.env)
        digest = made.out.strip().rsplit("@", 1)[-1]
        if not digest.startswith("sha256:"):
            digest = self.lab.run("crane", "digest", f"{image}:{tag}", env=self.env).out.strip()
        self.lab.run("cosign", "sign", "--key", self.work / "release.key", *SIGN,
                     f"{image}@{digest}", env=self.env)

    def by_docker(self, docker_host: str) -> float:
        self.model.write(self.file)
        image, tag = f"{self.host}/{REPO}", self.tag()
        env = self.env | {"DOCKER_HOST": docker_host, "DOCKER_BUILDKIT": "0"}
        context = self.work / "context"
        context.mkdir(exist_ok=True)
        for name in ("pilot.onnx", "pilot.yaml"):
            (context / name).unlink(missing_ok=True)
            os.link(self.work / name, context / name)
        began = time.perf_counter()
        for p in PLATFORMS:
            (context / "Dockerfile").write_text(
                f"FROM {image}:base-{p}\nCOPY pilot.onnx pilot.yaml /models/\n")
            self.lab.run("docker", "build", "-q", "--platform", f"linux/{p}", "-t",
                         f"{image}:{tag}-{p}", context, env=env)
            self.lab.run("docker", "push", "-q", f"{image}:{tag}-{p}", env=env)
        self.index_and_sign(image, tag)
        return time.perf_counter() - began

    # --- measuring -----------------------------------------------------------------------------

    def verify(self, done) -> None:
        """What we released is what cosign accepts, on all three manifests."""
        image = json.loads(done.out)["image"]
        name, index = image.split("@")
        path = f"{name.split('/', 1)[1]}/manifests/{index}"
        children = json.loads(self.registry.request("GET", path))["manifests"]
        for digest in [index, *(child["digest"] for child in children)]:
            self.lab.run("cosign", "verify", "--key", self.work / "release.pub",
                         "--insecure-ignore-tlog=true", "--allow-http-registry",
                         f"{name}@{digest}", env=self.env)
        if len(children) != len(PLATFORMS):
            raise Trouble(f"{image} has {len(children)} platforms")

    def service_peak_mb(self) -> float:
        """Peak memory of the service (webhook, registry and executor) during one release."""
        pid = self.service.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.by_service()
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def bytes_over_model(self) -> int:
        """Bytes that a release sends, requests and headers included, beyond the model file."""
        with Counter(self.port) as counter:
            host = f"127.0.0.1:{counter.port}"
            pipeline = self.work / "counted.yaml"
            pipeline.write_text(json.dumps(self.pipeline_file(host, self.work / "state/registry-token")))
            self.by_oneshot(pipeline)
            return counter.sent - self.file.stat().st_size

    def measure(self, say) -> tuple[dict, dict]:
        self.prepare()
        self.verify(self.by_service())
        self.verify(self.by_oneshot())
        self.by_crane()
        times = {"service": [], "oneshot": [], "crane": []}
        stages = []
        end = time.monotonic() + BUDGET_S
        for _ in range(ROUNDS):
            service, oneshot = self.by_service(), self.by_oneshot()
            stages.append(json.loads(service.out)["stagesMs"])
            times["service"].append(service.wall)
            times["oneshot"].append(oneshot.wall)
            times["crane"].append(self.by_crane())
            say(f"release: service {service.wall:.3f} s, one-shot {oneshot.wall:.3f} s, "
                f"crane {times['crane'][-1]:.3f} s")
            if time.monotonic() > end:
                break
        docker, paired = self.docker_rounds(say)
        result = {
            "service_vs_crane": ratio(times["service"], times["crane"]),
            "oneshot_vs_crane": ratio(times["oneshot"], times["crane"]),
            "service_vs_docker": ratio(paired, docker),
            "bytes_over_model": self.bytes_over_model(),
            "service_rss_mb": round(max(self.service_peak_mb() for _ in range(3)), 1),
        }
        details = {name: summary(values) for name, values in times.items()} | {
            "docker": summary(docker), "service_beside_docker": summary(paired),
            "service_stages_ms": {name: median([s[name] for s in stages]) for name in stages[0]},
            "oneshot_peak_mb": None, "load": load(),
        }
        return result, details

    def docker_rounds(self, say) -> tuple[list, list]:
        # Into a file: the daemon keeps what it inherits, and a pipe would never end.
        told = self.work / "dockerd.out"
        with open(told, "w") as out:
            made = subprocess.run([ROOT / "scripts/dockerd.sh", "start"], stdin=subprocess.DEVNULL,
                                  stdout=out, stderr=out, timeout=120)
        if made.returncode:
            raise Trouble(told.read_text())
        docker_host = told.read_text().strip().split("=", 1)[1]
        try:
            self.by_docker(docker_host)  # pulls the bases
            docker, ours = [], []
            for _ in range(DOCKER_ROUNDS):
                ours.append(self.by_service().wall)
                docker.append(self.by_docker(docker_host))
                say(f"release: service {ours[-1]:.3f} s, docker {docker[-1]:.3f} s")
            return docker, ours
        finally:
            subprocess.run([ROOT / "scripts/dockerd.sh", "stop"], check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, timeout=120)


class Counter:
    """A TCP forwarder to the registry that counts what the client sends."""

    def __init__(self, port: int):
        self.target, self.sent = port, 0
        self.lock = threading.Lock()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.forward, args=pair, daemon=True).start()

    def forward(self, source, sink, counts: bool) -> None:
        try:
            while data := source.recv(1 << 18):
                if counts:
                    with self.lock:
                        self.sent += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
