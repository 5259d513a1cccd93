"""`pitlane-verifier check` beside `cosign verify`: one image in a registry, with a key and no log,
and keyless with a log entry and a timestamp of a Sigstore instance on loopback.

The same work: resolve the tag, find the signature at the index, fetch and check it against a key
(policies/signed.yaml). The car's own policy, which asks for far more, is measured as well, and
reported in the details.
"""

import json
import time
import urllib.request

from bench_lab import ROOT, Lab, Trouble, load, median, ratio, summary
from bench_release import REPO, Releases

ROUNDS, WARM, BUDGET_S, PEAKS = 30, 3, 60, 5
# Processes that decide alone.
CORES = 7


def verify(lab: Lab, say) -> tuple[dict, dict]:
    releases = Releases(lab)
    releases.prepare(attest=["provenance"])
    releases.by_service()
    image = f"{releases.host}/{REPO}:v{releases.number}"
    key = releases.work / "release.pub"
    drive = lab.work / "drive.yaml"
    drive.write_text((ROOT / "policies/signed.yaml").read_text() + """\
drive:
  sources: [{ repository: team/bench, carKinds: [bench] }]
  platforms: [linux/amd64, linux/arm64]
  provenance: { builders: [https://pitlane.dev/builder/local] }
""")
    check = ["pitlane-verifier", "check", image, "--key", key, "--output", "json", "--policy"]
    ours = [*check, ROOT / "policies/signed.yaml"]
    whole = [*check, drive]
    theirs = ["cosign", "verify", "--key", key, "--insecure-ignore-tlog=true",
              "--allow-http-registry", "--output", "json", image]
    refuses(lab, releases, image)
    result, details = compare(lab, say, "verify", {"signed": ours, "drive": whole, "cosign": theirs})
    details["drive_policy"] = ratios(details["raw"], "drive")
    del details["raw"]
    return result, details | {"load": load()}


def keyless(lab: Lab, say) -> tuple[dict, dict]:
    """The same image, signed with a certificate: chain, its log proof, entry, timestamp, name."""
    releases = Releases(lab)
    releases.prepare(peers=False)
    image = json.loads(releases.by_service().out)["image"]
    process = lab.start("sigstore", "pitlane-sigstore-lab", "--dir", lab.work / "sigstore")
    sigstore = json.loads(process.stdout.readline())
    name, issuer, root = "racer@example.org", sigstore["issuer"], sigstore["trustedRoot"]
    token = lab.work / "token"
    with urllib.request.urlopen(sigstore["personToken"] + name, timeout=10) as answer:
        token.write_bytes(answer.read().strip())
    lab.run("cosign", "sign", "--yes", "--identity-token", token, "--trusted-root", root,
            "--signing-config", sigstore["signingConfig"], "--allow-http-registry", image, env=releases.env)
    policy = lab.work / "keyless.yaml"
    write = lambda who: policy.write_text(json.dumps({
        "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy",
        "metadata": {"name": "keyless"},
        "spec": {"images": [{"glob": "**"}], "authorities": [{
            "name": "racer", "ctlog": {}, "keyless": {"identities": [{"issuer": issuer, "subject": who}]}}]},
    }))
    check = ["pitlane-verifier", "check", image, "--policy", policy, "--trusted-root", root, "--output", "json"]
    verify = lambda who: ["cosign", "verify", "--certificate-identity", who, "--certificate-oidc-issuer", issuer,
                          "--trusted-root", root, "--use-signed-timestamps", "--allow-http-registry",
                          "--output", "json", image]
    # The no first: somebody else's name.
    write("eve@example.org")
    lab.run(*check, codes=(10,))
    lab.run(*verify("eve@example.org"), codes=tuple(range(1, 128)))
    write(name)
    result, details = compare(lab, say, "keyless", {"signed": check, "cosign": verify(name)})
    del details["raw"]
    # The median of 200 decisions, in the quietest of some processes: a neighbour on the same core only
    # ever adds to a millisecond.
    cores = [json.loads(lab.run(*check, "--rounds", "200").out)["decideMs"] for _ in range(CORES)]
    say("keyless: decision " + ", ".join(f"{ms:.3f}" for ms in cores) + " ms")
    result["core_ms"] = round(min(cores), 4)
    return result, details | {"load": load()}


def compare(lab: Lab, say, what: str, commands: dict) -> tuple[dict, dict]:
    """Runs the commands by turns; ratios of `signed` to `cosign`, and everything measured."""
    wall = {name: [] for name in commands}
    cpu = {name: [] for name in commands}
    end = time.monotonic() + BUDGET_S
    for number in range(WARM + ROUNDS):
        for name, command in commands.items():
            done = lab.run(*command)
            if number >= WARM:
                wall[name].append(done.wall)
                cpu[name].append(done.cpu)
        if time.monotonic() > end:
            break
    peak = {name: [lab.peak_mb(*command) for _ in range(PEAKS)] for name, command in commands.items()}
    say(f"{what}: " + ", ".join(f"{name} {median(values) * 1000:.1f} ms" for name, values in wall.items()))
    details = {
        name: {"wall_ms": summary(wall[name], 1000), "cpu_ms": summary(cpu[name], 1000),
               "peak_mb": summary(peak[name])}
        for name in commands
    }
    details["raw"] = (wall, cpu, peak)
    return ratios(details["raw"], "signed"), details


def ratios(raw: tuple, name: str) -> dict:
    wall, cpu, peak = raw
    return {"wall": ratio(wall[name], wall["cosign"]), "cpu": ratio(cpu[name], cpu["cosign"]),
            "rss": round(median(peak[name]) / median(peak["cosign"]), 4)}


def refuses(lab: Lab, releases: Releases, image: str) -> None:
    """A fast yes is worth nothing without the no: another key must be refused by both."""
    lab.run("pitlane", "keys", "generate", "--out", lab.work, "--name", "other",
            "--password-file", releases.work / "password")
    other = lab.work / "other.pub"
    lab.run("pitlane-verifier", "check", image, "--key", other, "--policy",
            ROOT / "policies/signed.yaml", codes=(10,))
    done = lab.run("cosign", "verify", "--key", other, "--insecure-ignore-tlog=true",
                   "--allow-http-registry", image, codes=tuple(range(1, 128)))
    if "no matching signatures" not in done.err + done.out and "signature" not in done.err:
        raise Trouble(f"cosign refused for another reason: {done.err}")
