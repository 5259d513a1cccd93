"""A client of pitlane-twin: starts it, speaks the Donkey protocol with it, in lock step."""

import base64
import io
import json
import os
import socket
import subprocess
import tempfile

import numpy as np
from PIL import Image

# The cross-track error and node positions are sent in units of an eighth of a metre.
UNITS_PER_METRE = 8.0
PATIENCE_S = 30.0


class Twin:
    """A running pitlane-twin with one connected client, on a scene. Use with `with`."""

    def __init__(self, binary, track, light, seed, options=(), quiet=True):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "twin.sock")
        command = [binary, "--listen", f"unix:{path}", "--lock-step", "--track", track]
        command += ["--light", light, "--seed", str(seed), *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None
        )
        json.loads(self.process.stdout.readline())
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb", buffering=256 * 1024)
        self.load(track)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)
        self.process.stdout.close()
        self.folder.cleanup()

    def say(self, kind, **fields):
        """Sends a message: numbers as strings and nothing after the object, as clients do."""
        fields = {key: str(value) for key, value in fields.items()}
        try:
            self.socket.sendall(json.dumps({"msg_type": kind, **fields}).encode())
        except (BrokenPipeError, ConnectionResetError):
            # A judged run is over; what was sent before can still be read.
            pass

    def hear(self, kind):
        """The next message of a kind; None when the twin has closed the connection."""
        while True:
            try:
                line = self.lines.readline()
            except ConnectionResetError:
                return None
            if not line:
                return None
            message = json.loads(line)
            if message["msg_type"] == kind:
                return message

    def load(self, track):
        self.hear("scene_selection_ready")
        self.say("load_scene", scene_name=track)
        self.hear("car_loaded")

    def regenerate(self, seed):
        """Another generated road."""
        self.say("regen_road", road_style=0, rand_seed=seed, turn_increment="0.0")
        self.hear("car_loaded")

    def frame(self):
        """The next telemetry, its picture decoded to `rgb` (rows, columns, 3), or None."""
        message = self.hear("telemetry")
        if message is not None:
            data = base64.b64decode(message.pop("image"))
            message["rgb"] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return message

    def control(self, steering, throttle):
        self.say("control", steering=round(steering, 6), throttle=round(throttle, 6), brake="0.0")

    def place(self, x, z, yaw):
        """Puts the car at a place (metres) with a heading (radians, clockwise from +z)."""
        self.say(
            "set_position",
            pos_x=x * UNITS_PER_METRE, pos_y=0, pos_z=z * UNITS_PER_METRE,
            Qx=0, Qy=np.sin(yaw / 2), Qz=0, Qw=np.cos(yaw / 2),
        )  # fmt: skip

    def centreline(self, nodes):
        """The centreline's nodes as an array of (x, z) in metres."""
        for index in range(nodes):
            self.say("node_position", index=index)
        points = [self.hear("node_position") for _ in range(nodes)]
        return np.array([(p["pos_x"], p["pos_z"]) for p in points]) / UNITS_PER_METRE
