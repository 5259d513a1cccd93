"""Signed deliveries a second: Pitlane's inbox, on SQLite and on PostgreSQL, beside Debian's `webhook`.

wrk sends push events (6.9 KB, a tag, a delivery id and a signature of their own each) over 16
kept-alive connections. Ours verifies, writes delivery, tag, counter and run, and answers when
they are on disk: in SQLite, or in a PostgreSQL server that syncs each commit. The peer verifies the
signature and keeps nothing: a rule that does not match spares it the command that it would start. At the end the service is killed (SIGKILL) under load,
and what it acknowledged is counted in its store.
"""

import hashlib
import hmac
import json
import os
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench_lab import ROOT, Lab, Trouble, free_port, load, median, secret_file, summary
from bench_postgres import Postgres

ROUNDS, SECONDS, CONNECTIONS, DELIVERIES = 5, 3, 16, 120_000
SECRET = b"It's a Secret to Everybody"
ZERO, COMMIT = "0" * 40, "1f0c" * 10


class Hooks:
    def __init__(self, lab: Lab):
        self.lab, self.work = lab, lab.work
        self.deliveries = self.work / "deliveries"
        filler = "x" * 6500
        body = (f'{{"ref":"refs/tags/@","before":"{ZERO}","after":"{COMMIT}","created":true,'
                f'"deleted":false,"forced":false,"head_commit":{{"id":"{COMMIT}","message":"{filler}"}},'
                '"repository":{"full_name":"team/bench"}}')
        head, tail = body.split("@")
        with open(self.deliveries, "w") as out:
            out.write(f"{head}\n{tail}\n")
            for number in range(1, DELIVERIES + 1):
                text = f"{head}v0.0.{number}{tail}".encode()
                out.write(hmac.new(SECRET, text, hashlib.sha256).hexdigest() + "\n")

    def pipeline(self) -> None:
        """A pipeline whose source never answers: one run waits for it, all others queue behind it,
        so that nothing but the inbox works."""
        work = self.work
        self.silent = socket.create_server(("127.0.0.1", 0))
        password = secret_file(work / "password")
        secret_file(work / "hook-secret", SECRET.decode())
        self.lab.run("pitlane", "keys", "generate", "--out", work, "--password-file", password)
        (work / "bench.yaml").write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Pipeline", "metadata": {"name": "bench"},
            "spec": {
                "carKind": "bench",
                "source": {"repository": "team/bench",
                           "url": f"git://127.0.0.1:{self.silent.getsockname()[1]}/bench"},
                "base": {"layout": str(work)},
                "runtime": {f"linux/{p}": str(work / "car") for p in ("amd64", "arm64")},
                "registry": {"repository": "127.0.0.1:1/team/bench"},
                "sign": {"key": str(work / "release.key"), "passwordFile": str(password)},
                "policy": str(ROOT / "policies/signed.yaml"),
            }}))

    def start_theirs(self) -> str:
        port = free_port()
        hooks = self.work / "hooks.json"
        hooks.write_text(json.dumps([{
            "id": "bench", "execute-command": "/bin/false",
            "trigger-rule": {"and": [
                {"match": {"type": "payload-hmac-sha256", "secret": SECRET.decode(),
                           "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}},
                {"match": {"type": "value", "value": "never",
                           "parameter": {"source": "payload", "name": "ref"}}},
            ]}}]))
        process = self.lab.start("webhook", "webhook", "-hooks", hooks, "-ip", "127.0.0.1", "-port", port)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"http://127.0.0.1:{port}/hooks/bench"
            except OSError:
                time.sleep(0.05)
        raise Trouble(f"webhook did not start: {process.poll()}")

    def load(self, url: str, first: int) -> dict:
        env = {"BENCH_FIRST": str(first), "BENCH_DELIVERIES": str(self.deliveries)}
        done = self.lab.run("wrk", "-t", 1, "-c", CONNECTIONS, "-d", f"{SECONDS}s",
                            "-s", ROOT / "scripts/bench_webhook.lua", url, env=env)
        answered, micros, failed, p50, p99 = map(int, done.out.rsplit("RESULT", 1)[1].split())
        if failed or not answered:
            raise Trouble(f"{url}: {failed} of {answered} deliveries were not answered with 2xx")
        return {"rate": answered / micros * 1e6, "p50_ms": p50 / 1000, "p99_ms": p99 / 1000,
                "answered": answered}


class Service:
    """Ours, on one kind of store."""

    def __init__(self, hooks: Hooks, name: str, postgres: Postgres | None):
        self.hooks, self.name, self.postgres = hooks, name, postgres
        self.sent, self.rounds, self.memory = 0, [], []
        self.state = hooks.work / f"state-{name}"
        file = hooks.work / f"{name}.yaml"
        file.write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": str(self.state),
            "pipelines": [str(hooks.work / "bench.yaml")],
            "webhookSecretFiles": [str(hooks.work / "hook-secret")],
            "listen": {"webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": None},
        } | ({"database": postgres.url} if postgres else {})))
        self.process = hooks.lab.start(name, "pitlane", "--log", "error", "serve", "--config", file)
        self.url = hooks.lab.listening(name, self.process)["webhook"]

    def round(self) -> float:
        done = self.hooks.load(self.url, self.sent + 1)
        # Those in flight at the end were sent, but their answers not counted.
        self.sent += done["answered"] + CONNECTIONS
        self.rounds.append(done)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        return done["rate"]

    def killed(self) -> None:
        """Under load: what was acknowledged until then is in the store, or lost."""
        first, url = self.sent + 1, self.url
        env = {"BENCH_FIRST": str(first), "BENCH_DELIVERIES": str(self.hooks.deliveries)}
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(
                subprocess.run,
                [self.hooks.lab.program("wrk"), "-t", "1", "-c", str(CONNECTIONS), "-d", f"{SECONDS}s", "--timeout", "5s",
                 "-s", str(ROOT / "scripts/bench_webhook.lua"), url],
                env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
            time.sleep(SECONDS / 2)
            self.hooks.lab.end(self.process, hard=True)
            out = loading.result().stdout
        # wrk counts whole answers; the rest of its time it was refused.
        self.acknowledged = sum(r["answered"] for r in self.rounds) + int(out.rsplit("RESULT", 1)[1].split()[0])
        self.kept = self.count()

    def count(self) -> int:
        sql = "SELECT count(*) FROM deliveries"
        if self.postgres:
            return int(self.postgres.ask(sql))
        with sqlite3.connect(self.state / "pitlane.sqlite") as store:
            return store.execute(sql).fetchone()[0]

    def figures(self) -> dict:
        figures = {key: summary([r[key] for r in self.rounds]) for key in ("rate", "p50_ms", "p99_ms")}
        return figures | {"acknowledged": self.acknowledged, "kept": self.kept,
                          "memory_mb": [round(value, 1) for value in self.memory]}

    def median(self, key: str) -> float:
        return median([r[key] for r in self.rounds])


def webhook(lab: Lab, say) -> tuple[dict, dict]:
    hooks = Hooks(lab)
    hooks.pipeline()
    postgres = Postgres(lab)
    try:
        ours, shared = Service(hooks, "sqlite", None), Service(hooks, "postgres", postgres)
        theirs_at, theirs = hooks.start_theirs(), []
        for _ in range(ROUNDS):
            rates = ours.round(), shared.round()
            theirs.append(hooks.load(theirs_at, 1))
            say(f"webhook: ours {rates[0]:.0f}/s, on PostgreSQL {rates[1]:.0f}/s, webhook {theirs[-1]['rate']:.0f}/s")
        for service in (ours, shared):
            service.killed()
    finally:
        postgres.close(lab)
    result = {
        "rate": round(ours.median("rate")),
        "p99_ms": round(ours.median("p99_ms"), 1),
        "postgres_rate": round(shared.median("rate")),
        "postgres_p99_ms": round(shared.median("p99_ms"), 1),
        "rate_vs_webhook": round(median([a["rate"] / b["rate"] for a, b in zip(ours.rounds, theirs)]), 4),
        # After the first round, in which everything is touched for the first time.
        "memory_growth": round(max(max(s.memory[1:]) / s.memory[0] for s in (ours, shared)), 3),
        "lost": sum(max(0, s.acknowledged - s.kept) for s in (ours, shared)),
    }
    details = {"sqlite": ours.figures(), "postgres": shared.figures(), "load": load(),
               "webhook": {key: summary([r[key] for r in theirs]) for key in ("rate", "p50_ms", "p99_ms")}}
    return result, details
