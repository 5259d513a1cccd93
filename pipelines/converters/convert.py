#!/usr/bin/env python3
"""Turns a model of another framework into ONNX. Runs in a container that has nothing else.

In on standard input: a tar archive with request.json, model and code/*.py. Out on standard output: a
tar archive with answer.json and, when that says so, model.onnx. Both formats: docs/builders.md.

The model is a stranger's and may be a program (a pickle is one). What holds it is the container, not
this script; nothing that leaves here is believed further than as an ONNX file of a stranger.
"""

import io
import json
import os
import pathlib
import sys
import tarfile

from frameworks import LOADERS, Refused

# What the pipeline takes; it checks again.
MAX_OPSET = 17
# Format version of the file: the newest that goes with opset 17.
IR_VERSION = 8
# Text that is quoted from a library's error.
MAX_MESSAGE = 2000


def receive(stream, folder):
    """Unpacks the request; names are ours, so anything else is a mistake of the caller."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = pathlib.PurePosixPath(member.name)
            if not member.isreg() or name.is_absolute() or ".." in name.parts:
                raise SystemExit(f"convert: {member.name}: not expected")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as out:
                source = archive.extractfile(member)
                while chunk := source.read(1 << 20):
                    out.write(chunk)
    return json.loads((folder / "request.json").read_text("utf-8"))


def send(stream, answer, model=None):
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in [("answer.json", json.dumps(answer).encode()), ("model.onnx", model)]:
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    stream.flush()


def samples(request):
    """Inputs that anybody can make again from the seed."""
    import numpy

    wanted = request["samples"]
    random = numpy.random.default_rng(wanted["seed"])
    for _ in range(wanted["count"]):
        picture = random.uniform(wanted["low"], wanted["high"], request["input"]["shape"])
        yield picture.astype(numpy.float32)


def finish(model, request):
    """Brings the graph to the shape that the card speaks of: names, one output for each meaning."""
    import numpy
    import onnx
    from onnx import TensorProto, helper

    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise Refused("inputs", f"the model has {len(inputs)} inputs; a pilot has one, the picture")
    name, shape = request["input"]["name"], request["input"]["shape"]
    wanted = request["outputs"]
    inner = inputs[0]
    dims = [d.dim_value if d.HasField("dim_value") else None for d in inner.type.tensor_type.shape.dim]
    graph_in = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    nodes = []
    if len(dims) == len(shape):
        rename(graph, inner.name, name)
    else:
        # scikit-learn takes rows of numbers; the car has a picture.
        if name == inner.name:
            rename(graph, inner.name, f"{name}_rows")
            inner = helper.make_tensor_value_info(f"{name}_rows", TensorProto.FLOAT, None)
        graph.initializer.append(helper.make_tensor(f"{name}_shape", TensorProto.INT64, [2], [1, -1]))
        nodes.append(helper.make_node("Reshape", [name, f"{name}_shape"], [inner.name]))
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + old)
    kept = [value for value in graph.input if value.name in weights]
    del graph.input[:]
    graph.input.extend([graph_in, *kept])

    outputs = [value.name for value in graph.output]
    del graph.output[:]
    if len(outputs) == len(wanted):
        for before, after in zip(outputs, wanted):
            rename(graph, before, after)
    elif len(outputs) == 1:
        graph.initializer.append(
            helper.make_tensor("pitlane_split", TensorProto.INT64, [len(wanted)], [1] * len(wanted)))
        # Some exporters give the numbers of one picture as rows.
        graph.initializer.append(helper.make_tensor("pitlane_row", TensorProto.INT64, [2], [1, len(wanted)]))
        graph.node.append(helper.make_node("Reshape", [outputs[0], "pitlane_row"], ["pitlane_numbers"]))
        graph.node.append(helper.make_node("Split", ["pitlane_numbers", "pitlane_split"], wanted, axis=1))
    else:
        raise Refused("outputs", f"the model has {len(outputs)} outputs, the request {len(wanted)}")
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in wanted)
    model.ir_version = IR_VERSION
    # Exporters leave shapes out that a card must fit: they are those that come out.
    shapes = [out.shape for out in
              runner(model.SerializeToString(), request)(numpy.zeros(shape, numpy.float32))]
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(wanted, shapes))
    if any(weight.external_data for weight in model.graph.initializer):
        raise Refused("not-single-file", "the exporter put weights outside of the file")
    standard = [s.version for s in model.opset_import if s.domain in ("", "ai.onnx")]
    if standard != [v for v in standard if v <= min(MAX_OPSET, request["opset"])] or not standard:
        raise Refused("opset", f"the exporter wrote opset {standard}, at most {request['opset']} was asked for")
    used = {node.domain for node in model.graph.node}
    for unused in [s for s in model.opset_import if s.domain not in used | {"", "ai.onnx"}]:
        model.opset_import.remove(unused)
    onnx.checker.check_model(model)
    return model, standard[0]


def rename(graph, before, after):
    for node in graph.node:
        node.input[:] = [after if n == before else n for n in node.input]
        node.output[:] = [after if n == before else n for n in node.output]
    for value in list(graph.value_info):
        if value.name == before:
            graph.value_info.remove(value)


def runner(data, request):
    """A function from one picture to what the file gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run(None, {request["input"]["name"]: picture})


def compare(original, data, request):
    """The largest difference between the original and the file, over all samples and outputs."""
    import numpy

    worst = 0.0
    exported = runner(data, request)
    for picture in samples(request):
        ours = numpy.concatenate([numpy.ravel(o) for o in exported(picture)])
        theirs = numpy.concatenate([numpy.ravel(numpy.asarray(o, numpy.float32)) for o in original(picture)])
        if ours.shape != theirs.shape:
            raise Refused("shape", f"the original gives {theirs.shape[0]} numbers, the file {ours.shape[0]}")
        if not (numpy.isfinite(ours).all() and numpy.isfinite(theirs).all()):
            raise Refused("not-finite", "an output is no number; widen or narrow samples.low and .high")
        worst = max(worst, float(numpy.abs(ours - theirs).max()))
    return worst


def convert(request, folder):
    kind = request["framework"]["kind"]
    loader = LOADERS.get(kind)
    if loader is None:
        raise Refused("framework", f"{kind} is not known to this converter")
    sys.path.insert(0, str(folder / "code"))
    original, exported, versions = loader(request, folder)
    model, opset = finish(exported, request)
    data = model.SerializeToString()
    worst = compare(original, data, request)
    if worst > request["tolerance"]:
        raise Refused("differs", f"the file differs from the original by {worst:g}, at most {request['tolerance']:g}")
    answer = {"outcome": "converted", "opset": opset, "maxDifference": worst,
              "samples": request["samples"]["count"], "versions": versions}
    return answer, data


def main():
    # Libraries print; what is printed must not end up in the archive.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    folder = pathlib.Path("/tmp/work")
    folder.mkdir()
    os.chdir(folder)
    head = {"apiVersion": "pitlane.dev/v1", "kind": "Conversion"}
    request = receive(sys.stdin.buffer, folder)
    try:
        answer, data = convert(request, folder)
    except Refused as refused:
        answer, data = {"outcome": "refused", "code": refused.code, "message": str(refused)[:MAX_MESSAGE]}, None
    except ImportError as error:
        answer, data = {"outcome": "refused", "code": "import", "message":
                        f"{error}; is this the converter image for the framework, and is all code in the request?"
                        [:MAX_MESSAGE]}, None
    except Exception as error:  # a library's own; which one depends on the model
        message = f"{type(error).__name__}: {error}"[:MAX_MESSAGE]
        answer, data = {"outcome": "refused", "code": "unreadable", "message": message}, None
    send(out, head | answer, data)


if __name__ == "__main__":
    main()
