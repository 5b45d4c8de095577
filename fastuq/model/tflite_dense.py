"""The dense layers that a TFLite file ends in, with the integers that it holds of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.tflite_graph import Graph, Scale, damage_refused

_FUSED = {0: "linear", 1: "relu"}
_SEPARATE = {"RELU": "relu", "LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}
_PASSING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE")
_BETWEEN = ("linear", "relu", "sigmoid")
"""Activations that int8 codes between two layers stand for as the file's own do."""


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer of a TFLite file: FULLY_CONNECTED, or CONV_2D of one pixel.

    Attributes
    ----------
    weights : ndarray, (inputs, outputs), int16
        q - zero point, from -255 to 255.
    scales : ndarray, (outputs,), float64
        What a step of the weights of each output is.
    bias : ndarray, (outputs,), float64
        Real values.
    activation : str
    taken, given : Scale
        Of what goes in, and of the sums before a softmax or sigmoid.
    source, result : int
        Their tensors.
    """

    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    activation: str
    taken: Scale
    given: Scale
    source: int
    result: int


def dense_layers(graph: Graph) -> list[DenseLayer]:
    """Return the dense layers at the end of a file, in their order; an unknown operation ends the search.

    Raises
    ------
    ModelError
        There is none.
    """
    with damage_refused(graph.name):
        return _search(graph)


def _search(graph: Graph) -> list[DenseLayer]:
    found: list[DenseLayer] = []
    tensor, activation = graph.output, "linear"
    while (made := graph.maker(tensor)) is not None:
        kind, op = made
        if kind in _SEPARATE and activation == "linear" and getattr(op.builtinOptions, "beta", 1.0) == 1.0:
            activation = _SEPARATE[kind]
        elif kind in ("FULLY_CONNECTED", "CONV_2D"):
            layer = _dense(graph, op, activation)
            if layer is None or (found and not _fits(layer, found[0])):
                break
            found.insert(0, layer)
            activation = "linear"
        elif kind not in _PASSING:
            break
        tensor = int(op.inputs[0])
    if not found:
        made = graph.maker(tensor)
        what = graph.dtype(tensor) + " images" if made is None else _shown(graph, *made)
        raise ModelError(
            f"{graph.name}: expected int8 dense layers (FULLY_CONNECTED, or CONV_2D of one pixel) at the end, found "
            f"{what}; export the classifier with full integer quantization, or cut it elsewhere: --cut TENSOR with a "
            "head of your own, --head HEAD.npz"
        )
    return found


def two_classes(layer: DenseLayer) -> DenseLayer:
    """Return a last layer of one sigmoid unit p as two classes, 1 - p and p: the softmax of -z / 2 and z / 2."""
    weights, bias = (np.concatenate([-each, each], axis=-1) for each in (layer.weights, layer.bias / 2))
    return replace(layer, weights=weights, bias=bias, scales=np.repeat(layer.scales / 2, 2), activation="softmax")


def _fits(layer: DenseLayer, following: DenseLayer) -> bool:
    return layer.activation in _BETWEEN and layer.weights.shape[1] == following.weights.shape[0]


def _dense(graph: Graph, op: Any, activation: str) -> DenseLayer | None:
    """Return the dense layer that an operation is; None where it is none whose integers are known."""
    fused = _FUSED.get(getattr(op.builtinOptions, "fusedActivationFunction", 0))
    source, result = int(op.inputs[0]), int(op.outputs[0])
    taken, given = graph.scale(source), graph.scale(result)
    if fused is None or (fused != "linear" and activation != "linear") or taken is None or given is None:
        return None
    weights, shape = _weights(graph, int(op.inputs[1])), graph.shape(source)
    if weights is None or not shape or bool(getattr(op.builtinOptions, "weightsFormat", False)):
        return None
    steps, (outputs, inputs) = weights[1], weights[0].shape
    # One vector of inputs for each image: more would be a layer that is applied at several places.
    if int(np.prod(shape, dtype=object)) != shape[0] * inputs or graph.shape(result)[:1] != shape[:1]:
        return None
    scales = np.broadcast_to(steps, outputs)
    return DenseLayer(
        weights=weights[0].T,
        scales=scales,
        bias=_bias(graph, op, outputs) * scales * taken.scale,
        activation=activation if fused == "linear" else fused,
        taken=taken,
        given=given,
        source=source,
        result=result,
    )


def _weights(graph: Graph, tensor: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return weights (outputs, inputs) less their zero points, and the scale of each or of all; None: unknown."""
    dtype = {"INT8": np.int8, "UINT8": np.uint8}.get(graph.dtype(tensor))
    values = None if dtype is None else graph.constant(tensor, dtype)
    if values is None or values.ndim not in (2, 4) or (values.ndim == 4 and values.shape[1:3] != (1, 1)):
        return None
    scales, zero_points = graph.scales(tensor)
    flat = values.reshape(len(values), -1).astype(np.int16)
    known = len(scales) in (1, len(flat)) and len(zero_points) in (1, len(scales))
    if not known or graph.scaled_axis(tensor) != 0 or not ((scales > 0) & (scales < np.inf)).all():
        return None
    if np.abs(zero_points).max() > 255:
        return None
    return flat - zero_points.astype(np.int16)[:, None], scales


def _bias(graph: Graph, op: Any, outputs: int) -> np.ndarray:
    """Return the bias (outputs,) in steps of its sums; raises ModelError where it is no int32 constant."""
    if len(op.inputs) < 3 or op.inputs[2] == -1:
        return np.zeros(outputs)
    found = graph.constant(int(op.inputs[2]), np.int32)
    if found is None or found.shape != (outputs,):
        raise ModelError(
            f"{graph.name}: expected an int32 bias of {outputs} numbers in tensor "
            f"{graph.tensor_name(int(op.inputs[2]))!r}, found something else; the file is damaged or of another format"
        )
    return found.astype(np.float64)


def _shown(graph: Graph, kind: str, op: Any) -> str:
    ends = [f"{graph.dtype(int(t))} {graph.shape(int(t))}" for t in (op.inputs[0], op.outputs[0])]
    return f"{kind} from {ends[0]} to {ends[1]}"
