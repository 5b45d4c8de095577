"""Layers of PyTorch and Keras as steps of a head, read by attribute: neither library is imported."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import InputError, short

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


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift, by feature."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Dropout:
    """Units dropped at a rate."""

    rate: float


@dataclass(frozen=True)
class Linear:
    """x @ weights + bias."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Activate:
    """An activation by its name."""

    name: str


Step = Affine | Dropout | Linear | Activate


def steps_of(layers: Any) -> Iterator[tuple[Step, str]]:
    """Yield the steps that layers are, each with what errors call the layer.

    Raises
    ------
    InputError
        A layer is of a kind that a head cannot have.
    """
    for number, layer in enumerate(_members(layers)):
        kind = type(layer).__name__
        label = f"layer {getattr(layer, 'name', number)} ({kind})"
        if kind in _CONTAINERS:
            yield from steps_of(layer)
            continue
        for step in _steps(layer, kind, label):
            yield step, label


def _members(layers: Any) -> list[Any]:
    members = getattr(layers, "layers", layers)
    try:
        return list(members)
    except TypeError:
        raise InputError(
            f"head: expected a torch.nn.Sequential, a keras.Sequential or a list of their layers, found "
            f"{type(layers).__name__}; give the layers in their order"
        ) from None


def _steps(layer: Any, kind: str, label: str) -> list[Step]:
    if kind in _NOTHING:
        return []
    if kind in ("Dropout", "Dropout1d"):
        return [Dropout(float(layer.p if hasattr(layer, "p") else layer.rate))]
    if kind == "Linear":
        weights = _array(layer.weight).T
        return [Linear(weights, np.zeros(weights.shape[1]) if layer.bias is None else _array(layer.bias))]
    if kind == "Dense":
        weights, *bias = map(_array, layer.get_weights())
        return [Linear(weights, bias[0] if bias else np.zeros(weights.shape[1])), Activate(_function(layer))]
    if kind == "BatchNorm1d":
        return [_torch_norm(layer, label)]
    if kind == "BatchNormalization":
        return [_keras_norm(layer)]
    if kind == "Activation":
        return [Activate(_function(layer))]
    name = _activation(layer, kind)
    if name is None:
        raise InputError(
            f"head: {label} cannot be part of a head, which has BatchNorm, Dropout, Linear or Dense, and activations; "
            "what comes before the first dropout may be in the embeddings: run it there"
        )
    return [Activate(name)]


def _activation(layer: Any, kind: str) -> str | None:
    """Return the name of a layer's activation; None where it is none, or one with other constants than usual."""
    top, slope = getattr(layer, "max_value", None), getattr(layer, "negative_slope", 0.0)
    if kind == "ReLU" and (top is not None or slope):  # Keras's
        return "relu6" if top == 6 and not slope else None
    if kind == "LeakyReLU":
        return f"leaky_relu({np.format_float_positional(round(float(slope), 9), trim='0')})"
    if kind == "GELU":
        return "gelu" if layer.approximate == "none" else "gelu_tanh"
    if kind == "ELU":
        return "elu" if layer.alpha == 1 else None
    if kind == "Softplus":
        return "softplus" if layer.beta == 1 else None
    return _ACTIVATIONS.get(kind)


def _function(layer: Any) -> str:
    return str(getattr(layer.activation, "__name__", type(layer.activation).__name__))


def _torch_norm(layer: Any, label: str) -> Affine:
    if layer.running_mean is None:
        raise InputError(f"head: {label} keeps no running mean, so that its output depends on the batch; track it")
    scale = 1 / np.sqrt(_array(layer.running_var) + float(layer.eps))
    shift = -_array(layer.running_mean) * scale
    if layer.weight is not None:
        scale, shift = scale * _array(layer.weight), shift * _array(layer.weight)
    return Affine(scale, shift if layer.bias is None else shift + _array(layer.bias))


def _keras_norm(layer: Any) -> Affine:
    arrays = [_array(value) for value in layer.get_weights()]
    gamma = arrays.pop(0) if layer.scale else 1.0
    beta = arrays.pop(0) if layer.center else 0.0
    mean, variance = arrays
    scale = gamma / np.sqrt(variance + float(layer.epsilon))
    return Affine(scale, beta - mean * scale)


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
