#!/usr/bin/env python3
"""Takes a git tag through the whole lane until a container drives a lap, then attacks the car.

Everything runs on this machine, on free ports, below target/demo; everything it starts is stopped
at the end (unless --keep). Writes target/demo/report.json. Needs root, for the container runtime.

  scripts/demo.py --bin target/release            the demo
  scripts/demo.py --bin target/release --keep     leave it running and print the addresses
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "demo"
# Longest waits, in seconds; a loaded machine is slow, a broken one should still end.
RUN_TIMEOUT, CONFIRM_TIMEOUT, DECISION_TIMEOUT, LAP_TIMEOUT = 600, 180, 90, 300

sys.path.insert(0, str(Path(__file__).resolve().parent))
from demo_registry import Registry  # noqa: E402
from demo_attacks import ATTACKS  # noqa: E402


class Failed(Exception):
    """The demo did not come out as it must."""


class Demo:
    def __init__(self, binaries: Path, keep: bool):
        self.root = ROOT
        self.bin = binaries.resolve()
        self.keep = keep
        self.work = WORK / "work"
        self.processes: list[tuple[str, subprocess.Popen]] = []
        self.began = time.monotonic()
        self.report: dict = {"refused": []}

    # --- talking ---------------------------------------------------------------------------

    def say(self, text: str, mark: str = " ") -> None:
        print(f"{time.monotonic() - self.began:7.1f} s {mark} {text}", flush=True)

    def run(self, *command, cwd=None, env=None, stdin=None, quiet=False) -> str:
        """Runs a command to its end; its stdout. What it says on stderr is shown on failure."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd, env={**os.environ, **(env or {})}, input=stdin,
            text=True, capture_output=True, timeout=RUN_TIMEOUT,
        )
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
        if not quiet:
            for line in done.stderr.splitlines():
                if line.startswith("remote: "):
                    self.say(line)
        return done.stdout

    def start(self, name: str, *command) -> subprocess.Popen:
        log = open(WORK / f"{name}.log", "ab")
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )
        self.processes.append((name, process))
        (WORK / "pids").open("a").write(f"{process.pid} {process_start(process.pid)}\n")
        return process

    def listening(self, name: str, process: subprocess.Popen) -> dict:
        """The first line of a server: where it listens."""
        line = process.stdout.readline()
        if not line:
            tail = (WORK / f"{name}.log").read_text(errors="replace")[-2000:]
            raise Failed(f"{name} did not start:\n{tail}")
        return json.loads(line)["listening"]

    # --- setting up ------------------------------------------------------------------------

    def prepare(self) -> None:
        stop_leftovers()
        shutil.rmtree(WORK, ignore_errors=True)
        for folder in ("state/keys", "state/git/team", "car", "sim", "config"):
            (self.work / folder).mkdir(parents=True)
        os.chmod(self.work / "sim", 0o755)
        self.password = self.work / "state/keys/password"
        self.password.touch(0o600)
        self.password.write_text(secrets.token_hex(16))
        self.pitlane("keys", "generate", "--out", self.work / "state/keys",
                     "--password-file", self.password)
        self.key = self.work / "state/keys/release.key"
        self.push_token = self.work / "state/registry-token"
        self.ports = {name: free_port() for name in ("webhook", "api", "registry")}
        self.registry = Registry(self.ports["registry"], self.push_token)
        self.write_config()
        self.make_repositories()

    def pitlane(self, *arguments, env=None) -> str:
        return self.run(self.bin / "pitlane", "--log", "warn", *arguments, env=env, quiet=True)

    def write_config(self) -> None:
        """The files of the repository, with this run's places and ports."""
        text = (ROOT / "pipelines/donkeycar.yaml").read_text()
        state = self.work / "state"
        for old, new in {
            "../pitlane-state": str(state),
            "../target/base/layout": str(ROOT / "target/base/layout"),
            "../target/release/pitlane-car": str(self.bin / "pitlane-car"),
            "../target/arm64/pitlane-car": str(ROOT / "target/arm64/pitlane-car"),
            "../policies": str(ROOT / "policies"),
            "127.0.0.1:5000": f"127.0.0.1:{self.ports['registry']}",
        }.items():
            text = text.replace(old, new)
        self.pipeline = self.work / "config/donkeycar.yaml"
        self.pipeline.write_text(text)
        listen = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.service = self.work / "config/service.yaml"
        self.service.write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": str(state),
            "pipelines": [str(self.pipeline)], "listen": listen,
        }, indent=2))
        self.car_state = self.work / "car"
        self.car = self.work / "config/car.yaml"
        self.car.write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Car",
            "state": str(self.car_state), "run": str(self.work / "run"),
            "gitops": {"url": str(state / "git/team/gitops.git"), "image": "donkeycar",
                       "file": "car/kustomization.yaml", "intervalSeconds": 1},
            "policy": str(ROOT / "policies/donkeycar.yaml"),
            "keys": {"release": str(self.work / "state/keys/release.pub")},
            "healthySeconds": 3, "startSeconds": 60,
            "profile": {
                "args": ["--sim", "unix:/run/twin/twin.sock", "--reconnect-seconds", "60"],
                "binds": [{"source": str(self.work / "sim"), "target": "/run/twin"}],
            },
        }, indent=2))

    def make_repositories(self) -> None:
        git = self.work / "state/git/team"
        for name, source in (("donkeycar", "examples/donkeycar"), ("gitops", "examples/gitops")):
            self.git("init", "--quiet", "--bare", "-b", "main", git / f"{name}.git")
            tree = self.work / f"{name}-tree"
            shutil.copytree(ROOT / source, tree,
                            ignore=shutil.ignore_patterns("__pycache__", ".venv", "*.npz"))
            if name == "gitops":
                file = tree / "car/kustomization.yaml"
                text = file.read_text()
                file.write_text(text.replace("127.0.0.1:5000", f"127.0.0.1:{self.ports['registry']}"))
            self.git("init", "--quiet", "-b", "main", cwd=tree)
            self.git("add", ".", cwd=tree)
            self.git("commit", "--quiet", "-m", "Start", cwd=tree)
            self.git("push", "--quiet", git / f"{name}.git", "main", cwd=tree)
        self.car_git, self.gitops_git = git / "donkeycar.git", git / "gitops.git"
        self.car_tree, self.gitops_tree = self.work / "donkeycar-tree", self.work / "gitops-tree"

    def git(self, *arguments, cwd=None) -> str:
        who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            who |= {f"GIT_{role}_NAME": "A Racer", f"GIT_{role}_EMAIL": "racer@example.org"}
        return self.run("git", *arguments, cwd=cwd, env=who)

    def twin(self, *extra) -> subprocess.Popen:
        """The world the running car drives in, in real time, on a socket."""
        sock = self.work / "sim/twin.sock"
        sock.unlink(missing_ok=True)
        process = self.start("twin", self.bin / "pitlane-twin", "--listen", f"unix:{sock}",
                             "--track", "generated_track", "--connect-timeout", "600", *extra)
        self.listening("twin", process)
        os.chmod(sock, 0o666)
        return process

    # --- looking ---------------------------------------------------------------------------

    def api(self, path: str):
        url = f"http://127.0.0.1:{self.ports['api']}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def status(self) -> dict:
        try:
            return json.loads((self.car_state / "status.json").read_text())
        except FileNotFoundError:
            return {"driving": None, "decisions": [], "floor": 0}

    def wait_run(self, tag: str) -> dict:
        """Follows the run of a tag to its end, telling each step as it finishes."""
        told: set[str] = set()
        end = time.monotonic() + RUN_TIMEOUT
        while time.monotonic() < end:
            runs = [run for run in self.api(f"/runs?tag={tag}")["runs"] if run["tag"] == tag]
            if runs:
                run = runs[0]
                steps = self.api(f"/runs/{run['id']}/steps")["steps"]
                for step in steps:
                    if step.get("finished") and step["step"] not in told:
                        told.add(step["step"])
                        ms = step["finished"] - step["started"]
                        self.say(f"{step['step']:<10} {ms:6} ms", "✓")
                if run["state"] in ("done", "failed"):
                    if run["state"] != "done":
                        raise Failed(f"run of {tag}: {json.dumps(steps[-1], indent=1)}")
                    return {"run": run, "steps": steps}
            time.sleep(0.1)
        raise Failed(f"the run of {tag} did not end")

    def wait_confirmed(self, counter: int) -> dict:
        end = time.monotonic() + CONFIRM_TIMEOUT
        while time.monotonic() < end:
            driving = self.status()["driving"]
            if driving and driving["counter"] == counter and driving["confirmed"]:
                return driving
            time.sleep(0.1)
        log = (WORK / "agent.log").read_text(errors="replace")[-3000:]
        raise Failed(f"release {counter} was not confirmed by driving:\n{log}")

    def wish(self, digest: str, why: str) -> str:
        """A commit in the GitOps repository that wants this image."""
        file = self.gitops_tree / "car/kustomization.yaml"
        self.git("pull", "--quiet", "--ff-only", self.gitops_git, "main", cwd=self.gitops_tree)
        lines = file.read_text().splitlines(keepends=True)
        lines = [f"    digest: {digest}\n" if "digest: " in line else line for line in lines]
        file.write_text("".join(lines))
        self.git("commit", "--quiet", "-a", "-m", why, cwd=self.gitops_tree)
        self.git("push", "--quiet", self.gitops_git, "main", cwd=self.gitops_tree)
        return self.git("rev-parse", "HEAD", cwd=self.gitops_tree).strip()

    def decision(self, commit: str) -> dict:
        end = time.monotonic() + DECISION_TIMEOUT
        while time.monotonic() < end:
            for decision in self.status()["decisions"]:
                if decision["commit"] == commit and decision["outcome"] != "error":
                    return decision
            time.sleep(0.1)
        log = (WORK / "agent.log").read_text(errors="replace")[-3000:]
        raise Failed(f"the car did not decide about {commit}:\n{log}")

    # --- the story -------------------------------------------------------------------------

    def push_tag(self, tag: str) -> None:
        self.git("tag", "-a", tag, "-m", f"Release {tag}", cwd=self.car_tree)
        self.git("push", "--quiet", self.car_git, "main", tag, cwd=self.car_tree)

    def lane(self) -> None:
        self.say("starting the service, on embedded defaults")
        service = self.start("service", self.bin / "pitlane", "serve", "--config", self.service)
        self.listening("service", service)
        self.pitlane("hook", "install", self.car_git, "--repository", "team/donkeycar",
                     "--url", f"http://127.0.0.1:{self.ports['webhook']}/webhook",
                     "--secret-file", self.work / "state/webhook-secret")
        judge = self.twin("--laps", "1", "--max-seconds", "240", "--report", WORK / "drive.json",
                          "--plot", WORK / "drive.svg", "--start", "0.1")
        self.start("agent", self.bin / "pitlane-verifier", "agent", "--config", self.car)

        self.say("git push of tag v1.0.0")
        pushed = time.time()
        self.push_tag("v1.0.0")
        done = self.wait_run("v1.0.0")
        run, steps = done["run"], {step["step"]: step for step in done["steps"]}
        # From the push to the durable delivery, then the steps.
        stages = {"inbox": max(0, run["created"] - int(pushed * 1000))}
        stages |= {name: s["finished"] - s["started"] for name, s in steps.items()}
        index = steps["check"]["output"]["image"]
        self.report |= {
            "tag": "v1.0.0", "commit": run["commit"], "index": index, "stages_ms": stages,
            "platforms": sorted(steps["check"]["output"]["checks"]),
        }
        self.index = index.split("@")[1]
        self.say(f"released {index}")

        self.say("the car sees the GitOps commit …")
        driving = self.wait_confirmed(run["counter"])
        admitted = next(d for d in self.status()["decisions"] if d["outcome"] == "admitted")
        self.report["admitted"] = {"ms": round(admitted["ms"], 1), "checks": admitted["checks"]}
        self.say(f"admitted in {admitted['ms']:.0f} ms ({', '.join(admitted['checks'])})", "✓")
        self.say(f"container {driving['container']} drives, release {driving['counter']} confirmed", "✓")

        self.say("waiting for a whole lap in the twin, in real time …")
        try:
            code = judge.wait(LAP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed("no lap was driven in time") from None
        status = (self.status()["driving"] or {}).get("status") or {}
        lap = json.loads((WORK / "drive.json").read_text())
        if code != 0 or not lap["passed"]:
            raise Failed(f"the car did not drive its lap: {json.dumps(lap)}")
        self.report["drive"] = {
            "laps": lap["laps"], "mean_abs_cte": lap["meanAbsCteM"],
            "loop_hz": status.get("loop_hz"), "latency_p99_ms": status.get("latency_p99_ms"),
        }
        self.say(f"lap driven in {lap['lapTimesS'][0]:.1f} s, mean {lap['meanAbsCteM']:.3f} m off "
                 f"the centre (plot: {WORK / 'drive.svg'})", "✓")
        self.twin()

    def attacks(self) -> None:
        self.say("a second release, so that there is something to roll back from: v1.1.0")
        self.push_tag("v1.1.0")
        second = self.wait_run("v1.1.0")["run"]["counter"]
        container = self.wait_confirmed(second)["container"]
        for name, want, attack in ATTACKS:
            digest = attack(self)
            decision = self.decision(self.wish(digest, f"Attack: {name}"))
            driving = self.status()["driving"] or {}
            if decision["outcome"] != want:
                raise Failed(f"attack `{name}`: want {want}, got {decision}")
            if driving.get("container") != container:
                raise Failed(f"attack `{name}` disturbed the car: {driving}")
            self.report["refused"].append({"attack": name, "code": decision["outcome"]})
            self.say(f"{name:<28} refused: {decision['outcome']}; the car drives on", "✓")
        self.say("going back on purpose: pitlane rollback v1.0.0")
        back = json.loads(self.pitlane(
            "rollback", "v1.0.0", "--repository", "team/donkeycar", "--output", "json",
            "--api", f"http://127.0.0.1:{self.ports['api']}",
            "--token-file", self.work / "state/api-token"))
        self.wait_confirmed(back["counter"])
        self.say(f"release {back['counter']} over the image of v1.0.0 drives", "✓")
        self.report["rollback"] = {"counter": back["counter"]}

    def table(self) -> None:
        report = self.report
        rows = [("release", f"{report['tag']} → {report['index']}")]
        rows += [(f"  {name}", f"{ms} ms") for name, ms in report["stages_ms"].items()]
        rows.append(("admitted", f"{report['admitted']['ms']} ms"))
        drive = report["drive"]
        rows.append(("drive", f"{drive['laps']} lap, mean |cte| {drive['mean_abs_cte']:.3f} m, "
                              f"{drive['loop_hz']:.1f} Hz, p99 {drive['latency_p99_ms']:.1f} ms"))
        rows += [(f"  {r['attack']}", f"refused: {r['code']}") for r in report["refused"]]
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        print(f"\n  report: {WORK / 'report.json'}\n")

    def stop(self) -> None:
        for name, process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for name, process in reversed(self.processes):
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                self.say(f"{name} does not stop; it is killed")
                process.kill()
                process.wait()
        (WORK / "pids").unlink(missing_ok=True)

    def go(self) -> int:
        try:
            self.prepare()
            self.lane()
            self.attacks()
            (WORK / "report.json").write_text(json.dumps(self.report, indent=2) + "\n")
            self.table()
        except (Failed, subprocess.SubprocessError, OSError) as error:
            print(f"\ndemo: failed: {error}\nlogs are in {WORK}", file=sys.stderr)
            self.stop()
            return 1
        except KeyboardInterrupt:
            self.stop()
            return 130
        if self.keep:
            print(f"  still running: registry 127.0.0.1:{self.ports['registry']}, "
                  f"API http://127.0.0.1:{self.ports['api']}, car state {self.car_state}\n"
                  f"  stop it with: make clean-demo\n")
            return 0
        self.stop()
        return 0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def process_start(pid: int) -> str:
    """When a process began, in clock ticks: tells it from a later one with the same PID."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stop_leftovers() -> None:
    """Stops what an earlier `--keep` or killed demo left, by PID, if it is still that process."""
    try:
        lines = (WORK / "pids").read_text().splitlines()
    except FileNotFoundError:
        return
    ours = [int(pid) for pid, began in map(str.split, lines) if process_start(int(pid)) == began]
    for pid in ours:
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 40
    while time.monotonic() < end and any(process_start(pid) for pid in ours):
        time.sleep(0.2)
    (WORK / "pids").unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="where the programs are")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--stop", action="store_true", help="stop what --keep left, and end")
    options = parser.parse_args()
    if options.stop:
        stop_leftovers()
        return 0
    if os.geteuid() != 0:
        print("demo: needs root for the container runtime; run it with sudo", file=sys.stderr)
        return 1
    return Demo(options.bin, options.keep).go()


if __name__ == "__main__":
    sys.exit(main())
