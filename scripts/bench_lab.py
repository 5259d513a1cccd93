"""What the parts of the bench share: processes, clocks, a registry, a model, medians."""

import collections
import hashlib
import json
import os
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "target/peers/bin"
# A command that takes longer than this is broken, not slow.
COMMAND_SECONDS = 120


class Trouble(Exception):
    """Something that keeps a part from being measured; says what to do."""


class Run:
    """How a command went: seconds of wall and of CPU (its children's too), and what it said."""

    def __init__(self, wall: float, cpu: float, code: int, out: str, err: str):
        self.wall, self.cpu, self.code, self.out, self.err = wall, cpu, code, out, err


class Lab:
    """A folder, free ports, and processes that end with it."""

    def __init__(self, binaries: Path, work: Path):
        self.bin, self.work = binaries.resolve(), work
        self.processes: list[subprocess.Popen] = []
        # Program -> seconds of CPU that its runs took so far.
        self.spent: collections.Counter = collections.Counter()
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)

    def program(self, name: str) -> str:
        """One of ours, one of target/peers, or one of the system."""
        for place in (self.bin / name, PEERS / name):
            if place.is_file():
                return str(place)
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if not found:
            raise Trouble(f"{name} is missing; run scripts/setup.sh tests")
        return found

    def run(self, *command, env=None, codes=(0,)) -> Run:
        """Runs a command to its end and measures it."""
        command = [str(part) for part in command]
        command[0] = self.program(command[0]) if "/" not in command[0] else command[0]
        out, err = self.work / "out", self.work / "err"
        with open(out, "wb") as o, open(err, "wb") as e:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=o, stderr=e,
                                       env={**os.environ, **(env or {})})
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        done = Run(wall, usage.ru_utime + usage.ru_stime, process.returncode,
                   out.read_text(errors="replace"), err.read_text(errors="replace"))
        self.spent[Path(command[0]).name] += done.cpu
        if done.code not in codes:
            raise Trouble(f"{' '.join(command)}: exit {done.code}\n{done.out}{done.err}")
        return done

    def peak_mb(self, *command, env=None) -> float:
        """Peak resident memory of a command in MB. GNU time starts it, because a process
        inherits the peak of the one that started it, and this one is larger than ours are."""
        done = self.run("time", "-f", "peak=%M", self.program(str(command[0])), *command[1:], env=env)
        return int(done.err.rsplit("peak=", 1)[1]) / 1024

    def start(self, name: str, *command, env=None) -> subprocess.Popen:
        command = [self.program(str(command[0])), *(str(part) for part in command[1:])]
        log = open(self.work / f"{name}.log", "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=log, env={**os.environ, **(env or {})})
        self.processes.append(process)
        return process

    def listening(self, name: str, process: subprocess.Popen):
        """The first line of one of our servers says where it listens."""
        line = process.stdout.readline()
        if not line:
            raise Trouble(f"{name} did not start:\n" + (self.work / f"{name}.log").read_text()[-2000:])
        return json.loads(line)["listening"]

    def end(self, process: subprocess.Popen, hard: bool = False) -> None:
        if process.poll() is None:
            process.kill() if hard else process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def close(self) -> None:
        for process in list(reversed(self.processes)):
            self.end(process)


class Registry:
    """Our embedded registry, seen by a client with its push token."""

    def __init__(self, host: str, token_file: Path):
        self.host, self.token = host, token_file.read_text().strip()

    def request(self, method: str, path: str, data=None, kind=None) -> bytes:
        headers = {"Authorization": "Bearer " + self.token, "Accept": "*/*"}
        if kind:
            headers["Content-Type"] = kind
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Trouble(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None

    def docker_config(self, folder: Path) -> dict:
        """Environment in which crane, cosign and docker are logged in."""
        folder.mkdir(parents=True, exist_ok=True)
        auth = b64encode(f"bench:{self.token}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        return {"DOCKER_CONFIG": str(folder)}

    def put_blob(self, name: str, data: bytes) -> dict:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.request("POST", f"{name}/blobs/uploads/?digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}


class Model:
    """A valid ONNX model of one large dense layer, with new weights for every call of `write`."""

    INPUT, WIDTH = 120 * 160 * 3, 91  # 57600 x 91 float32: 21.0 MB
    CARD = """\
apiVersion: pitlane.dev/v1
kind: ModelCard
name: bench-dense
pilot: linear
input: { shape: [1, 120, 160, 3], layout: NHWC, channels: RGB, scale: 0.00392156862745098 }
outputs:
  - { name: n_outputs0, meaning: steering }
  - { name: n_outputs1, meaning: throttle }
training: { data: "random numbers", script: bench.py, seed: 1 }
license: Apache-2.0
"""

    def __init__(self):
        count = self.INPUT * self.WIDTH
        # Little-endian float32 of about ±0.01: the two upper bytes are drawn from a few, the
        # lower two are random, so it packs as badly as real weights do.
        self.weights = bytearray(4 * count)
        sign = bytes(0x3C if byte < 128 else 0xBC for byte in range(256))
        half = bytes(byte & 0x7F for byte in range(256))
        self.weights[0::4] = os.urandom(count)
        self.weights[1::4] = os.urandom(count)
        self.weights[2::4] = os.urandom(count).translate(half)
        self.weights[3::4] = os.urandom(count).translate(sign)

    def write(self, path: Path) -> int:
        """Writes the model with new weights, and its card beside it; its size in bytes."""
        self.weights[0::4] = os.urandom(len(self.weights) // 4)
        w, tensor = self.WIDTH, self._tensor
        zeros = bytes(4 * w)
        parts = [
            self._node("Flatten", ["x"], ["flat"]),
            self._node("Gemm", ["flat", "w", "b"], ["hidden"]),
            self._node("Relu", ["hidden"], ["active"]),
            self._node("Gemm", ["active", "ws", "bs"], ["n_outputs0"]),
            self._node("Gemm", ["active", "wt", "bt"], ["n_outputs1"]),
            field(2, b"bench"),
            tensor("w", [self.INPUT, w], bytes(self.weights)),
            tensor("b", [w], zeros),
            tensor("ws", [w, 1], zeros), tensor("bs", [1], zeros[:4]),
            tensor("wt", [w, 1], zeros), tensor("bt", [1], zeros[:4]),
            field(11, self._value("x", [1, 120, 160, 3])),
            field(12, self._value("n_outputs0", [1, 1])),
            field(12, self._value("n_outputs1", [1, 1])),
        ]
        model = (number(1, 8) + field(2, b"bench") + field(7, b"".join(parts))
                 + field(8, field(1, b"") + number(2, 13)))
        path.write_bytes(model)
        path.with_suffix(".yaml").write_text(self.CARD)
        return len(model)

    @staticmethod
    def _node(kind: str, inputs: list, outputs: list) -> bytes:
        body = b"".join(field(1, name.encode()) for name in inputs)
        body += b"".join(field(2, name.encode()) for name in outputs)
        return field(1, body + field(3, outputs[0].encode()) + field(4, kind.encode()))

    @staticmethod
    def _tensor(name: str, shape: list, data: bytes) -> bytes:
        dims = b"".join(number(1, size) for size in shape)
        return field(5, dims + number(2, 1) + field(8, name.encode()) + field(9, data))

    @staticmethod
    def _value(name: str, shape: list) -> bytes:
        dims = b"".join(field(1, number(1, size)) for size in shape)
        return field(1, name.encode()) + field(2, field(1, number(1, 1) + field(2, dims)))


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def field(tag: int, data: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(data)) + data


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def secret_file(path: Path, text: str | None = None) -> Path:
    path.touch(0o600)
    path.write_text(text or secrets.token_hex(16))
    return path


def median(values) -> float:
    return statistics.median(values)


def summary(values, unit: float = 1.0) -> dict:
    """Median, least, most, and how many."""
    scaled = [value * unit for value in values]
    return {"median": round(median(scaled), 4), "min": round(min(scaled), 4),
            "max": round(max(scaled), 4), "runs": len(scaled)}


def ratio(ours, theirs) -> float:
    """The median of the ratios of runs that were made right after each other."""
    return round(median([a / b for a, b in zip(ours, theirs, strict=True)]), 4)


def load() -> list:
    return [round(value, 2) for value in os.getloadavg()]


__all__ = ["ROOT", "Lab", "Model", "Registry", "Run", "Trouble", "free_port", "load", "median",
           "ratio", "secret_file", "struct", "summary"]
