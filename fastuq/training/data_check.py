"""A network on some of the images it is calibrated on: right or wrong, and whether it reads the pixels as meant."""

from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.model.head import Head
from fastuq.training.front import READINGS, Front
from fastuq.training.tflite import predictor

_IMAGES, _READ = 256, 64
_AGREED = 0.8
"""Share of images of the same class below which a warning is due; random networks and short trainings reach it."""
_NEAR_CHANCE = 0.1
"""Share of the way from guessing to always right below which an accuracy is near chance."""


def check_on_data(backbone: Any, runner: Backbone, head: Head, images: ImageSet, front: Front) -> dict[str, Any]:
    """Run float and int8 network on up to 256 images.

    Parameters
    ----------
    backbone : keras.Model
    runner : Backbone
        The int8 backbone.
    head : Head
    images : ImageSet
    front : Front
        What is done to the pixels in `backbone`.

    Returns
    -------
    dict
        ``images``, ``agreement`` of the int8 backbone with the float one; ``accuracy_float32`` and ``accuracy_int8``
        where there are labels; ``warnings``, a list of text.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:_IMAGES])
    pixels = np.concatenate([images.images[int(row) : int(row) + 1] for row in rows])
    forward = predictor(backbone)
    exact = head.forward(forward(pixels)).argmax(axis=1)
    real = (runner(pixels).astype(np.float32) - runner.zero_point) * np.float32(runner.scale)
    rounded = head.forward(real).argmax(axis=1)
    found: dict[str, Any] = {"images": len(rows), "agreement": float((exact == rounded).mean()), "warnings": []}
    if found["agreement"] < _AGREED:
        found["warnings"].append(
            f"the int8 backbone leads to another class than the float one for {1 - found['agreement']:.1%} of the "
            "images: the network's activations do not survive int8, as where a few channels or images are far larger "
            "than others"
        )
    if images.labels is None:
        return found
    truth = images.labels[rows]
    found |= {"accuracy_float32": float((exact == truth).mean()), "accuracy_int8": float((rounded == truth).mean())}
    chance = float(np.bincount(truth, minlength=head.num_classes).max() / len(truth))
    if found["accuracy_float32"] < chance + _NEAR_CHANCE * (1 - chance):
        found["warnings"].append(
            f"accuracy {found['accuracy_float32']:.1%} is near chance ({chance:.1%} of the images are of one class): "
            "the order of the classes or the values of the pixels are not those of the training"
        )
    if not front:
        found["warnings"] += _other_readings(forward, head, pixels[:_READ], truth[:_READ])
    return found


def _other_readings(forward: Any, head: Head, pixels: np.ndarray, truth: np.ndarray) -> list[str]:
    """Return a warning where the network is right more often on pixels that were scaled first."""
    values = pixels.astype(np.float32)
    right = {option: head.forward(forward(read(values))).argmax(axis=1) == truth for option, read in READINGS.items()}
    plain = head.forward(forward(values)).argmax(axis=1) == truth
    best = max(right, key=lambda option: right[option].mean())
    gain = right[best].astype(float) - plain
    if gain.mean() <= max(0.05, 3 * gain.std() / np.sqrt(len(gain))):
        return []
    return [
        f"with {best} {right[best].mean():.1%} of {len(truth)} images are right, without {plain.mean():.1%}: the "
        f"network was trained on such values; import it again with {best}"
    ]
