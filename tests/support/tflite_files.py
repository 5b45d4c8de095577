"""The small TFLite classifiers of tests/golden/tflite, edited copies of them, and LiteRT run by hand."""

from functools import cache

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from places import GOLDEN

FOLDER = GOLDEN / "tflite"
WHOLE = ("one_layer", "two_layers", "binary", "convolution")


@cache
def content(name):
    return (FOLDER / f"{name}.tflite").read_bytes()


def edited(name, edit):
    """Return a file after `edit(model)` changed the objects of the format's Python API."""
    model = schema.ModelT.InitFromPackedBuf(content(name), 0)
    edit(model)
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def images(count, high=256, seed=0):
    return np.random.default_rng(seed).integers(0, high, (count, 8, 8, 3), np.uint8)


def every_tensor(file, taken):
    """Run a file on one input with LiteRT's own kernels and return all of its tensors by number."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    run = Interpreter(model_content=file, experimental_op_resolver_type=kind, experimental_preserve_all_tensors=True)
    run.allocate_tensors()
    run.set_tensor(run.get_input_details()[0]["index"], taken)
    run.invoke()
    return {d["index"]: run.get_tensor(d["index"]).copy() for d in run.get_tensor_details() if 0 not in d["shape"]}
