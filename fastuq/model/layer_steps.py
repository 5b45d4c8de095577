"""Layers of PyTorch and Keras as steps of a head, read by attribute: neither library is imported."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastuq.errors import InputError, short
from fastuq.model.activations import leaky_relu_of
from fastuq.model.folding import Activate, Affine, Drop, Multiply, Step

_ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Hardswish": "hard_silu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
}
_NOTHING = ("Identity", "InputLayer", "Flatten")
_CONTAINERS = ("Sequential", "ModuleList", "list", "tuple")
_OTHER_NAMES = {"swish": "silu", "hard_swish": "hard_silu"}


def steps_of(layers: Any) -> Iterator[Step]:
    """Yield the steps that layers are.

    Raises
    ------
    InputError
        A layer is of a kind that a head cannot have.
    """
    for number, layer in enumerate(_members(layers)):
        kind = type(layer).__name__
        if kind in _CONTAINERS:
            yield from steps_of(layer)
        elif kind not in _NOTHING:
            yield from _steps(layer, kind, f"{getattr(layer, 'name', number)} ({kind})")


def _members(layers: Any) -> list[Any]:
    if type(layers).__name__ not in _CONTAINERS:  # what another class does with its layers, they do not say
        raise InputError(
            f"head: expected a torch.nn.Sequential, a keras.Sequential or a list of their layers, found "
            f"{type(layers).__name__}; give the layers in their order"
        )
    return list(getattr(layers, "layers", layers))


def _steps(layer: Any, kind: str, name: str) -> list[Step]:
    if kind == "Dropout" and getattr(layer, "noise_shape", None) is None:
        return [Drop(float(layer.p if hasattr(layer, "p") else layer.rate), name)]
    if kind == "Linear":
        weights = _array(layer.weight).T
        return [Multiply(weights, np.zeros(weights.shape[1]) if layer.bias is None else _array(layer.bias), name)]
    if kind == "Dense" and getattr(layer, "quantization_mode", None) is None:
        weights = _array(layer.kernel)  # with LoRA, where it is on
        dense = Multiply(weights, np.zeros(weights.shape[1]) if layer.bias is None else _array(layer.bias), name)
        return [dense, *_function(layer, name)]
    if kind == "BatchNorm1d":
        return [_torch_norm(layer, name)]
    if kind == "BatchNormalization":
        return [_keras_norm(layer, name)]
    if kind == "Activation":
        return _function(layer, name)
    activation = _activation(layer, kind)
    if activation is None:
        raise InputError(
            f"head: layer {name} cannot be part of a head, which has BatchNorm, Dropout, Linear or Dense, and "
            "activations; what comes before the first dropout may be in the embeddings: run it there"
        )
    return [Activate(activation, name)]


def _activation(layer: Any, kind: str) -> str | None:
    """Return the name of a layer's activation; None where it is none, or one with other constants than usual."""
    axis = getattr(layer, "axis", getattr(layer, "dim", -1))
    if (getattr(layer, "threshold", 0) and kind == "ReLU") or (kind == "Softmax" and axis not in (-1, 1)):
        return None
    top, slope = getattr(layer, "max_value", None), float(getattr(layer, "negative_slope", 0))
    if kind == "ReLU" and top is not None:  # Keras's, which has a top and a slope
        return "relu6" if (top, slope) == (6, 0) else None
    if kind == "LeakyReLU" or (kind == "ReLU" and slope):
        return leaky_relu_of(slope)
    if kind == "GELU":
        return "gelu" if layer.approximate == "none" else "gelu_tanh"
    if kind == "ELU":
        return "elu" if layer.alpha == 1 else None
    if kind == "Softplus":
        return "softplus" if layer.beta == 1 else None
    return _ACTIVATIONS.get(kind)


def _function(layer: Any, name: str) -> list[Step]:
    """Return the activation that a Keras layer names by a function."""
    activation = str(getattr(layer.activation, "__name__", type(layer.activation).__name__))
    activation = _OTHER_NAMES.get(activation, activation)
    return [] if activation == "linear" else [Activate(activation, name)]


def _torch_norm(layer: Any, name: str) -> Affine:
    if layer.running_mean is None:
        raise InputError(f"head: layer {name} keeps no running mean, so that its output depends on the batch; track it")
    scale = 1 / np.sqrt(_array(layer.running_var) + float(layer.eps))
    shift = -_array(layer.running_mean) * scale
    if layer.weight is not None:
        scale, shift = scale * _array(layer.weight), shift * _array(layer.weight)
    return Affine(scale, shift if layer.bias is None else shift + _array(layer.bias), name)


def _keras_norm(layer: Any, name: str) -> Affine:
    arrays = [_array(value) for value in layer.get_weights()]
    gamma = arrays.pop(0) if layer.scale else 1.0
    beta = arrays.pop(0) if layer.center else 0.0
    mean, variance = arrays
    scale = gamma / np.sqrt(variance + float(layer.epsilon))
    return Affine(scale, beta - mean * scale, name)


def _array(value: Any) -> np.ndarray:
    """Return a tensor of either library as float64."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu().double()
        return np.asarray(value, np.float64)
    except Exception as error:  # whatever a tensor that holds no numbers raises
        raise InputError(
            f"head: expected a layer with weights, found one whose values cannot be read ({short(error)})"
        ) from None
