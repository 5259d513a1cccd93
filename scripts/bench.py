#!/usr/bin/env python3
"""Compares Pitlane with what people use today, in one run, doing the same work.

Ours and the peer take turns; what is printed are medians, and medians of the ratios of runs that
followed each other, so that a busy machine slows both. Everything runs on loopback, on free
ports, below target/bench, and is stopped at the end. Writes target/bench/report.json.

  scripts/bench.py --bin target/release                everything, about fifteen minutes
  scripts/bench.py --bin target/release --only verify  one part (may be repeated)
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_lab import ROOT, Lab, Trouble, load  # noqa: E402

WORK = ROOT / "target" / "bench"
# key of the report: what it is, and the most (or, for rates, the least) it should be
TARGETS = {
    "release.service_vs_crane": ("a running service / crane append + cosign sign", "<=", 1 / 3),
    "release.oneshot_vs_crane": ("pitlane release / crane append + cosign sign", "<=", 1 / 2),
    "release.service_vs_docker": ("a running service / docker build + push + cosign sign", "<=", 1 / 6),
    "release.bytes_over_model": ("bytes sent beyond the model", "<=", 65536),
    "release.service_rss_mb": ("peak memory of the service during a release, MB", "<=", 60),
    "drain.cpu_vs_crane": ("CPU of a queued release, attested / crane + cosign, not attested", "<=", 1 / 4),
    "drain.service_rss_mb": ("peak memory of the service meanwhile, MB", "<=", 120),
    "build.vs_docker": ("a Dockerfile pipeline / docker build + docker push", "<=", 1.05),
    "verify.wall": ("pitlane-verifier check / cosign verify, wall time", "<=", 1 / 4),
    "verify.cpu": ("the same, CPU time", "<=", 1 / 5),
    "verify.rss": ("the same, peak memory", "<=", 1 / 6),
    "keyless.wall": ("check / cosign verify of a keyless image, wall time", "<=", 1 / 4),
    "keyless.cpu": ("the same, CPU time", "<=", 1 / 5),
    "keyless.rss": ("the same, peak memory", "<=", 1 / 6),
    "keyless.core_ms": ("the decision alone on evidence in memory, ms", "<=", 1),
    "webhook.rate": ("signed deliveries a second, on disk before they are answered", ">=", 3000),
    "webhook.p99_ms": ("99th percentile of the answer, ms", "<=", 30),
    "webhook.postgres_rate": ("signed deliveries a second with PostgreSQL", ">=", 2000),
    "webhook.postgres_p99_ms": ("99th percentile of the answer, ms", "<=", 30),
    "webhook.memory_growth": ("memory, the most of later rounds / the first round", "<=", 1.25),
    "webhook.rate_vs_webhook": ("rate / webhook's, which checks the HMAC and keeps nothing", None, None),
    "webhook.lost": ("acknowledged deliveries that a kill -9 lost", "<=", 0),
    "admit.rate": ("cached admission decisions a second, over TLS", ">=", 2000),
    "admit.p99_ms": ("99th percentile at more than 2,000 a second, ms", "<=", 10),
    "drive.overhead_cpu_ms": ("CPU a frame besides the inference, ms", "<=", 1),
    "drive.inference_ratio": ("inference p50 / Python's onnxruntime", "<=", 1.1),
}


PARTS = ("release", "drain", "build", "verify", "keyless", "webhook", "admit", "drive")


def parts() -> dict:
    from bench_admit import admit
    from bench_build import build
    from bench_drain import drain
    from bench_drive import drive
    from bench_release import Releases
    from bench_verify import keyless, verify
    from bench_webhook import webhook
    return {
        "release": lambda lab, say: Releases(lab).measure(say),
        "drain": drain, "build": build, "verify": verify, "keyless": keyless, "webhook": webhook, "admit": admit, "drive": drive,
    }


def table(report: dict) -> None:
    print(f"\n  {'':<62}{'measured':>10}   target")
    for key, (text, sign, goal) in TARGETS.items():
        part, name = key.split(".")
        if part not in report:
            continue
        value = report[part][name]
        met = sign is None or (value <= goal if sign == "<=" else value >= goal)
        goal = "" if sign is None else f"{sign} {goal:.4g}{'' if met else '   MISSED'}"
        print(f"  {text:<62}{value:>10.4g}   {goal}")
    print(f"\n  load {report['details']['load']}; ratios are ours / the peer's; "
          f"report: {WORK / 'report.json'}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="where the programs are")
    parser.add_argument("--only", action="append", choices=PARTS,
                        help="measure this part alone; the report then has only that")
    options = parser.parse_args()
    began = time.monotonic()
    say = lambda text: print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)
    report: dict = {"details": {"load": {"start": load()}}}
    for name, measure in parts().items():
        if options.only and name not in options.only:
            continue
        say(f"{name} ...")
        lab = Lab(options.bin, WORK / "work")
        try:
            report[name], report["details"][name] = measure(lab, say)
        except Trouble as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            return 1
        finally:
            lab.close()
    report["details"]["load"]["end"] = load()
    report["details"]["seconds"] = round(time.monotonic() - began, 1)
    ordered = {name: report[name] for name in (*PARTS, "details") if name in report}
    (WORK / "report.json").write_text(json.dumps(ordered, indent=2) + "\n")
    table(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
