"""A queue that drains: CPU of a release when many wait, beside crane and cosign.

A hundred models of 21 MB, all different, are queued at once and released for two platforms, with
every attestation that a release has by default (the peers attest nothing). All CPU of the service
counts: registry, store and API too; of the peers only what the programs crane and cosign take
themselves, not the registry that they push to.
"""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench_lab import Lab, Trouble, load, summary
from bench_release import COMMIT, Releases

RELEASES, PEER_ROUNDS, LIMIT_S = 100, 10, 600
ATTEST = ["provenance", "laps", "sbom", "modelSignature", "model", "golden", "gates"]
TICKS = 100  # USER_HZ of Linux


class Queue:
    def __init__(self, releases: Releases):
        self.releases = releases
        self.token = (releases.work / "state/api-token").read_text().strip()
        self.pid = releases.service.pid

    def ask(self, path: str, body: dict | None = None) -> dict:
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        try:
            with urllib.request.urlopen(urllib.request.Request(self.releases.api + path, data, headers), timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Trouble(f"{path}: {error.code} {error.read()[:500]!r}") from None

    def cpu(self) -> float:
        """Seconds of user and system time so far, with those of processes that ended."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def drain(self, say) -> dict:
        models = self.releases.work / "models"
        models.mkdir()
        files = [models / f"{number}.onnx" for number in range(RELEASES)]
        for file in files:
            self.releases.model.write(file)
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        began, cpu = time.monotonic(), self.cpu()
        for file in files:
            self.ask("/releases", {"pipeline": "bench", "tag": self.releases.tag(), "model": str(file), "commit": COMMIT})
        while True:
            time.sleep(1)
            runs = self.ask("/runs?limit=200")["runs"]
            done = sum(run["state"] == "done" for run in runs) - self.before
            for run in runs:
                if run["state"] not in ("queued", "running", "done"):
                    raise Trouble(f"a run of the queue is {run['state']}: {run.get('error')}")
            if done >= RELEASES:
                break
            if time.monotonic() - began > LIMIT_S:
                raise Trouble(f"{done} of {RELEASES} were released in {LIMIT_S} s")
        wall, cpu = time.monotonic() - began, self.cpu() - cpu
        say(f"drain: {RELEASES} releases in {wall:.1f} s, {cpu / RELEASES:.3f} s of CPU each")
        return {"wall_s": round(wall, 2), "cpu_s_each": round(cpu / RELEASES, 4), "peak_mb": round(self.peak_mb(), 1)}


def drain(lab: Lab, say) -> tuple[dict, dict]:
    releases = Releases(lab)
    releases.prepare(attest=ATTEST)
    releases.verify(releases.by_service())
    queue = Queue(releases)
    queue.before = sum(run["state"] == "done" for run in queue.ask("/runs?limit=200")["runs"])
    spent = []

    def peers(rounds: int) -> None:
        for _ in range(rounds):
            before = lab.spent["crane"] + lab.spent["cosign"]
            releases.by_crane()
            spent.append(lab.spent["crane"] + lab.spent["cosign"] - before)
            say(f"drain: crane and cosign {spent[-1]:.3f} s of CPU")

    peers(PEER_ROUNDS // 2)
    ours = queue.drain(say)
    peers(PEER_ROUNDS - PEER_ROUNDS // 2)
    theirs = summary(spent)
    result = {"cpu_vs_crane": round(ours["cpu_s_each"] / theirs["median"], 4), "service_rss_mb": ours["peak_mb"]}
    return result, {"service": ours, "crane_cosign_cpu_s": theirs, "load": load()}
