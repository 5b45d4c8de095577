"""`fastuq quantize`: a trained Keras network becomes a model folder."""

import zipfile
from pathlib import Path
from typing import Any

from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.model.backbone import Backbone
from fastuq.model.folder import check_replaceable
from fastuq.model.head import Head
from fastuq.model.model import Model, check_names
from fastuq.training.finish_model import finish_model
from fastuq.training.head_rounding import CALIBRATION_SAMPLES
from fastuq.training.keras_heads import head_from_layers
from fastuq.training.tensorflow import silence, tensorflow
from fastuq.training.tflite import calibration_images, to_int8
from fastuq.util.checks import checked_path
from fastuq.util.process import thread_count


def quantize_file(
    path: str | Path,
    images: ImageSet,
    test: ImageSet | None,
    output: str | Path,
    *,
    threads: int | None = None,
) -> Model:
    """Quantize a trained Keras network and write its model folder.

    Parameters
    ----------
    path : str or Path
        A ``.keras`` file: images (N, H, W, 3), values 0 to 255, -> backbone -> global average pooling -> an optional
        BatchNorm, dropout and dense layers. It is read in Keras's safe mode, which runs no code from the file.
    images : ImageSet
        Training images with class names, to calibrate on.
    test : ImageSet or None
        Images to report the accuracy on.
    output : str or Path
        The model folder.

    Raises
    ------
    InputError
        The file is missing, foreign or of another shape than the images, or `output` holds something else.
    ModelError
        The quantized backbone does not follow the float one.
    """
    thread_count(threads)
    check_replaceable(checked_path(output))
    name, backbone, head, class_names = _read_network(checked_path(path), images)
    calibration = calibration_images(images.images)
    data = to_int8(backbone, calibration)
    runner = Backbone(data, threads=threads)
    drawn = calibration_images(images.images, CALIBRATION_SAMPLES)
    made = {"quantized_from": Path(path).name, "training_images": images.name}
    return finish_model(
        output,
        name,
        backbone,
        data,
        head,
        class_names=class_names,
        calibration=calibration,
        features=runner(drawn),
        test=test,
        made=made,
        threads=threads,
    )


def _read_network(path: Path, images: ImageSet) -> tuple[str, Any, Head, tuple[str, ...]]:
    """Return name, backbone, head and class names of a network, which must take such images and know their classes."""
    network = _load_network(path)
    expected, found = tuple(network.input_shape[1:]), tuple(images.images.shape[1:])
    if expected != found:
        raise InputError(f"{images.name}: the network {path} takes images {expected}, found {found}")
    backbone, layers = _split(network, path)
    head = head_from_layers(layers, backbone.output_shape[-1])
    if images.class_names is None or head.num_classes != len(images.class_names):
        names = "none" if images.class_names is None else len(images.class_names)
        raise InputError(f"{images.name}: the network {path} has {head.num_classes} classes, the images name {names}")
    check_names(network.name, images.class_names)
    return network.name, backbone, head, images.class_names


def _load_network(path: Path) -> Any:
    tensorflow()
    import keras

    if path.suffix != ".keras" or not path.is_file():
        problem = "is not there" if not path.is_file() else "is no .keras file"
        raise InputError(f"network {path}: {problem}; give a network saved by Keras 3 as a .keras file")
    if not _is_whole(path):
        raise InputError(f"network {path}: truncated, or not saved by Keras 3 as a .keras file; save or copy it again")
    try:
        with silence():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # What a foreign archive makes Keras raise is not one kind.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"network {path}: expected a .keras file without code of its own ({reason})") from error


def _is_whole(path: Path) -> bool:
    """Return whether a file is an archive with the members of a .keras file, their checksums right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "model.weights.h5"} <= set(archive.namelist()) and archive.testzip() is None
    except Exception:  # what a damaged archive raises is not one kind
        return False


def _split(network: Any, path: str | Path) -> tuple[Any, list[Any]]:
    """Split a network after its last global average pooling: the backbone, and the layers of the head."""
    import keras

    kinds = [type(layer).__name__ for layer in network.layers]
    if "GlobalAveragePooling2D" not in kinds:
        raise InputError(f"network {path}: found no GlobalAveragePooling2D layer, where backbone and head are split")
    last = len(kinds) - 1 - kinds[::-1].index("GlobalAveragePooling2D")
    return keras.Model(network.input, network.layers[last].output), network.layers[last + 1 :]
