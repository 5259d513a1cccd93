"""Driving: CPU around the inference of a frame, and the inference beside Python's onnxruntime.

The same model, the same library version, one thread, frames of the same shape; the two take
turns. The Python side lives in target/bench/venv, with the versions and digests that the
example's training uses.
"""

import json
import subprocess
import sys
from pathlib import Path

from bench_lab import ROOT, Lab, Trouble, load, median, summary

ROUNDS, FRAMES = 7, 2000
MODEL = ROOT / "examples/donkeycar/models/pilot.onnx"
LIBRARY = ROOT / "target/base/rootfs/amd64/usr/lib/libonnxruntime.so.1"
REQUIREMENTS = ROOT / "examples/donkeycar/train/requirements.txt"
NEEDED = ("flatbuffers", "numpy", "onnxruntime", "packaging", "protobuf")
THEIRS = """
import json, sys, time
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
entry = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in entry.shape]
frame = numpy.random.default_rng(1).random(shape, dtype=numpy.float32)
times = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    session.run(None, {entry.name: frame})
    times.append(time.perf_counter() - began)
print(json.dumps({"p50": sorted(times)[len(times) // 2] * 1000, "version": onnxruntime.__version__}))
"""


def python() -> Path:
    """A virtual environment with onnxruntime, made once."""
    venv = ROOT / "target/bench/venv"
    program = venv / "bin/python"
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith(NEEDED)]
    made = venv / "made"
    if made.exists() and made.read_text() == "\n".join(lines):
        return program
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    wanted = venv / "requirements.txt"
    wanted.write_text("\n".join(lines) + "\n")
    done = subprocess.run([program, "-m", "pip", "install", "--quiet", "--require-hashes",
                           "--only-binary", ":all:", "-r", wanted], capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"pip could not install onnxruntime: {done.stderr[-1500:]}")
    made.write_text("\n".join(lines))
    return program


def drive(lab: Lab, say) -> tuple[dict, dict]:
    if not LIBRARY.exists():
        raise Trouble(f"{LIBRARY} is missing; run make base")
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    interpreter = python()
    script = lab.work / "theirs.py"
    script.write_text(THEIRS)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(json.loads(lab.run(
            "pitlane-car", "bench", "--model", MODEL, "--ort-lib", LIBRARY,
            "--frames", FRAMES, "--output", "json", env=quiet).out))
        theirs.append(json.loads(lab.run(interpreter, script, MODEL, FRAMES, env=quiet).out))
    inference, peer = [r["inference_ms"]["p50"] for r in ours], [r["p50"] for r in theirs]
    say(f"drive: inference {median(inference):.4f} ms, Python's onnxruntime {median(peer):.4f} ms")
    result = {
        "overhead_cpu_ms": round(median([r["overhead_cpu_ms"] for r in ours]), 4),
        "inference_ratio": round(median([a / b for a, b in zip(inference, peer)]), 4),
    }
    details = {
        "inference_p50_ms": summary(inference), "python_p50_ms": summary(peer),
        "overhead_p50_ms": summary([r["overhead_ms"]["p50"] for r in ours]),
        "onnxruntime": theirs[0]["version"], "load": load(),
    }
    return result, details
