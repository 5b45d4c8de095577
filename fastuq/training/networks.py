"""The backbones: raw uint8-valued images in, pooled features out, resizing and normalising inside the graph."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import DownloadError, FastUQError, InputError
from fastuq.training import efficientnet_lite0
from fastuq.training.keras_h5 import image_size_of
from fastuq.training.tensorflow import silence, tensorflow
from fastuq.util.checks import whole_number

# ImageNet means in RGB that ResNet50's weights expect to be subtracted (its published preprocessing).
_RESNET_OFFSET = (-123.68, -116.779, -103.939)
# Of ImageNet in RGB, of values 0 to 1: the first layers of EfficientNet-B0 normalise by them.
_EFFICIENTNET_MEAN, _EFFICIENTNET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SIZES = (32, 1024)
"""The least and the largest height and width that a network may resize images to."""


@dataclass(frozen=True)
class Network:
    """How one backbone is built.

    Attributes
    ----------
    image_size : int
        Height and width that images are resized to inside the graph, where no other is asked for.
    build : callable
        (image tensor, height and width, weights) -> features tensor.
    block_end : str
        Pattern of the names of the layers that may end a block; group 1 is the block, and its last match counts.
    imagenet_file : str
        Name of the file that holds the ImageNet weights; empty for a network that only tests use.
    """

    image_size: int
    build: Callable[[Any, int, str | None], Any]
    block_end: str
    imagenet_file: str


def _resnet50(x: Any, size: int, weights: str | None) -> Any:
    import keras

    x = keras.layers.Rescaling(1.0, _RESNET_OFFSET, name="normalise")(x)
    x = keras.layers.Resizing(size, size, name="resize")(x)
    app = keras.applications.ResNet50(include_top=False, pooling="avg", weights=weights, input_tensor=x)
    if weights is not None:
        stem = app.get_layer("conv1_conv")
        kernel, bias = stem.get_weights()
        # The published weights expect BGR: turning the kernel round spares the graph the swap.
        stem.set_weights([kernel[:, :, ::-1], bias])
    return app.output


def _efficientnet_b0(x: Any, size: int, weights: str | None) -> Any:
    import keras

    if weights != "imagenet":
        # Keras divides by the square root of the deviation once more, which those weights expect, for "imagenet" alone.
        root = [deviation**-0.5 for deviation in _EFFICIENTNET_STD]
        offset = [255 * mean * (1 - share) for mean, share in zip(_EFFICIENTNET_MEAN, root, strict=True)]
        x = keras.layers.Rescaling(root, offset, name="normalise")(x)
    x = keras.layers.Resizing(size, size, name="resize")(x)
    app = keras.applications.EfficientNetB0(include_top=False, pooling="avg", weights=weights, input_tensor=x)
    return app.output


def _efficientnet_lite0(x: Any, size: int, weights: str | None) -> Any:
    import keras

    inputs = x
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="normalise")(x)
    x = keras.layers.Resizing(size, size, name="resize")(x)
    features = efficientnet_lite0.build(x)
    if weights is not None:
        path = efficientnet_lite0.imagenet_weights() if weights == "imagenet" else Path(weights)
        efficientnet_lite0.load_weights(keras.Model(inputs, features), path)
    return features


def _tiny(x: Any, size: int, weights: str | None) -> Any:
    """A few convolutions, for tests."""
    from keras import layers

    if weights is not None:
        raise InputError(f"network tiny: has no published weights, found --weights {weights}; use --weights none")
    x = layers.Rescaling(1 / 128, -127 / 128, name="normalise")(x)
    for number, channels in enumerate((8, 16, 32)):
        x = layers.Conv2D(channels, 3, 2, padding="same", use_bias=False, name=f"block_{number}_conv")(x)
        x = layers.BatchNormalization(name=f"block_{number}_bn")(x)
        x = layers.ReLU(6, name=f"block_{number}_output")(x)
    return layers.GlobalAveragePooling2D(name="features")(x)


NETWORKS = {
    "resnet50": Network(
        224, _resnet50, r"(conv\d_block\d+)_out", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    "efficientnet_b0": Network(224, _efficientnet_b0, r"(block\d[a-z])_(?:project_bn|add)", "efficientnetb0_notop.h5"),
    "efficientnet_lite0": Network(224, _efficientnet_lite0, r"(block_\d+)_output", "efficientnet-lite0-57934424.pth"),
    "tiny": Network(32, _tiny, r"(block_\d+)_output", ""),
}


def network_of(name: str) -> Network:
    """Return how the network of that name is built; raises InputError where there is none."""
    if name not in NETWORKS:
        published = ", ".join(known for known, entry in NETWORKS.items() if entry.imagenet_file)
        raise InputError(f"network: expected one of {published}, found {name!r}")
    return NETWORKS[name]


def build_backbone(
    network: str,
    *,
    weights: str = "none",
    input_shape: tuple[int, int, int] = (32, 32, 3),
    image_size: int | None = None,
    seed: int = 0,
) -> Any:
    """Build a backbone as a Keras model: images (N, H, W, 3), values 0 to 255 -> features (N, D) float32.

    Parameters
    ----------
    network : str
        A key of `NETWORKS`.
    weights : str
        ``imagenet``, ``none`` (random, drawn by `seed`) or the path of a weights file of that network.
    input_shape : (int, int, int)
    image_size : int, optional
        Height and width that images are resized to inside the graph. Default: what the file of weights says that they
        were trained in, else that of the network's ImageNet weights.

    Raises
    ------
    InputError
        Unknown network, or weights that do not fit it or were trained in another size.
    DownloadError
        The ImageNet weights are not on this machine and cannot be fetched.
    """
    entry = network_of(network)
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise InputError(f"weights: expected imagenet, none or a file, found {weights!r}, which is not there")
    tensorflow()
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(input_shape, name="image")
    try:
        with silence():
            outputs = entry.build(
                inputs, image_size_for(network, weights, image_size), None if weights == "none" else weights
            )
    except FastUQError:
        raise
    except Exception as error:
        better = _weights_error(network, weights, error)
        if better is None:
            raise
        raise better from error
    backbone = keras.Model(inputs, outputs, name=network)
    if not all(np.isfinite(values).all() for values in backbone.get_weights()):
        raise InputError(f"weights {weights}: found NaN or infinity; the file is damaged")
    return backbone


def image_size_for(network: str, weights: str, wanted: int | None) -> int:
    """Return the height and width that a network resizes images to; arguments as `build_backbone` takes them."""
    recorded = image_size_of(Path(weights)) if Path(weights).is_file() else None
    if recorded is not None:
        whole_number(f"weights {weights}: image_size", recorded, *IMAGE_SIZES)
    if None not in (recorded, wanted) and recorded != wanted:
        raise InputError(
            f"weights {weights}: trained on images of {recorded} x {recorded}, found --network-size {wanted}; leave it "
            f"out, or give {recorded}"
        )
    return wanted or recorded or network_of(network).image_size


def weights_sha256(backbone: Any) -> str:
    """Return the SHA-256 over all weights of a network, wherever they came from."""
    digest = hashlib.sha256()
    for values in backbone.get_weights():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _weights_error(network: str, weights: str, error: Exception) -> FastUQError | None:
    """Return what building a backbone is to fail with, None where the error is not about the weights."""
    known, reason = isinstance(error, OSError | ValueError), " ".join(str(error).split())[:200]
    if weights == "none":
        return None
    if weights != "imagenet":  # what a foreign file makes Keras raise is not one kind
        expected = NETWORKS[network].imagenet_file
        return InputError(
            f"weights {weights}: not weights of {network} ({reason}); expected a file such as {expected}, whole"
        )
    if not known and type(error) is not Exception:  # in a bare Exception Keras wraps what urllib raises
        return None
    return DownloadError(
        f"ImageNet weights of {network} are not on this machine and cannot be fetched "
        f"({reason if known else 'no connection?'}); "
        f"get the file {NETWORKS[network].imagenet_file} where there is internet and give it with --weights FILE"
    )


def block_outputs(backbone: Any, network: str) -> list[str]:
    """Return the names of the layers that end a block, in order: where a backbone may be cut."""
    ends: dict[str, str] = {}
    for layer in backbone.layers:
        match = re.fullmatch(NETWORKS[network].block_end, layer.name)
        if match:
            ends[match[1]] = layer.name
    return list(ends.values())


def split_backbone(backbone: Any, network: str, unfreeze: int) -> tuple[Any, Any]:
    """Split a backbone before its last `unfreeze` blocks; both parts share its layers and weights.

    Returns
    -------
    body, tail : keras.Model
        body: images -> activations; tail: activations -> features.

    Raises
    ------
    InputError
        `unfreeze` is not between 1 and the number of blocks less one.
    """
    import keras

    ends = block_outputs(backbone, network)
    if not 1 <= unfreeze < len(ends):
        raise InputError(f"--unfreeze: expected 0 to {len(ends) - 1} blocks for {network}, found {unfreeze}")
    cut = backbone.get_layer(ends[-1 - unfreeze]).output
    return keras.Model(backbone.input, cut), keras.Model(cut, backbone.output)
