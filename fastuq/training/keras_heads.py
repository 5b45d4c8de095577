"""Heads in Keras: built from a layout, and turned into arrays and back."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import ACTIVATIONS, activation_of
from fastuq.model.folding import Step, fold
from fastuq.model.head import Head
from fastuq.training.keras_graph import open_network
from fastuq.training.keras_steps import UnreadableError, steps_of
from fastuq.training.tensorflow import tensorflow
from fastuq.util.defaults import PAPER_HEAD

_TRAINED = [name for name in ACTIVATIONS if name != "gelu_tanh"]
"""Activations that Keras has a name for."""


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
            f"such as {PAPER_HEAD}, with rates 0 to 0.9 and activations {', '.join(_TRAINED)} ({error})"
        ) from error
    return Layout(normalise, tuple(blocks))


def _block(rate: str, units: str, activation: str) -> tuple[float, int, str]:
    block = float(rate), int(units), activation
    if not (0 <= block[0] <= 0.9 and block[1] > 0 and activation in _TRAINED):
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


def head_from_model(network: Any) -> Head:
    """Read a trained head, features (N, D) -> class outputs (N, C), out of its Keras model.

    Raises
    ------
    InputError
        There is a layer, or an order of layers, that a head cannot have.
    """
    opened = open_network(network, tuple(network.input_shape[1:]), lambda features: features)
    steps: list[Step] = []
    for call in opened.calls:
        try:
            steps += steps_of(call)
        except UnreadableError as error:
            raise InputError(f"head: layer {call.name} ({call.kind}) {error}") from None
    return fold(steps, network.input_shape[-1])


def _keras_activation(name: str) -> Any:
    """Return what Keras takes as an activation of `fastuq.model.activations`."""
    import keras

    activation = activation_of(name)
    if activation.name == "leaky_relu":
        return keras.layers.LeakyReLU(activation.slope)
    return partial(keras.activations.gelu, approximate=True) if name == "gelu_tanh" else name


def head_network(head: Head, place: int = 0) -> Any:
    """Return a frozen head as a Keras model to convert, named by its place, its affines as 1 x 1 depthwise products."""
    tensorflow()
    import keras
    from keras import layers

    x = inputs = keras.Input((head.num_features,), name="head_input")
    for number, block in enumerate(head.blocks):
        affine = (head.scale, head.shift) if number == 0 else (block.scale, block.shift)
        if affine[0] is not None:
            # In inference a BatchNorm with mean 0, variance 1 and epsilon 0 is the affine.
            layer = layers.BatchNormalization(
                epsilon=0.0, trainable=False, name=f"head_bn_{number}" if number else "head_bn"
            )
            x = layer(x)
            layer.set_weights([*affine, np.zeros_like(affine[0]), np.ones_like(affine[0])])
        activation = _keras_activation(block.activation)
        dense = layers.Dense(block.bias.shape[0], activation=activation, name=f"head_dense_{number}")
        x = dense(layers.Dropout(block.rate, name=f"head_dropout_{number}")(x))
        dense.set_weights([block.weights, block.bias])
    return keras.Model(inputs, x, name=f"head_{place + 1}" if place else "head")
