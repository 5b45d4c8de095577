"""Heads in Keras: built from a layout, and turned into arrays and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import ACTIVATIONS
from fastuq.model.head import Block, Head
from fastuq.training.tensorflow import tensorflow
from fastuq.util.defaults import PAPER_HEAD


@dataclass(frozen=True)
class Layout:
    """What a head looks like.

    Attributes
    ----------
    normalise : bool
        A BatchNorm comes first.
    blocks : tuple of (float, int, str)
        Dropout rate, units and activation of each block.
    """

    normalise: bool
    blocks: tuple[tuple[float, int, str], ...]


def parse_layout(text: str, num_classes: int) -> Layout:
    """Read a layout such as ``bn,0.2:300:relu,0.4:sigmoid``: blocks ``rate:units:activation``, the last without units.

    Raises
    ------
    InputError
        The text is no layout.
    """
    words = text.replace(" ", "").split(",")
    normalise = words[0] == "bn"
    words = words[1:] if normalise else words
    try:
        last_rate, last_activation = words[-1].split(":")
        blocks = [_block(*word.split(":")) for word in words[:-1]]
        blocks.append(_block(last_rate, str(num_classes), last_activation))
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"head layout {text!r}: expected blocks rate:units:activation and a last rate:activation, "
            f"such as {PAPER_HEAD}, with rates 0 to 0.9 and activations {', '.join(ACTIVATIONS)} ({error})"
        ) from error
    return Layout(normalise, tuple(blocks))


def _block(rate: str, units: str, activation: str) -> tuple[float, int, str]:
    block = float(rate), int(units), activation
    if not (0 <= block[0] <= 0.9 and block[1] > 0 and activation in ACTIVATIONS):
        raise ValueError(f"{rate}:{units}:{activation}")
    return block


def build_head(layout: Layout, num_features: int, *, seed: int = 0) -> Any:
    """Return a head as a Keras model: features (N, D) -> class outputs (N, C)."""
    tensorflow()
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((num_features,), name="head_input")
    if layout.normalise:
        x = layers.BatchNormalization(name="head_bn")(x)
    for number, (rate, units, activation) in enumerate(layout.blocks):
        x = layers.Dropout(rate, name=f"head_dropout_{number}")(x)
        x = layers.Dense(units, activation=activation, name=f"head_dense_{number}")(x)
    return keras.Model(inputs, x, name="head")


def attach(head: Any, features: Any) -> Any:
    """Return the outputs of a head (a Keras model) put on a features tensor, layer by layer."""
    for layer in head.layers[1:]:
        features = layer(features)
    return features


def head_from_layers(layers: Sequence[Any], num_features: int) -> Head:
    """Read a trained head out of its Keras layers: an optional BatchNorm, then dropout and dense layers.

    Raises
    ------
    InputError
        There is another kind of layer, or an order that a head cannot have.
    """
    scale, shift = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
    blocks: list[Block] = []
    rate = 0.0
    for layer in layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization" and not blocks:
            scale, shift = _folded(layer)
        elif kind == "Dropout":
            rate = float(layer.rate)
        elif kind == "Dense":
            weights = layer.get_weights()
            bias = weights[1] if layer.use_bias else np.zeros(layer.units, np.float32)
            blocks.append(Block(rate, weights[0], bias, layer.activation.__name__))
            rate = 0.0
        elif kind != "InputLayer":
            raise InputError(
                f"head: found layer {layer.name} ({kind}); "
                "expected an optional BatchNormalization, then Dropout and Dense"
            )
    if not blocks:
        raise InputError("head: found no Dense layer after the pooling; the network needs a classifier head")
    return Head(tuple(blocks), scale, shift)


def _folded(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Fold a BatchNorm: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale."""
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    scale = 1 / np.sqrt(variance + layer.epsilon)
    scale = scale * layer.gamma.numpy() if layer.scale else scale
    shift = -mean * scale
    shift = shift + layer.beta.numpy() if layer.center else shift
    return scale.astype(np.float32), shift.astype(np.float32)


def head_network(head: Head) -> Any:
    """Return a frozen head as a Keras model for conversion, its affine as a 1 x 1 depthwise product."""
    tensorflow()
    import keras
    from keras import layers

    x = inputs = keras.Input((head.num_features,), name="head_input")
    # In inference a BatchNorm with mean 0, variance 1 and epsilon 0 is the affine.
    affine = layers.BatchNormalization(epsilon=0.0, name="head_bn")
    x = affine(x)
    affine.set_weights([head.scale, head.shift, np.zeros_like(head.scale), np.ones_like(head.scale)])
    for number, block in enumerate(head.blocks):
        dense = layers.Dense(block.bias.shape[0], activation=block.activation, name=f"head_dense_{number}")
        x = dense(layers.Dropout(block.rate, name=f"head_dropout_{number}")(x))
        dense.set_weights([block.weights, block.bias])
    return keras.Model(inputs, x, name="head")
