"""The last steps to a model folder: head and whole network to int8, sizes and accuracies, the parts written."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.backbone import Backbone
from fastuq.checks import checked_path
from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.head import Head
from fastuq.model import Model, check_names, save_model
from fastuq.model_folder import check_replaceable
from fastuq.models.heads import head_from_layers, head_network
from fastuq.models.quantize import MIN_CORRELATION, calibration_images, check_backbone, float_size, predictor, to_int8
from fastuq.models.runtime import silence, tensorflow
from fastuq.process import thread_count
from fastuq.progress import progress_bar
from fastuq.quantized_head import CALIBRATION_SAMPLES, quantize_head


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
    name, backbone, head = _read_network(checked_path(path), images)
    data = to_int8(backbone, calibration_images(images.images))
    runner = Backbone(data, threads=threads)
    drawn = calibration_images(images.images, CALIBRATION_SAMPLES)
    made = {"quantized_from": Path(path).name, "training_images": images.name}
    return finish_model(
        output,
        name,
        backbone,
        data,
        head,
        images,
        test,
        features=runner(drawn),
        made=made,
        threads=threads,
    )


def _read_network(path: Path, images: ImageSet) -> tuple[str, Any, Head]:
    """Return name, backbone and head of a network, which must take such images and know their classes."""
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
    return network.name, backbone, head


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


def report_lines(report: dict[str, Any]) -> list[str]:
    """Return the report of a quantization as lines to read."""
    before, after = report["bytes_float32"], report["bytes_int8"]
    lines = [
        f"size        float32 {before / 1e6:6.2f} MB   int8 {after / 1e6:6.2f} MB   {before / after:.2f} times smaller",
        f"features    int8 against float32: correlation {report['feature_correlation']:.4f}",
    ]
    if "accuracy_int8" in report:
        lines.append(
            f"accuracy    float32 {report['accuracy_float32']:.2%}   "
            f"int8 backbone, float head {report['accuracy_int8_backbone']:.2%}   "
            f"all int8 {report['accuracy_int8']:.2%}   ({report['test_images']})"
        )
    return lines


def finish_model(
    output: str | Path,
    network: str,
    backbone: Any,
    data: bytes,
    head: Head,
    images: ImageSet,
    test: ImageSet | None,
    *,
    features: np.ndarray,
    made: dict[str, Any],
    minimum_correlation: float = MIN_CORRELATION,
    threads: int | None = None,
) -> Model:
    """Quantize the head, convert the whole network, measure sizes and accuracies, and write the model folder.

    Parameters
    ----------
    backbone : keras.Model
        The float backbone.
    data : bytes
        The int8 backbone.
    images, test : ImageSet
        Training images (calibration), and images to report the accuracy on.
    features : ndarray, (N, D), int8
        Features of training images, for the activation ranges of the int8 head.
    made : dict
        How the model was made; the report is added.
    minimum_correlation : float
        What int8 and float features must at least correlate; see `check_backbone`.
    """
    import keras

    calibration = calibration_images(images.images)
    runner = Backbone(data, threads=threads)
    correlation = check_backbone(backbone, runner, calibration, minimum_correlation)
    head_int8 = quantize_head(head, np.asarray(features), runner.scale, runner.zero_point)
    top = head_network(head)
    whole = keras.Model(backbone.input, top(backbone.output))
    full = to_int8(whole, calibration)
    full_runner = Backbone(full, threads=threads)
    report: dict[str, Any] = {
        "feature_correlation": correlation,
        "bytes_float32": float_size(whole),
        "bytes_int8": len(full),
    }
    if test is not None and test.labels is not None:
        report["test_images"] = test.name
        report.update(_accuracies(whole, runner, full_runner, head, test))
    if images.class_names is None:
        raise InputError(f"{images.name}: class names are missing; give a data set that has them")
    return save_model(
        output,
        network=network,
        backbone=data,
        full=full,
        head=head,
        head_int8=head_int8,
        class_names=images.class_names,
        input_shape=tuple(backbone.input_shape[1:]),
        feature_scale=runner.scale,
        feature_zero_point=runner.zero_point,
        info={**made, "report": report},
    )


def _accuracies(whole: Any, backbone: Backbone, full: Backbone, head: Head, test: ImageSet) -> dict[str, float]:
    """Return top-1 accuracy in float, with the int8 backbone and the float head, and all in int8."""
    right = {"accuracy_float32": 0, "accuracy_int8_backbone": 0, "accuracy_int8": 0}
    labels = np.asarray(test.labels)
    forward = predictor(whole)
    with progress_bar(len(test), "accuracy") as bar:
        for start in range(0, len(test), 256):
            chunk, truth = np.ascontiguousarray(test.images[start : start + 256]), labels[start : start + 256]
            features = (backbone(chunk).astype(np.float32) - backbone.zero_point) * np.float32(backbone.scale)
            outputs = forward(chunk), head.forward(features), full(chunk)
            for key, output in zip(right, outputs, strict=True):
                right[key] += int((output.argmax(axis=1) == truth).sum())
            bar.update(len(chunk))
    return {key: count / len(test) for key, count in right.items()}
