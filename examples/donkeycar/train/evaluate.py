#!/usr/bin/env python3
"""Drives a trained pilot in pitlane-twin, judged, on tracks, from starts and in lights it never saw.

    evaluate.py --twin ../../../target/release/pitlane-twin --model ../models/pilot.onnx

Prints one line per run and, last, JSON. Exit status: 0 every run passed with margin, 10 one did not.
"""

import os

# onnxruntime reports its use to its maker unless this is set before it is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import argparse
import json
import sys
import tempfile

import numpy as np
import onnxruntime

from twin import Twin

# (track, light, start, seed): nothing of these was trained on but the two last tracks themselves,
# and of these not the places the runs start from, nor the lights.
RUNS = [
    ("generated_track", "day", 0.13, 9001),
    ("generated_track", "dusk", 0.55, 9002),
    ("generated_track", "glare", 0.13, 9003),
    ("generated_track", "lamps", 0.55, 9004),
    ("generated_road", "overcast", 0.13, 9005),
    ("generated_road", "dusk", 0.55, 9006),
    ("generated_road", "glare", 0.13, 9007),
    ("generated_road", "lamps", 0.55, 9008),
    ("warehouse", "dusk", 0.13, 9009),
    ("sparkfun_avc", "lamps", 0.55, 9010),
    ("mountain_track", "glare", 0.13, 9011),
    ("mountain_track", "dusk", 0.55, 9012),
]
# Of the road's half width: how far the car's centre may get from the line.
MARGIN = 0.6


class Pilot:
    """The model in onnxruntime, one thread, fed as its card says."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def control(self, rgb):
        picture = rgb[None].astype(np.float32) * np.float32(0.00392156862745098)
        steering, throttle = self.session.run(["n_outputs0", "n_outputs1"], {"img_in": picture})
        return float(np.clip(steering[0, 0], -1, 1)), float(np.clip(throttle[0, 0], -1, 1))


def judge(binary, pilot, run, laps):
    """Drives laps until the twin has judged; gives its report."""
    track, light, start, seed = run
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "laps.json")
        options = ["--laps", str(laps), "--start", str(start), "--report", report]
        with Twin(binary, track, light, seed, options) as twin:
            while (frame := twin.frame()) is not None:
                twin.control(*pilot.control(frame["rgb"]))
            twin.process.wait(timeout=30)
        with open(report) as file:
            return json.load(file)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--twin", required=True, help="the pitlane-twin program")
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--laps", type=int, default=3)
    args = arguments.parse_args()

    pilot, reports = Pilot(args.model), []
    print("track            light     laps  lap s  |cte| mean   p95   max  of m   frames/s")
    for run in RUNS:
        report = judge(args.twin, pilot, run, args.laps)
        good = report["passed"] and report["maxAbsCteM"] < MARGIN * report["roadHalfWidthM"]
        reports.append({**report, "good": good})
        times = report["lapTimesS"]
        print(
            f"{run[0]:16} {run[1]:9} {report['laps']:4} {np.mean(times) if times else 0:6.1f}"
            f"  {report['meanAbsCteM']:10.3f} {report['p95AbsCteM']:.3f} {report['maxAbsCteM']:.3f}"
            f" {report['roadHalfWidthM']:.3f} {report['frames'] / report['wallSeconds']:8.0f}"
            f"  {'' if good else report['reason'] or 'too far from the line'}",
            flush=True,
        )
    print(json.dumps({"good": all(r["good"] for r in reports), "runs": reports}))
    sys.exit(0 if all(r["good"] for r in reports) else 10)


if __name__ == "__main__":
    main()
