"""Signed deliveries a second: Pitlane's inbox beside Debian's `webhook`.

wrk sends push events (6.9 KB, a tag, a delivery id and a signature of their own each) over 16
kept-alive connections. Ours verifies, writes delivery, tag, counter and run, and answers when
they are on disk. The peer verifies the signature and keeps nothing: a rule that does not match
spares it the command that it would start. At the end the service is killed (SIGKILL) under load,
and what it acknowledged is counted in its store.
"""

import hashlib
import hmac
import json
import os
import socket
import sqlite3
import time
from pathlib import Path

from bench_lab import ROOT, Lab, Trouble, free_port, load, median, secret_file, summary

ROUNDS, SECONDS, CONNECTIONS, DELIVERIES = 5, 3, 16, 120_000
SECRET = b"It's a Secret to Everybody"
ZERO, COMMIT = "0" * 40, "1f0c" * 10


class Hooks:
    def __init__(self, lab: Lab):
        self.lab, self.work = lab, lab.work
        self.sent = 0
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

    def start_ours(self) -> str:
        """The service, with a pipeline whose source never answers: one run waits for it, all
        others queue behind it, so that nothing but the inbox works."""
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
        (work / "service.yaml").write_text(json.dumps({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": str(work / "state"),
            "pipelines": [str(work / "bench.yaml")],
            "webhookSecretFiles": [str(work / "hook-secret")],
            "listen": {"webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": None}}))
        self.service = self.lab.start("service", "pitlane", "--log", "error", "serve",
                                      "--config", work / "service.yaml")
        return self.lab.listening("service", self.service)["webhook"]

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

    def load(self, url: str, counts: bool) -> dict:
        env = {"BENCH_FIRST": str(self.sent + 1), "BENCH_DELIVERIES": str(self.deliveries)}
        done = self.lab.run("wrk", "-t", 1, "-c", CONNECTIONS, "-d", f"{SECONDS}s",
                            "-s", ROOT / "scripts/bench_webhook.lua", url, env=env)
        answered, micros, failed, p50, p99 = map(int, done.out.rsplit("RESULT", 1)[1].split())
        if failed or not answered:
            raise Trouble(f"{url}: {failed} of {answered} deliveries were not answered with 2xx")
        if counts:
            # Those in flight at the end were sent, but their answers not counted.
            self.sent += answered + CONNECTIONS
        return {"rate": answered / micros * 1e6, "p50_ms": p50 / 1000, "p99_ms": p99 / 1000,
                "answered": answered}

    def kept(self) -> int:
        with sqlite3.connect(self.work / "state/pitlane.sqlite") as store:
            return store.execute("SELECT count(*) FROM deliveries").fetchone()[0]


def webhook(lab: Lab, say) -> tuple[dict, dict]:
    hooks = Hooks(lab)
    ours_at, theirs_at = hooks.start_ours(), hooks.start_theirs()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(hooks.load(ours_at, True))
        theirs.append(hooks.load(theirs_at, False))
        say(f"webhook: ours {ours[-1]['rate']:.0f}/s, webhook {theirs[-1]['rate']:.0f}/s")
    memory = Path(f"/proc/{hooks.service.pid}/status").read_text()
    lab.end(hooks.service, hard=True)
    acknowledged, kept = sum(r["answered"] for r in ours), hooks.kept()
    result = {
        "rate": round(median([r["rate"] for r in ours])),
        "rate_vs_webhook": round(median([a["rate"] / b["rate"] for a, b in zip(ours, theirs)]), 4),
        "lost": max(0, acknowledged - kept),
    }
    details = {"acknowledged": acknowledged, "kept": kept, "load": load(),
               "service_peak_mb": round(int(memory.split("VmHWM:")[1].split()[0]) / 1024, 1)}
    for name, rounds in (("ours", ours), ("webhook", theirs)):
        details[name] = {key: summary([r[key] for r in rounds]) for key in ("rate", "p50_ms", "p99_ms")}
    return result, details
