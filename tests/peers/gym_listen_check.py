#!/usr/bin/env python3
"""Drives a twin that dials with the gym-donkeycar of PyPI (1.0.13), the edition that listens.

Needs Python 3.11 or older (asyncore) with gym-donkeycar==1.0.13, gym==0.26.2 and numpy.

    gym_listen_check.py --port 9099 --steps 100
        waits for a twin: pitlane-twin --dial 127.0.0.1:9099
    gym_listen_check.py --port 0 --twin path/to/pitlane-twin
        takes a free port and starts the twin itself

The last line on stdout is JSON. Exit status: 0 driven well, 2 no twin came or no frame followed,
3 frames do not change, 4 wrong picture, 5 too far from the centreline or not moving.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading

# Per environment step: two control/telemetry pairs at 20 Hz take 0.1 s.
STEP_LIMIT_S = 5.0
START_LIMIT_S = 60.0


def finish(result, code):
    # The package's threads print as they like and have no way to end: what they have said goes out
    # first, our line goes past their buffer, and nothing of theirs can follow it.
    sys.stdout.flush()
    os.write(1, ("\n" + json.dumps({**result, "exit": code}) + "\n").encode())
    os._exit(code)


class Deadline:
    """Ends the process when it is not reached: the package itself waits for ever."""

    def __init__(self, seconds, result, what):
        self.timer = threading.Timer(seconds, lambda: finish({**result, "error": what}, 2))
        self.timer.daemon = True

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.cancel()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def loopback_only():
    """The package binds every interface; a test has no business there."""
    from gym_donkeycar.envs import donkey_sim

    class LoopbackServer(donkey_sim.SimServer):
        def __init__(self, address, handler):
            super().__init__(("127.0.0.1", address[1]), handler)

    donkey_sim.SimServer = LoopbackServer


def drive(env, steps, throttle):
    """Steers by the cross-track error; gives (errors, digests of pictures, speeds, shape)."""
    import numpy as np

    picture = env.reset()
    errors, digests, speeds = [], [], []
    last = 0.0
    for _ in range(steps):
        steering = float(np.clip(-0.6 * last - 1.5 * (last - (errors[-1] if errors else last)), -1, 1))
        errors.append(last)
        picture, _reward, done, info = env.step(np.array([steering, throttle]))
        last = float(info["cte"])
        speeds.append(float(info["speed"]))
        digests.append(hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest())
        if done:
            break
    return errors, digests, speeds, list(picture.shape)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--port", type=int, default=9091)
    arguments.add_argument("--steps", type=int, default=100)
    arguments.add_argument("--level", type=int, default=3, help="index into the scene list")
    arguments.add_argument("--throttle", type=float, default=0.25)
    arguments.add_argument("--max-mean-cte", type=float, default=1.5, help="units, 8 to a metre")
    arguments.add_argument("--twin", help="start this pitlane-twin with --dial")
    args = arguments.parse_args()

    port = args.port or free_port()
    os.environ["DONKEY_SIM_PORT"] = str(port)
    os.environ.pop("DONKEY_SIM_PATH", None)
    result = {"client": "gym-donkeycar 1.0.13", "port": port}
    twin = None
    if args.twin:
        twin = subprocess.Popen([args.twin, "--dial", f"127.0.0.1:{port}"], stdout=sys.stderr)
    try:
        loopback_only()
        from gym_donkeycar.envs.donkey_env import DonkeyEnv

        with Deadline(START_LIMIT_S, result, "no twin came, or its handshake never ended"):
            env = DonkeyEnv(level=args.level)
        with Deadline(10 + STEP_LIMIT_S * args.steps, result, "frames stopped"):
            errors, digests, speeds, shape = drive(env, args.steps, args.throttle)
    finally:
        if twin:
            twin.terminate()
            twin.wait(timeout=10)

    mean = sum(map(abs, errors)) / len(errors)
    result |= {
        "steps": len(errors),
        "mean_abs_cte": round(mean, 4),
        "max_abs_cte": round(max(map(abs, errors)), 4),
        "distinct_frames": len(set(digests)),
        "top_speed": round(max(speeds), 4),
        "image_shape": shape,
    }
    if shape != [120, 160, 3]:
        finish(result, 4)
    if len(set(digests)) < 0.8 * len(digests):
        finish(result, 3)
    if len(errors) < args.steps or mean > args.max_mean_cte or max(speeds) < 0.2:
        finish(result, 5)
    finish(result, 0)


if __name__ == "__main__":
    main()
