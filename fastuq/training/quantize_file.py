"""`fastuq import` of a Keras network: it is opened, cut, quantized, checked, and becomes a model folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.model.backbone import Backbone
from fastuq.model.description import check_names
from fastuq.model.folder import check_replaceable
from fastuq.model.folding import as_classifier, fold
from fastuq.model.head import Head
from fastuq.model.int8_head import MAX_INPUTS
from fastuq.model.model import Model
from fastuq.training.class_names import classes_of, matched_test, said_of
from fastuq.training.cut import Cut, find_cut
from fastuq.training.finish_model import finish_model
from fastuq.training.head_rounding import CALIBRATION_SAMPLES
from fastuq.training.keras_check import check_against_keras
from fastuq.training.keras_config import check_input
from fastuq.training.keras_file import check_file, load_network
from fastuq.training.keras_graph import OpenNetwork, open_network
from fastuq.training.quantize_backbone import quantize_backbone
from fastuq.training.tensorflow import silence
from fastuq.training.tflite import calibration_images
from fastuq.training.wishes import Wishes
from fastuq.util.checks import checked_path
from fastuq.util.process import thread_count
from fastuq.util.progress import progress_bar


@dataclass(frozen=True)
class _Parts:
    """A network that was read: its parts, the classes, and the images in the size that it takes."""

    name: str
    network: OpenNetwork
    cut: Cut
    head: Head
    class_names: tuple[str, ...]
    logits: bool
    images: ImageSet

    def backbone(self) -> Any:
        import keras

        return keras.Model(self.network.image, self.cut.features)


def quantize_file(
    path: str | Path,
    images: ImageSet,
    test: ImageSet | None,
    output: str | Path,
    *,
    wishes: Wishes | None = None,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    crop: float | None = None,
    threads: int | None = None,
) -> Model:
    """Quantize a trained Keras network and write its model folder.

    Parameters
    ----------
    path : str or Path
        A ``.keras`` or ``.h5`` file: images (N, H, W, 3) or (N, H, W, 1) -> class outputs, Sequential or functional,
        nested or not. It is read in Keras's safe mode, which runs no code from the file.
    images : ImageSet
        Training images, to calibrate on. Pictures of a folder are resized to what the network takes.
    test : ImageSet or None
        Images to report the accuracy on.
    output : str or Path
        The model folder.
    wishes : Wishes, optional
        Where to cut, and what the network lacks.
    class_names : sequence of str, optional
        In the order of the outputs. Default: those of the images where they are as many, else ``class_0`` and so on.
        The classes of images are matched with them by name; where none is known and all are numbers, by number.
    image_size : (int, int), optional
        Height and width of the pictures of a folder, for a network that takes any.
    crop : float, optional
        What of a picture the model is to see, see `Model`.

    Raises
    ------
    InputError
        The file is missing, foreign or of another shape than the images, its head cannot be expressed, or `output`
        holds something else.
    ModelError
        The quantized backbone does not follow the float one, or the head not Keras's own layers.
    """
    thread_count(threads)
    check_replaceable(checked_path(output))
    wishes = wishes or Wishes()
    for given in (images, test):
        if given is not None:
            given.check_crop(crop)
    parts = _read_network(checked_path(path), images, wishes, image_size, class_names)
    said = said_of(parts.images, images)
    if test is not None:
        test = matched_test(test, images, class_names, parts.class_names).resized(parts.images.images.shape[1:3])
    images = parts.images
    calibration = calibration_images(images.images)
    checked = check_against_keras(
        parts.network.image, parts.cut, parts.head, calibration, wishes.activation if parts.logits else None
    )
    quantized = quantize_backbone(parts.backbone(), parts.head, calibration, images, wishes.front, threads)
    drawn = calibration_images(images.images, CALIBRATION_SAMPLES)
    made = {"quantized_from": Path(path).name, "training_images": images.name, "cut": _described(parts.cut)}
    return finish_model(
        output,
        parts.name,
        quantized.network,
        quantized.data,
        [quantized.head],
        class_names=parts.class_names,
        calibration=calibration,
        features=_features(quantized.runner, drawn),
        test=test,
        made={**made, "checked": checked, "data": quantized.found, **said},
        crop=crop,
        by_image=quantized.by_image,
        threads=threads,
    )


def _features(runner: Backbone, images: np.ndarray) -> np.ndarray:
    with progress_bar(len(images), "features") as bar:
        parts = []
        for start in range(0, len(images), 256):
            parts.append(runner(images[start : start + 256]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def _read_network(
    path: Path,
    images: ImageSet,
    wishes: Wishes,
    image_size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> _Parts:
    """Read and cut a network, which must take such images and know their classes; pictures are resized to it."""
    given = tuple(images.images.shape[1:]) if images.prepared is None else None
    network = load_network(path, check_file(path, given, wishes))
    if images.prepared is not None:
        images = images.resized(_size_taken(path, network, image_size))
    shape = tuple(images.images.shape[1:])
    channels = _channels(path, network, shape)
    with silence():
        opened = open_network(network, shape, wishes.front.into(channels))
        cut = find_cut(opened, wishes.cut, wishes.dropout)
    if cut.features.shape[-1] > MAX_INPUTS:
        raise InputError(
            f"network {path}: the head would begin after {cut.after} with {cut.features.shape[-1]} features, expected "
            f"at most {MAX_INPUTS}; cut later with --cut"
        )
    folded = fold(cut.steps, cut.features.shape[-1])
    head = as_classifier(folded, wishes.activation)
    names, images = classes_of(images, class_names, head.num_classes)
    check_names(network.name, names)
    return _Parts(network.name, opened, cut, head, names, folded.blocks[-1].activation == "linear", images)


def _size_taken(path: Path, network: Any, wished: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size of the pictures that a network takes, by its first input or, where that takes any, as wished."""
    taken = tuple(network.inputs[0].shape[1:3]) if network.built and network.inputs else ()
    if len(taken) != 2:
        return 32, 32  # what takes no images is refused next
    if None in taken and wished is None:
        raise InputError(f"network {path}: takes pictures of any size; say which one with --image-size")
    height, width = wished or taken
    return int(taken[0] or height), int(taken[1] or width)


def _channels(path: Path, network: Any, shape: tuple[int, ...]) -> int:
    """Return how many channels a network takes, which must have one input, for such images, and one output."""
    if not network.built:
        raise InputError(
            f"network {path}: was saved before it had its weights; train it, or call it on an image, and save it again"
        )
    inputs, outputs = network.inputs or [], network.outputs or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"network {path}: expected one input and one output, found {len(inputs)} and {len(outputs)}; save the part "
            "from images to classes"
        )
    check_input(path, tuple(inputs[0].shape[1:]), shape)
    return int(inputs[0].shape[3])


def _described(cut: Cut) -> dict[str, Any]:
    """Return what is said of a cut, as JSON values."""
    return {
        "after": cut.after,
        "features": int(np.prod(cut.features.shape[1:])),
        "static_share": round(cut.static_share, 6),
        "active_dropout": cut.rates,
        "inactive": [{"name": call.name, "kind": call.kind} for call in cut.off],
        "taken_as_dropout": [
            {"name": call.name, "kind": call.kind}
            for call in cut.tail
            if call.kind not in _KNOWN_DROPOUTS and call.name in cut.rates
        ],
    }


_KNOWN_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
