"""How each framework's model is loaded, run and exported.

A loader gives: a function from one picture to the original's outputs, the exported ONNX model, and
the versions that did it.
"""

import importlib


class Refused(Exception):
    """The model cannot be converted: a code that stays, and what to do."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def example(request):
    import numpy

    return numpy.zeros(request["input"]["shape"], numpy.float32)


def export_torch(network, request):
    import io
    import onnx
    import torch

    network.eval()

    def original(picture):
        with torch.no_grad():
            out = network(torch.from_numpy(picture))
        return [o.numpy() for o in out] if isinstance(out, (tuple, list)) else [out.numpy()]

    count = len(original(example(request)))
    data = io.BytesIO()
    torch.onnx.export(network, torch.from_numpy(example(request)), data, opset_version=request["opset"],
                      input_names=["pitlane_in"], output_names=[f"pitlane_out{i}" for i in range(count)])
    return original, onnx.load_from_string(data.getvalue()), {"torch": torch.__version__}


def pytorch(request, folder):
    import pickle
    import torch

    framework = request["framework"]
    module, _, name = framework["class"].rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise Refused("class", f"{module}.py has no class {name}")
    network = found(**framework["arguments"])
    try:
        state = torch.load(folder / "model", map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused("state-dict", f"not a plain state dict; save model.state_dict(): {error}") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise Refused("state-dict", f"does not fit {framework['class']}: {error}") from error
    return export_torch(network, request)


def torchscript(request, folder):
    import torch

    return export_torch(torch.jit.load(str(folder / "model"), map_location="cpu"), request)


def keras(request, folder):
    import tensorflow
    import tf2onnx

    # Keras looks at the name to tell its formats apart.
    kind = "h5" if (folder / "model").open("rb").read(4) == b"\x89HDF" else "keras"
    path = (folder / "model").rename(folder / f"model.{kind}")
    # safe_mode: layers that carry code are refused.
    model = tensorflow.keras.models.load_model(path, compile=False, safe_mode=True)
    spec = [tensorflow.TensorSpec(request["input"]["shape"], tensorflow.float32, name="pitlane_in")]
    call = tensorflow.function(lambda picture: model(picture, training=False), input_signature=spec)
    exported, _ = tf2onnx.convert.from_function(call, input_signature=spec, opset=request["opset"])

    def original(picture):
        out = model(picture, training=False)
        return [o.numpy() for o in out] if isinstance(out, (tuple, list)) else [out.numpy()]

    return original, exported, {"tensorflow": tensorflow.__version__, "tf2onnx": tf2onnx.__version__}


def tflite(request, folder):
    import tensorflow
    import tf2onnx

    path = str(folder / "model")
    exported, _ = tf2onnx.convert.from_tflite(path, opset=request["opset"])
    interpreter = tensorflow.lite.Interpreter(model_path=path)
    interpreter.allocate_tensors()
    # In the order of the graph, which is the exporter's.
    outputs = interpreter.get_output_details()

    def original(picture):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
        interpreter.invoke()
        return [interpreter.get_tensor(o["index"]).copy() for o in outputs]

    return original, exported, {"tensorflow": tensorflow.__version__, "tf2onnx": tf2onnx.__version__}


def sklearn(request, folder):
    import math
    import pickle
    import joblib
    import sklearn as library
    import skl2onnx

    try:
        # Runs the pickle; joblib reads plain pickles, too.
        model = joblib.load(folder / "model")
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise Refused("unreadable", f"no pickle of scikit-learn {library.__version__}: {error}") from error
    features = math.prod(request["input"]["shape"][1:])
    rows = [("pitlane_rows", skl2onnx.common.data_types.FloatTensorType([1, features]))]
    classifier = hasattr(model, "predict_proba")
    exported = skl2onnx.convert_sklearn(
        model, initial_types=rows, target_opset={"": request["opset"], "ai.onnx.ml": 3},
        options={"zipmap": False} if classifier else None)
    if classifier:
        # What drives is how sure it is of each class; the label is the largest of them.
        del exported.graph.output[0]
    answer = model.predict_proba if classifier else model.predict

    def original(picture):
        return [answer(picture.reshape(1, -1))]

    return original, exported, {"scikit-learn": library.__version__, "skl2onnx": skl2onnx.__version__}


LOADERS = {"pytorch": pytorch, "torchscript": torchscript, "keras": keras, "tflite": tflite, "sklearn": sklearn}
