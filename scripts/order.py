#!/usr/bin/env python3
"""Writes verifier/order.txt: the functions that a check runs, so that the linker puts them together.

A check runs 1.4 MB of a program of 10 MB. Spread over all of it they bring in nearly the whole
program, page by page; together they make a check use half the memory and a third of the time.
verifier/build.rs gives the list to the linker. A list that is out of date costs that gain and
nothing else: names that are gone are passed over. Names carry a hash of compiler, dependencies and
profile, so run this again (`make order`) when one of them changed; valgrind must be installed.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench_verify  # noqa: E402
from bench_lab import ROOT, Lab  # noqa: E402

LIST = ROOT / "verifier/order.txt"


class Tracer(Lab):
    """Runs every `pitlane-verifier` under callgrind, and remembers what ran."""

    def __init__(self, binaries: Path, work: Path):
        super().__init__(binaries, work)
        self.ran: dict[str, None] = {}

    def run(self, *command, env=None, codes=(0,)):
        if command[0] != "pitlane-verifier":
            return super().run(*command, env=env, codes=codes)
        out = self.work / "callgrind"
        out.unlink(missing_ok=True)
        done = super().run("valgrind", "--quiet", "--tool=callgrind", "--demangle=no",
                           f"--callgrind-out-file={out}", self.program("pitlane-verifier"),
                           *command[1:], env=env, codes=codes)
        for line in out.read_text(errors="replace").splitlines():
            name = re.match(r"^c?fn=\(\d+\) (\S+)", line)
            if name:
                self.ran[re.sub(r"'\d+$", "", name.group(1))] = None
        return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="where the programs are")
    options = parser.parse_args()
    # What the bench measures is what is traced: by key, by a car's policy, keyless; yes and no.
    bench_verify.ROUNDS, bench_verify.WARM, bench_verify.PEAKS = 1, 0, 1
    ran: dict[str, None] = {}
    for part in (bench_verify.verify, bench_verify.keyless):
        lab = Tracer(options.bin, ROOT / "target/order")
        try:
            part(lab, lambda text: None)
        finally:
            lab.close()
        ran |= lab.ran
    symbols = subprocess.run(["nm", "--defined-only", options.bin / "pitlane-verifier"],
                             capture_output=True, text=True, check=True).stdout.splitlines()
    ours = {parts[2] for parts in map(str.split, symbols) if len(parts) == 3 and parts[1] in "tTwW"}
    names = [name for name in ran if name in ours]
    LIST.write_text("# Functions in the order in which a check first runs them; scripts/order.py wrote this.\n"
                    + "\n".join(names) + "\n")
    print(f"{LIST.relative_to(ROOT)}: {len(names)} functions", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
