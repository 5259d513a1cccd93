#!/usr/bin/env python3
"""Makes the models beside it, which the tests load: a few kilobytes each, none of them trained.

  tiny     steering and throttle from brightness in four quarters of the frame; well inside -1..1
  nan      like tiny, but the throttle is NaN for bright frames (the root of a negative number)
  wild     like tiny, but far outside -1..1
  endless  like tiny, but the throttle comes out of a loop of 2^62 rounds

Needs the packages onnx and numpy; the same files come out each time.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh

HERE = Path(__file__).resolve().parent


CARD = """\
apiVersion: pitlane.dev/v1
kind: ModelCard
name: %s
pilot: linear
input:
  shape: [1, 120, 160, 3]
  layout: NHWC
  channels: RGB
  scale: 0.00392156862745098
outputs:
  - { name: n_outputs0, meaning: steering }
  - { name: n_outputs1, meaning: throttle }
training: { data: none, script: made by hand for the tests }
license: Apache-2.0
"""


def save(name, nodes, constants):
    """The model with these nodes from img_in to n_outputs0 and n_outputs1, and its card."""
    one = [1, 1]
    outputs = [h.make_tensor_value_info(f"n_outputs{i}", T.FLOAT, one) for i in range(2)]
    image = h.make_tensor_value_info("img_in", T.FLOAT, [1, 120, 160, 3])
    graph = h.make_graph(nodes, name, [image], outputs, constants)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], producer_name="pitlane")
    model.ir_version = 8
    onnx.checker.check_model(model)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    (HERE / f"{name}.yaml").write_text(CARD % name)


def constant(name, value):
    return nh.from_array(np.asarray(value), name)


def floats(name, *values):
    return constant(name, np.array(values, np.float32))


def node(kind, inputs, output, **attributes):
    return h.make_node(kind, inputs, [output], **attributes)


def answer(number, gain, bias):
    return node("Gemm", ["features", gain, bias], f"n_outputs{number}")


rng = np.random.default_rng(7)
kernel = rng.uniform(-0.04, 0.06, (4, 3, 5, 5)).astype(np.float32)
# 4 features in 2x2 regions; small weights keep both answers well inside -1..1.
steer = (rng.standard_normal((16, 1)) * 0.2).astype(np.float32)
gas = np.abs(rng.standard_normal((16, 1)) * 0.02).astype(np.float32)
look = [
    node("Transpose", ["img_in"], "planes", perm=[0, 3, 1, 2]),
    node("Conv", ["planes", "kernel", "bias"], "edges", strides=[2, 2], kernel_shape=[5, 5]),
    node("Relu", ["edges"], "lit"),
    node("AveragePool", ["lit"], "quarters", kernel_shape=[29, 39], strides=[29, 39]),
    node("Flatten", ["quarters"], "features"),
]
seen = [constant("kernel", kernel), floats("bias", *[0.05] * 4)]
steering = [constant("steer", steer), floats("straight", 0.0)]
throttle = [constant("gas", gas), floats("idle", 0.2)]

save("tiny", [*look, answer(0, "steer", "straight"), answer(1, "gas", "idle")],
     seen + steering + throttle)

save("nan", [
    *look,
    answer(0, "steer", "straight"),
    node("ReduceMean", ["img_in"], "mean", axes=[0, 1, 2, 3], keepdims=1),
    node("Sub", ["half", "mean"], "dark"),
    node("Sqrt", ["dark"], "root"),
    node("Reshape", ["root", "shape"], "n_outputs1"),
], seen + steering + [floats("half", 0.5), constant("shape", np.array([1, 1], np.int64))])

save("wild", [*look, answer(0, "steer", "left"), answer(1, "gas", "full")],
     [*seen, steering[0], throttle[0], floats("left", -50.0), floats("full", 90.0)])

body = h.make_graph(
    [node("Identity", ["on"], "still_on"), node("Add", ["sum", "little"], "more")],
    "round",
    [h.make_tensor_value_info("round", T.INT64, []), h.make_tensor_value_info("on", T.BOOL, []),
     h.make_tensor_value_info("sum", T.FLOAT, [1, 1])],
    [h.make_tensor_value_info("still_on", T.BOOL, []),
     h.make_tensor_value_info("more", T.FLOAT, [1, 1])],
    [constant("little", np.array([[1e-6]], np.float32))],
)
save("endless", [
    *look,
    answer(0, "steer", "straight"),
    node("Gemm", ["features", "gas", "idle"], "start"),
    node("Loop", ["rounds", "yes", "start"], "n_outputs1", body=body),
], seen + steering + throttle + [constant("rounds", np.int64(1 << 62)), constant("yes", np.bool_(True))])
