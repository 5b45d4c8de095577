"""Randomly initialised int8 models for tests and benchmarks: their predictions mean nothing, their cost is real."""

from pathlib import Path
from typing import Any

import numpy as np

from fastuq.model.backbone import Backbone
from fastuq.model.coding import Coding
from fastuq.model.head import Head
from fastuq.model.model import Model
from fastuq.training.finish_model import finish_model
from fastuq.training.keras_heads import build_head, head_from_model, parse_layout
from fastuq.training.networks import build_backbone
from fastuq.training.tensorflow import tensorflow
from fastuq.training.tflite import calibration_images, coded, predictor, to_int8, to_int8_by_image
from fastuq.util.defaults import BY_IMAGE, PAPER_HEAD

_IMAGES = 8
_BRANCH = 0.2
"""Scale of the last BatchNorm of a residual branch."""


def random_model(
    network: str,
    path: str | Path,
    seed: int = 0,
    *,
    class_names: tuple[str, ...] | None = None,
    head: str = PAPER_HEAD,
) -> Model:
    """Build, quantize and save a randomly initialised model.

    The statistics of every BatchNorm are set from random images, without which activations of deep random networks
    vanish or explode and all features are alike.

    Parameters
    ----------
    network : str
        ``resnet50``, ``efficientnet_b0``, ``efficientnet_lite0`` or ``tiny``.
    path : str or Path
        The model folder to write.
    seed : int
    class_names : tuple of str, optional
        100 made-up ones by default.
    head : str
        Layout of the head, as `parse_layout` takes it.
    """
    names = class_names or tuple(f"class {number}" for number in range(100))
    images = _blotches(seed)
    backbone = build_backbone(network, seed=seed)
    _calm(backbone)
    _settle(backbone, images)
    calibration = calibration_images(images, seed=seed)
    if by_image := network in BY_IMAGE:
        backbone = coded(backbone, Coding.spanning(predictor(backbone)(calibration)))
    data = to_int8_by_image(backbone) if by_image else to_int8(backbone, calibration)
    runner = Backbone(data)
    features = runner(images)
    values = (features.astype(np.float32) - runner.zero_point) * np.float32(runner.scale)
    return finish_model(
        path,
        network,
        backbone,
        data,
        [_random_head(head, len(names), values, seed)],
        class_names=names,
        calibration=calibration,
        features=features,
        test=None,
        made={"weights": "random", "seed": seed, "by_image": by_image},
        # A random EfficientNet-B0 amplifies the rounding that a trained one absorbs: 0.84 here.
        minimum_correlation=0.5,
        by_image=by_image,
        sizes=False,
    )


def _random_head(layout: str, num_classes: int, features: np.ndarray, seed: int) -> Head:
    """Return a head with random weights whose outputs for these features are neither all alike nor all sure."""
    width = features.shape[1]
    top = build_head(parse_layout(layout, num_classes), width, seed=seed)
    _settle(top, features)
    last = top.layers[-1]
    weights, bias = last.get_weights()
    last.set_weights([weights * 4, bias])  # outputs lie on both sides of the usual threshold, and decisions differ
    return head_from_model(top)


def _blotches(seed: int) -> np.ndarray:
    """Return random images (N, 32, 32, 3) uint8 with structure at several scales, as photographs have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((_IMAGES, 32, 32, 3))
    for size in (1, 2, 4, 8, 16, 32):
        patch = rng.normal(size=(_IMAGES, size, size, 3))
        total += patch.repeat(32 // size, axis=1).repeat(32 // size, axis=2)
    return np.clip(127.5 + 45 * total, 0, 255).astype(np.uint8)


def _calm(network: Any) -> None:
    """Shrink the residual branches of ResNet50 and EfficientNet-B0: at full size int8 errors pile up in them."""
    for layer in network.layers:
        if layer.name.endswith(("_3_bn", "_project_bn")):
            gamma, *others = layer.get_weights()
            layer.set_weights([gamma * _BRANCH, *others])


def _settle(network: Any, inputs: np.ndarray) -> None:
    """Set the statistics of every BatchNorm to those of `inputs`: one pass in training mode with momentum 0."""
    layers = [layer for layer in network.layers if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    # Compiled, each activation is freed after its last use; eager Keras keeps all of them (gigabytes at 224 px).
    tensorflow().function(lambda x: network(x, training=True))(inputs.astype(np.float32))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
