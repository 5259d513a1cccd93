#!/usr/bin/env python3
"""Trains the example pilot by imitation of an expert that knows the road, in pitlane-twin.

    train.py --twin ../../../target/release/pitlane-twin --out ../models

Writes pilot.onnx and its card pilot.yaml. With the packages of requirements.txt, on the same kind of
processor, the file comes out the same byte for byte: the twin runs in lock step, every draw comes
from --seed, and the arithmetic runs in one thread.
"""

import os

# Before jax is loaded: one thread, so that sums are always taken in the same order.
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=1"
)
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", JAX_PLATFORMS="cpu")

import argparse
import hashlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from twin import Twin

# What is learnt from. Held out, and used by evaluate.py only: the track generated_track and the
# default generated_road, the lights dusk, glare and lamps, and the places in HELD_OUT_STARTS.
SCENES = ["generated_road", "warehouse", "generated_road", "sparkfun_avc", "mountain_track"]
LIGHTS = ["random", "random", "day", "random", "random", "overcast", "random"]
HELD_OUT_STARTS = (0.13, 0.55)
HELD_OUT_REACH = 0.015
WORLDS, FRAMES_PER_WORLD, CHECK_WORLDS = 60, 150, 5

# The expert: pure pursuit, slower where the road bends.
WHEELBASE_M, MAX_STEER = 0.2125, np.radians(16.0)
LOOK_AHEAD_M, SLOW_AHEAD_M = 0.55, 1.3
FAST, SLOW = 0.30, 0.22
STRAIGHT, BENT = 0.25, 0.65

BATCH, EPOCHS, RATE = 64, 10, 1.5e-3
THROTTLE_MIDDLE, THROTTLE_SPREAD = 0.26, 0.04


class Expert:
    """Knows the centreline (nodes, metres) and says what to do from any pose."""

    def __init__(self, nodes):
        self.nodes = nodes
        steps = np.roll(nodes, -1, axis=0) - nodes
        self.length = np.linalg.norm(steps, axis=1)
        self.yaw = np.arctan2(steps[:, 0], steps[:, 1])
        turn = np.roll(self.yaw, -1) - self.yaw
        self.bend = np.abs((turn + np.pi) % (2 * np.pi) - np.pi) / self.length

    def ahead(self, index, metres):
        """Indices of the nodes from one on, over a distance."""
        count = int(np.ceil(metres / self.length.mean())) + 1
        return [(index + i) % len(self.nodes) for i in range(count)]

    def control(self, x, z, yaw):
        """(steering, throttle) for a pose."""
        away = np.linalg.norm(self.nodes - (x, z), axis=1)
        nearest = int(away.argmin())
        line = self.nodes[self.ahead(nearest, 3.0)] - (x, z)
        reach = np.linalg.norm(line, axis=1)
        # The first crossing of the look-ahead circle; far off the line, the nearest point ahead.
        beyond = np.flatnonzero(reach >= max(LOOK_AHEAD_M, reach[0] * 1.05))
        last = beyond[0] if len(beyond) else len(line) - 1
        goal, radius = line[last], reach[last]
        if last > 0 and reach[last - 1] < LOOK_AHEAD_M < radius:
            part = (LOOK_AHEAD_M - reach[last - 1]) / (radius - reach[last - 1])
            goal = line[last - 1] + part * (goal - line[last - 1])
            radius = np.linalg.norm(goal)
        right = goal[0] * np.cos(yaw) - goal[1] * np.sin(yaw)
        angle = np.arctan(2.0 * WHEELBASE_M * right / radius**2)
        sharpest = self.bend[self.ahead(nearest, SLOW_AHEAD_M)].max()
        bent = np.clip((sharpest - STRAIGHT) / (BENT - STRAIGHT), 0.0, 1.0)
        return float(np.clip(angle / MAX_STEER, -1, 1)), float(FAST + (SLOW - FAST) * bent)


def halved(rgb):
    """The mean of each 2x2 block, as the network's first layer takes it."""
    rows, columns, _ = rgb.shape
    return rgb.reshape(rows // 2, 2, columns // 2, 2, 3).mean(axis=(1, 3), dtype=np.float32)


def held_out(fraction):
    distance = [abs((fraction - start + 0.5) % 1.0 - 0.5) for start in HELD_OUT_STARTS]
    return min(distance) < HELD_OUT_REACH


def visit(binary, number, frames, seed):
    """Pictures and the expert's answers from random poses in one world.

    The car is put down anew for each picture, on the line and off it, askew and straight: what a
    pilot sees after its own mistakes is as common as what it sees when all is well.
    """
    rng = np.random.default_rng([seed, number])
    scene, light = SCENES[number % len(SCENES)], LIGHTS[number % len(LIGHTS)]
    pictures, answers = [], []
    with Twin(binary, scene, light, 1000 * seed + number) as twin:
        if scene == "generated_road":
            # Never 7, the default road.
            twin.regenerate(100 + 1000 * seed + number)
        frame = twin.frame()
        nodes = twin.centreline(frame["totalNodes"])
        expert = Expert(nodes)
        while len(pictures) < frames:
            fraction = rng.random()
            if held_out(fraction):
                continue
            index = int(fraction * len(nodes))
            if rng.random() < 0.5:
                offset, askew = rng.normal(0, 0.08), rng.normal(0, 0.10)
            else:
                offset, askew = rng.uniform(-0.36, 0.36), rng.uniform(-0.5, 0.5)
            yaw = expert.yaw[index]
            at = nodes[index] + rng.random() * (nodes[(index + 1) % len(nodes)] - nodes[index])
            at = at + offset * np.array([np.cos(yaw), -np.sin(yaw)])
            twin.place(at[0], at[1], yaw + askew)
            twin.control(0, 0)
            frame = twin.frame()
            if frame["hit"] != "none":
                continue
            heading = np.radians(frame["yaw"])
            pictures.append(np.round(halved(frame["rgb"])).astype(np.uint8))
            answers.append(expert.control(frame["pos_x"], frame["pos_z"], heading))
    return np.stack(pictures), np.array(answers, dtype=np.float32)


def gather(binary, worlds, seed):
    seen = [visit(binary, number, FRAMES_PER_WORLD, seed) for number in worlds]
    pictures = np.concatenate([pictures for pictures, _ in seen])
    answers = np.concatenate([answers for _, answers in seen])
    answers[:, 1] = (answers[:, 1] - THROTTLE_MIDDLE) / THROTTLE_SPREAD
    return pictures, answers


# The network: three convolutions and two dense layers on the halved picture.
CONVOLUTIONS = [(5, 3, 16, 2), (3, 16, 32, 2), (3, 32, 48, 2)]  # size, in, out, stride
FLAT, HIDDEN = 6 * 8 * 48, 96


def fresh(key):
    shapes = [((s, s, i, o), s * s * i) for s, i, o, _ in CONVOLUTIONS]
    shapes += [((FLAT, HIDDEN), FLAT), ((HIDDEN, 2), HIDDEN)]
    keys = jax.random.split(key, len(shapes))
    return [
        (jax.random.normal(k, shape) * np.sqrt(2.0 / fan), jnp.zeros(shape[-1]))
        for k, (shape, fan) in zip(keys, shapes)
    ]


def network(weights, pictures, drop=None):
    """(batch, 2): steering in -1..1 and scaled throttle, from halved pictures in 0..1."""
    x = 2.0 * pictures - 1.0
    for (w, b), (_, _, _, stride) in zip(weights, CONVOLUTIONS):
        x = jax.lax.conv_general_dilated(
            x, w, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + b)
    x = x.reshape(len(x), -1)
    if drop is not None:
        x = x * jax.random.bernoulli(drop, 0.8, x.shape) / 0.8
    (w, b), (v, c) = weights[len(CONVOLUTIONS) :]
    out = jax.nn.relu(x @ w + b) @ v + c
    return jnp.stack([jnp.tanh(out[:, 0]), out[:, 1]], axis=1)


def disturbed(key, pictures, answers):
    """Mirrors half of the pictures and changes light, colour and noise of all."""
    keys = jax.random.split(key, 7)
    count = len(pictures)
    draw = lambda k, shape, low, high: jax.random.uniform(k, shape, minval=low, maxval=high)
    mirror = jax.random.bernoulli(keys[0], 0.5, (count,))
    pictures = jnp.where(mirror[:, None, None, None], pictures[:, :, ::-1], pictures)
    answers = answers * jnp.where(mirror[:, None], jnp.array([-1.0, 1.0]), 1.0)
    x = pictures.astype(jnp.float32) / 255.0
    x = x * draw(keys[1], (count, 1, 1, 1), 0.5, 1.35) * draw(keys[2], (count, 1, 1, 3), 0.85, 1.15)
    x = x + draw(keys[3], (count, 1, 1, 1), -0.08, 0.12)
    # A brightness that changes across the picture, as lamps and low light make it.
    slope = draw(keys[4], (count, 2), -0.25, 0.25)
    rows, columns = jnp.linspace(-1, 1, x.shape[1]), jnp.linspace(-1, 1, x.shape[2])
    ramp = slope[:, :1, None] * rows[None, :, None] + slope[:, 1:, None] * columns[None, None, :]
    x = x + ramp[..., None]
    sigma = draw(keys[5], (count, 1, 1, 1), 0.0, 0.03)
    x = x + sigma * jax.random.normal(keys[6], x.shape)
    return jnp.clip(x, 0.0, 1.0), answers


def loss(weights, pictures, answers, drop=None):
    error = network(weights, pictures, drop) - answers
    return jnp.mean(error[:, 0] ** 2) + 0.05 * jnp.mean(error[:, 1] ** 2)


@jax.jit
def step(weights, moments, number, total, key, pictures, answers):
    """One step of Adam, its rate falling as a cosine."""
    keys = jax.random.split(key)
    pictures, answers = disturbed(keys[0], pictures, answers)
    value, slopes = jax.value_and_grad(loss)(weights, pictures, answers, keys[1])
    rate = RATE * 0.5 * (1 + jnp.cos(jnp.pi * number / total)) * jnp.minimum(1.0, number / 100)
    mean, square = moments
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slopes)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, slopes)
    fix = (1 - 0.9**number, 1 - 0.999**number)
    weights = jax.tree.map(
        lambda w, m, s: w - rate * (m / fix[0]) / (jnp.sqrt(s / fix[1]) + 1e-8),
        weights, mean, square,
    )  # fmt: skip
    return weights, (mean, square), value


def learn(pictures, answers, check, seed):
    key = jax.random.key(seed)
    weights = fresh(key)
    zero = jax.tree.map(jnp.zeros_like, weights)
    moments, number = (zero, zero), 0
    order = np.random.default_rng(seed)
    total = EPOCHS * (len(pictures) // BATCH)
    judge = jax.jit(network)
    for epoch in range(EPOCHS):
        values = []
        shuffled = order.permutation(len(pictures))
        for first in range(0, len(pictures) - BATCH + 1, BATCH):
            rows = shuffled[first : first + BATCH]
            number += 1
            weights, moments, value = step(
                weights, moments, float(number), float(total),
                jax.random.fold_in(key, number), pictures[rows], answers[rows],
            )  # fmt: skip
            values.append(value)
        answer = np.concatenate(
            [judge(weights, part / np.float32(255)) for part in np.array_split(check[0], 6)]
        )
        error = float(np.abs(answer[:, 0] - check[1][:, 0]).mean())
        print(f"epoch {epoch + 1:2}: loss {np.mean(values):.5f}, unseen steering error {error:.4f}")
    return weights, error


def graph(weights):
    """The ONNX model: standard operators only, input as the car gives it."""
    arrays, nodes = {}, []

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    x = node("Transpose", ["img_in"], "channels_first", perm=[0, 3, 1, 2])
    x = node("AveragePool", [x], "halved", kernel_shape=[2, 2], strides=[2, 2])
    for i, ((w, b), (_, _, _, stride)) in enumerate(zip(weights, CONVOLUTIONS)):
        w, b = np.asarray(w, np.float32), np.asarray(b, np.float32)
        if i == 0:
            # Training sees 2x - 1 where the car gives x: folded into the first layer.
            b, w = b - w.sum(axis=(0, 1, 2)), 2.0 * w
        arrays[f"conv{i}_w"], arrays[f"conv{i}_b"] = w.transpose(3, 2, 0, 1), b
        x = node("Conv", [x, f"conv{i}_w", f"conv{i}_b"], f"conv{i}", strides=[stride, stride])
        x = node("Relu", [x], f"relu{i}")
    # Dense weights were learnt for rows, columns, channels.
    x = node("Flatten", [node("Transpose", [x], "channels_last", perm=[0, 2, 3, 1])], "flat")
    (w, b), (v, c) = [(np.asarray(w), np.asarray(b)) for w, b in weights[len(CONVOLUTIONS) :]]
    arrays["dense_w"], arrays["dense_b"] = w, b
    x = node("Relu", [node("Gemm", [x, "dense_w", "dense_b"], "dense")], "hidden")
    arrays["steering_w"], arrays["steering_b"] = v[:, :1], c[:1]
    arrays["throttle_w"] = v[:, 1:] * THROTTLE_SPREAD
    arrays["throttle_b"] = c[1:] * THROTTLE_SPREAD + THROTTLE_MIDDLE
    node("Tanh", [node("Gemm", [x, "steering_w", "steering_b"], "steering")], "n_outputs0")
    node("Gemm", [x, "throttle_w", "throttle_b"], "n_outputs1")
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    body = helper.make_graph(
        nodes,
        "pilot",
        [value("img_in", [1, 120, 160, 3])],
        [value("n_outputs0", [1, 1]), value("n_outputs1", [1, 1])],
        [
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            for name, array in arrays.items()
        ],
    )
    model = helper.make_model(
        body, producer_name="pitlane-train", opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


CARD = """\
apiVersion: pitlane.dev/v1
kind: ModelCard
name: donkeycar-linear
pilot: linear
input:
  shape: [1, 120, 160, 3]
  layout: NHWC
  channels: RGB
  scale: 0.00392156862745098
outputs:
  - {{ name: n_outputs0, meaning: steering }}
  - {{ name: n_outputs1, meaning: throttle }}
training:
  data: "twin: {frames} pictures from {worlds} worlds (generated roads, warehouse, sparkfun_avc, mountain_track; lights random, day, overcast); held out: generated_track, the default generated_road, dusk, glare, lamps"
  script: train.py
  seed: {seed}
license: Apache-2.0
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--twin", required=True, help="the pitlane-twin program")
    arguments.add_argument("--out", required=True, help="folder for pilot.onnx and pilot.yaml")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--cache", help="keep the pictures in this .npz, or take them from it")
    args = arguments.parse_args()

    began = time.monotonic()
    if args.cache and os.path.exists(args.cache):
        stored = np.load(args.cache)
        data, check = (stored["a"], stored["b"]), (stored["c"], stored["d"])
    else:
        data = gather(args.twin, range(WORLDS), args.seed)
        # Other worlds, to see whether the roads were learnt or the pictures.
        check = gather(args.twin, range(500, 500 + CHECK_WORLDS), args.seed)
        if args.cache:
            np.savez(args.cache, a=data[0], b=data[1], c=check[0], d=check[1])
    print(f"{len(data[0])} pictures in {time.monotonic() - began:.0f} s")
    weights, error = learn(*data, check, args.seed)
    model = graph(weights)
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "pilot.onnx"), "wb") as file:
        file.write(model)
    with open(os.path.join(args.out, "pilot.yaml"), "w") as file:
        file.write(CARD.format(frames=len(data[0]), worlds=WORLDS, seed=args.seed))
    digest = hashlib.sha256(model).hexdigest()
    print(f"{len(model)} bytes, sha256:{digest}, {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
