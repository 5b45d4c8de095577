"""What single Keras layers do to a vector of units, as steps of a head."""

from typing import Any

import numpy as np

from fastuq.model.activations import ACTIVATIONS, leaky_relu_of
from fastuq.model.folding import Activate, Affine, Drop, Multiply, Step
from fastuq.training.keras_graph import Call

_RANDOM = ("AlphaDropout", "GaussianDropout", "GaussianNoise")
_SAME = ("Identity", "ActivityRegularization", "Flatten", "Reshape", "InputLayer")
_POOLING = ("GlobalAveragePooling2D", "GlobalMaxPooling2D")
_OTHER_NAMES = {"swish": "silu", "hard_swish": "hard_silu"}


class UnreadableError(Exception):
    """A layer that no step of a head stands for; its text says why."""


def rate_of(call: Call) -> float:
    """Return the rate of a layer that is random when the network is trained; 0 for any other layer.

    Noise without a rate, and dropout inside of a layer (attention, recurrent, a path of ConvNeXt), count too.
    """
    return _rate(call.layer)


def _rate(layer: Any) -> float:
    names = ("rate", "stddev", "dropout", "recurrent_dropout", "drop_path_rate")
    found = [getattr(layer, name, 0) for name in names]
    wrapped = getattr(layer, "layer", None)  # TimeDistributed and its kind
    inside = 0.0 if wrapped is None or wrapped is layer else _rate(wrapped)
    return max((float(rate) for rate in found if isinstance(rate, int | float)), default=0.0) or inside


def is_dropout(call: Call) -> bool:
    """Return whether a layer is Keras's Dropout of single units, channels or samples."""
    import keras

    spatial = (keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D)
    return isinstance(call.layer, (keras.layers.Dropout, *spatial)) and call.kind not in _RANDOM


def is_random(call: Call) -> bool:
    """Return whether a layer does nothing but in training: dropout or noise of any kind."""
    return is_dropout(call) or call.kind in _RANDOM


def shares_channels(call: Call) -> bool:
    """Return whether a dropout drops whole channels of a map."""
    *places, channels = call.given
    pattern = _pattern(call)
    return is_dropout(call) and pattern == (*(1 for _ in places), channels)


def is_pooling(call: Call) -> bool:
    """Return whether a layer pools maps (H, W, C) to channels, so that dropping a channel before or after is one."""
    return call.kind in _POOLING and len(call.taken) == 3


def steps_of(call: Call) -> list[Step]:
    """Return what a layer does as steps on a flat vector of units.

    Raises
    ------
    UnreadableError
        No steps do the same.
    """
    if len(call.inputs) != 1 or len(call.outputs) != 1 or None in call.taken:
        raise UnreadableError("takes more than one tensor, or sizes that are not fixed")
    if is_dropout(call):
        return _dropout(call)
    if call.kind == "Flatten" and call.layer.data_format == "channels_first" and len(call.taken) > 1:
        raise UnreadableError("puts the channels first")
    if call.kind in _SAME:
        return []
    if call.kind in _POOLING and call.taken[:2] == (1, 1):
        return []
    reader = _READERS.get(call.kind)
    if reader is None:
        raise UnreadableError("is no layer that a head can have")
    return reader(call)


def _sizes(call: Call) -> tuple[int, ...]:
    """Return the shape of the first input, which `steps_of` has found to be fixed."""
    return tuple(int(side or 0) for side in call.taken)


def _pattern(call: Call) -> tuple[int | None, ...]:
    """Return the shape of a dropout's mask, without the batch."""
    if call.kind.startswith("SpatialDropout"):
        return (*(1 for _ in call.given[:-1]), call.given[-1])
    noise = getattr(call.layer, "noise_shape", None) or (None,) * (len(call.given) + 1)
    return tuple(side if n in (None, -1) else n for n, side in zip(noise[1:], call.given, strict=False))


def _dropout(call: Call) -> list[Step]:
    noise = getattr(call.layer, "noise_shape", None)
    if _pattern(call) != call.given or (noise and noise[0] not in (None, -1)):
        raise UnreadableError("drops units together, not one by one")
    return [Drop(float(call.layer.rate), call.name)]


def _random(call: Call) -> list[Step]:
    if call.kind == "GaussianNoise":  # not dropout: off, as in inference
        return []
    raise UnreadableError("is not Bernoulli dropout; --dropout RATE takes that in its place")


def _dense(call: Call) -> list[Step]:
    layer = call.layer
    if len(call.taken) > 1 and any(side != 1 for side in call.taken[:-1]):
        raise UnreadableError("works on a map")
    weights, *rest = layer.get_weights()
    return [Multiply(weights, rest[0] if rest else np.zeros(weights.shape[1]), call.name), *_activation_of(call)]


def _conv(call: Call) -> list[Step]:
    layer, (height, width, channels) = call.layer, _sizes(call)
    whole = tuple(layer.kernel_size) == (height, width) and (layer.padding == "valid" or height == width == 1)
    if not whole or layer.groups != 1 or layer.data_format != "channels_last":
        raise UnreadableError("works on a map")
    kernel, *rest = layer.get_weights()
    weights = kernel.reshape(height * width * channels, layer.filters)
    return [Multiply(weights, rest[0] if rest else np.zeros(layer.filters), call.name), *_activation_of(call)]


def _batchnorm(call: Call) -> list[Step]:
    layer = call.layer
    if layer.axis not in (-1, len(call.taken)):
        raise UnreadableError("normalises another axis than the last")
    scale, shift = folded(layer)
    full = _sizes(call)  # on a map, every place has its channels
    return [Affine(np.broadcast_to(scale, full).ravel(), np.broadcast_to(shift, full).ravel(), call.name)]


def folded(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Fold a BatchNorm: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale."""
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    scale = 1 / np.sqrt(variance + layer.epsilon)
    scale = scale * layer.gamma.numpy() if layer.scale else scale
    shift = -mean * scale
    shift = shift + layer.beta.numpy() if layer.center else shift
    return scale.astype(np.float32), shift.astype(np.float32)


def _activation_of(call: Call) -> list[Step]:
    name = activation_name(call.layer.activation)
    return [] if name == "linear" else _activate(call, name)


def _activate(call: Call, name: str) -> list[Step]:
    if name == "softmax" and any(side != 1 for side in call.given[:-1]):
        raise UnreadableError("is a softmax on a map")
    return [] if name == "linear" else [Activate(name, call.name)]


def _softmax(call: Call) -> list[Step]:
    last = call.layer.axis == len(call.taken)
    return _activate(call, "softmax" if last else activation_name(call.layer))


def activation_name(activation: Any) -> str:
    """Return the name of a Keras activation, a function or a layer, in `fastuq.model.activations`."""
    kind = type(activation).__name__
    if kind == "ReLU":
        top, slope, threshold = activation.max_value, float(activation.negative_slope), activation.threshold
        if threshold == 0 and (top, slope) == (6, 0):
            return "relu6"
        if threshold == 0 and top is None and 0 <= slope <= 1:
            return leaky_relu_of(slope) if slope else "relu"
        raise UnreadableError("is a ReLU with a threshold or another top than 6")
    if kind == "LeakyReLU" and 0 <= activation.negative_slope <= 1:
        return leaky_relu_of(float(activation.negative_slope))
    if kind == "ELU" and activation.alpha == 1:
        return "elu"
    if kind == "Softmax":
        if activation.axis != -1:
            raise UnreadableError(f"is a softmax over axis {activation.axis}")
        return "softmax"
    if kind == "Activation":
        return activation_name(activation.activation)
    name = getattr(activation, "__name__", kind)
    name = _OTHER_NAMES.get(name, name)
    if name not in ACTIVATIONS:
        raise UnreadableError(f"has the activation {name}; there are {', '.join(ACTIVATIONS)}")
    return name


_READERS = {
    "Dense": _dense,
    "Conv2D": _conv,
    "BatchNormalization": _batchnorm,
    **{kind: lambda call: _activate(call, activation_name(call.layer)) for kind in ("Activation", "ReLU", "LeakyReLU")},
    "ELU": lambda call: _activate(call, activation_name(call.layer)),
    "Softmax": _softmax,
    **dict.fromkeys(_RANDOM, _random),
}
KINDS = {*_READERS, *_SAME, *_POOLING}
"""Classes of layers, other than dropouts, that a head can have."""
