"""Admission decisions a second: a Pod whose image was judged before, over TLS.

wrk sends the review of a Pod (about 3 KB, as a DaemonSet's controller makes them) to /validate
over 16 kept-alive TLS connections; each answer must allow it. `rate` is as many as go; `p99_ms`
is at a steady load of somewhat more than 2,000 a second, which the connections' pauses make: at
the most that goes, the time to an answer is that of the queue. The image is a release, judged
once for both platforms by a policy with `drive:`; how long that took is in the details. No peer
runs here: those that are compared elsewhere need a cluster to answer at all.
"""

import json
import ssl
import time
import urllib.request

from bench_lab import ROOT, Lab, Trouble, load, median, summary
from bench_release import REPO, Releases

ROUNDS, SECONDS, CONNECTIONS = 5, 3, 16
# 16 connections that pause this long before each request make about 2,300 requests a second.
PAUSE_MS = 5


def review(image: str) -> bytes:
    container = {
        "name": "car", "image": image, "imagePullPolicy": "IfNotPresent",
        "env": [{"name": f"SETTING_{number}", "value": "x" * 60} for number in range(20)],
        "resources": {"limits": {"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "1"}},
        "securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "donkeycar-", "namespace": "car",
                     "labels": {"app.kubernetes.io/name": "donkeycar"},
                     "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": True,
                                          "name": "donkeycar", "uid": "0c3331b6-1812-11ea-b3fc-02897404852e"}]},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}],
                 "runtimeClassName": "nvidia", "serviceAccountName": "default"},
    }
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "car", "operation": "CREATE", "dryRun": False, "object": pod, "oldObject": None,
        "userInfo": {"username": "system:serviceaccount:kube-system:daemon-set-controller",
                     "groups": ["system:serviceaccounts", "system:authenticated"]},
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                       "request": request}).encode()


class Hooks:
    def __init__(self, lab: Lab, policy, key):
        certs = lab.work / "certs"
        lab.run("pitlane-verifier", "admit", "certs", "--out", certs, "--name", "localhost")
        self.lab = lab
        self.process = lab.start(
            "admission", "pitlane-verifier", "--log", "error", "admit", "--policy", policy,
            "--key", f"release={key}", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
            "--tls-cert", certs / "tls.crt", "--tls-key", certs / "tls.key")
        listening = lab.listening("admission", self.process)
        self.url = listening["hooks"].replace("127.0.0.1", "localhost") + "/validate"
        self.trust = ssl.create_default_context(cafile=certs / "ca.crt")

    def ask(self, body: bytes) -> dict:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30, context=self.trust) as answer:
            return json.load(answer)["response"]

    def load(self, file, pause: bool = False) -> dict:
        env = {"BENCH_REVIEW": str(file)} | ({"BENCH_PAUSE_MS": str(PAUSE_MS)} if pause else {})
        done = self.lab.run("wrk", "-t", 1, "-c", CONNECTIONS, "-d", f"{SECONDS}s",
                            "-s", ROOT / "scripts/bench_admit.lua", self.url,
                            env=env)
        answered, micros, failed, p50, p99 = map(int, done.out.rsplit("RESULT", 1)[1].split())
        if failed or not answered:
            raise Trouble(f"{failed} of {answered} reviews were not allowed")
        return {"rate": answered / micros * 1e6, "p50_ms": p50 / 1000, "p99_ms": p99 / 1000}

    def rss_mb(self) -> float:
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)


def admit(lab: Lab, say) -> tuple[dict, dict]:
    releases = Releases(lab)
    releases.prepare(attest=["provenance"], peers=False)
    releases.by_service()
    tag = f"{releases.host}/{REPO}:v{releases.number}"
    key = releases.work / "release.pub"
    policy = lab.work / "drive.yaml"
    policy.write_text((ROOT / "policies/signed.yaml").read_text().replace('"**"', '"127.0.0.1:*/**"') + """\
drive:
  sources: [{ repository: team/bench, carKinds: [bench] }]
  platforms: [linux/amd64, linux/arm64]
  provenance: { builders: [https://pitlane.dev/builder/local] }
""")
    checked = lab.run("pitlane-verifier", "check", tag, "--policy", policy, "--key", key, "--output", "json")
    digest = next(c["found"] for c in json.loads(checked.out)["checks"] if c["check"] == "digest")
    hooks = Hooks(lab, policy, key)
    refuses(hooks, tag, digest)
    body = review(f"{tag}@{digest}")
    began = time.monotonic()
    if not hooks.ask(body)["allowed"]:
        raise Trouble("the release is not admitted")
    first_ms = (time.monotonic() - began) * 1000
    file = lab.work / "review.json"
    file.write_bytes(body)
    hooks.load(file)
    most, steady = [], []
    for _ in range(ROUNDS):
        most.append(hooks.load(file))
        steady.append(hooks.load(file, pause=True))
    result = {"rate": round(median(one["rate"] for one in most)),
              "p99_ms": round(median(one["p99_ms"] for one in steady), 3)}
    say(f"admit: {result['rate']} decisions a second; p99 {result['p99_ms']} ms at "
        f"{median(one['rate'] for one in steady):.0f} a second")
    details = {name: {key: summary([one[key] for one in rounds]) for key in rounds[0]}
               for name, rounds in (("most", most), ("steady", steady))}
    return result, details | {"first_ms": round(first_ms, 1), "peak_mb": hooks.rss_mb(),
                              "review_bytes": len(body), "load": load()}


def refuses(hooks: Hooks, tag: str, digest: str) -> None:
    """A fast yes is worth nothing without the no."""
    for image, reason in [(tag, "not-pinned"), (f"other.example/car@{digest}", "no-policy")]:
        response = hooks.ask(review(image))
        if response["allowed"] or response["status"]["reason"] != reason:
            raise Trouble(f"{image} should be refused as {reason}: {response}")
