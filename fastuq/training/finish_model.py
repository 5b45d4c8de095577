"""The last steps to a model folder: head and whole network to int8, sizes and accuracies, the parts written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.model.coding import Coding
from fastuq.model.head import Head
from fastuq.model.model import Model, save_model
from fastuq.training.head_check import head_lines, rounded_heads
from fastuq.training.keras_heads import head_network
from fastuq.training.tflite import (
    MIN_CORRELATION,
    check_backbone,
    coded,
    float_size,
    predictor,
    to_int8,
    to_int8_by_image,
)
from fastuq.util.progress import progress_bar


def report_lines(report: dict[str, Any]) -> list[str]:
    """Return the report of a quantization as lines to read."""
    before, after = report["bytes_float32"], report["bytes_int8"]
    lines = [
        f"size        float32 {before / 1e6:6.2f} MB   int8 {after / 1e6:6.2f} MB   {before / after:.2f} times smaller",
        f"features    what sets an image apart, int8 against float32: correlation {report['feature_correlation']:.4f}",
    ]
    if "accuracy_int8" in report:
        lines.append(
            f"accuracy    float32 {report['accuracy_float32']:.2%}   "
            f"int8 backbone, float head {report['accuracy_int8_backbone']:.2%}   "
            f"all int8 {report['accuracy_int8']:.2%}   ({report['test_images']})"
        )
    return [*lines, *head_lines(report["head_int8"])]


def finish_model(
    output: str | Path,
    network: str,
    backbone: Any,
    data: bytes,
    heads: Sequence[Head],
    *,
    class_names: tuple[str, ...],
    calibration: np.ndarray,
    features: np.ndarray,
    test: ImageSet | None,
    made: dict[str, Any],
    crop: float | None = None,
    by_image: bool = False,
    minimum_correlation: float = MIN_CORRELATION,
    sizes: bool = True,
    keep_full: bool = True,
    threads: int | None = None,
) -> Model:
    """Quantize the heads, convert the whole network, measure sizes and accuracies, and write the model folder.

    Parameters
    ----------
    backbone : keras.Model
        The float backbone.
    data : bytes
        The int8 backbone.
    heads : sequence of Head
        The whole network gives the mean of their outputs.
    calibration : ndarray, (M, H, W, 3), uint8
        The images that the int8 backbone was calibrated on; the whole network is calibrated on them too.
    features : ndarray, (N, D), int8
        Features of training images, for the activation ranges of the int8 heads.
    test : ImageSet, optional
        Images to report the accuracy on.
    sizes : bool
        Report the sizes; for that in float32 the whole network is converted once more.
    keep_full : bool
        Also write the whole network; it is made and measured all the same.
    by_image : bool
        The backbone rounds activations in the range of each image, and the whole network does too.
    made : dict
        How the model was made; the report is added.
    crop : float, optional
        Of the model.
    """
    runner = Backbone(data, threads=threads)
    correlation = check_backbone(backbone, runner, calibration, minimum_correlation)
    whole, full, report = _whole_network(backbone, runner, heads, None if by_image else calibration, test, threads)
    if sizes:
        report = {"bytes_float32": float_size(whole), "bytes_int8": len(full), **report}
    features = np.asarray(features)
    (first, *others), report["head_int8"] = rounded_heads(heads, features, runner.scale, runner.zero_point)
    return save_model(
        output,
        network=network,
        backbone=data,
        full=full if keep_full else None,
        head=first[0],
        head_int8=first[1],
        others=others,
        class_names=class_names,
        input_shape=tuple(backbone.input_shape[1:]),
        feature_scale=runner.scale,
        feature_zero_point=runner.zero_point,
        info={**made, "report": {"feature_correlation": correlation, **report}},
        crop=crop,
    )


def _whole_network(
    backbone: Any,
    runner: Backbone,
    heads: Sequence[Head],
    calibration: np.ndarray | None,
    test: ImageSet | None,
    threads: int | None,
) -> tuple[Any, bytes, dict[str, Any]]:
    """Return the whole network, in Keras and in int8, and its accuracies where there are labels.

    Without calibration images, activations are rounded in the range of each image, and outputs are codes of 0 to 1.
    """
    import keras

    outputs = [head_network(head, number)(backbone.output) for number, head in enumerate(heads)]
    whole = keras.Model(backbone.input, outputs[0] if len(outputs) == 1 else keras.layers.Average()(outputs))
    if calibration is None:
        full = to_int8_by_image(coded(whole, Coding.spanning(np.tile([[0], [1]], heads[0].num_classes))))
    else:
        full = to_int8(whole, calibration)
    full_runner = Backbone(full, threads=threads)
    if test is None or test.labels is None:
        return whole, full, {}
    return whole, full, {"test_images": test.name, **_accuracies(whole, runner, full_runner, heads, test)}


def _accuracies(
    whole: Any, backbone: Backbone, full: Backbone, heads: Sequence[Head], test: ImageSet
) -> dict[str, float]:
    """Return top-1 accuracy in float, with the int8 backbone and the float heads, and all in int8."""
    right = {"accuracy_float32": 0, "accuracy_int8_backbone": 0, "accuracy_int8": 0}
    labels = np.asarray(test.labels)
    forward = predictor(whole)
    with progress_bar(len(test), "accuracy") as bar:
        for start in range(0, len(test), 256):
            chunk, truth = np.ascontiguousarray(test.images[start : start + 256]), labels[start : start + 256]
            features = (backbone(chunk).astype(np.float32) - backbone.zero_point) * np.float32(backbone.scale)
            outputs = forward(chunk), np.mean([head.forward(features) for head in heads], axis=0), full(chunk)
            for key, output in zip(right, outputs, strict=True):
                right[key] += int((output.argmax(axis=1) == truth).sum())
            bar.update(len(chunk))
    return {key: count / len(test) for key, count in right.items()}
