"""`pitlane-verifier check` beside `cosign verify`: a key, no log, one image in a registry.

The same work: resolve the tag, find the signature at the index, fetch and check it against a key
(policies/signed.yaml). The car's own policy, which asks for far more, is measured as well, and
reported in the details.
"""

import time

from bench_lab import ROOT, Lab, Trouble, load, median, ratio, summary
from bench_release import REPO, Releases

ROUNDS, WARM, BUDGET_S, PEAKS = 30, 3, 60, 5


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
    commands = {"signed": ours, "drive": whole, "cosign": theirs}
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
    say("verify: " + ", ".join(f"{name} {median(values) * 1000:.1f} ms" for name, values in wall.items()))
    result = {
        "wall": ratio(wall["signed"], wall["cosign"]),
        "cpu": ratio(cpu["signed"], cpu["cosign"]),
        "rss": round(median(peak["signed"]) / median(peak["cosign"]), 4),
    }
    details = {
        name: {"wall_ms": summary(wall[name], 1000), "cpu_ms": summary(cpu[name], 1000),
               "peak_mb": summary(peak[name])}
        for name in commands
    }
    details["drive_policy"] = {"wall": ratio(wall["drive"], wall["cosign"]),
                               "cpu": ratio(cpu["drive"], cpu["cosign"]),
                               "rss": round(median(peak["drive"]) / median(peak["cosign"]), 4)}
    return result, details | {"load": load()}


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
