"""Whether an imported head gives what its TFLite file gives."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.errors import ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.head import Head
from fastuq.model.tflite_dense import DenseLayer
from fastuq.model.tflite_graph import Graph
from fastuq.training.head_check import head_lines
from fastuq.util.progress import progress_bar

MIN_CORRELATION = 0.99
_AT_ONCE = 256


def check_plain_pass(
    graph: Graph, layers: Sequence[DenseLayer], head: Head, features: np.ndarray, sums: np.ndarray
) -> dict[str, Any]:
    """Compare the sums of the last layer as the file rounds them to int8 with those of the plain pass.

    With one layer nothing but that rounding lies between the two, so that they may differ by one step, where a sum lies
    within float32's rounding of a half. With more, the file rounds and cuts off the values between the layers too.

    Parameters
    ----------
    features : ndarray, (N, D), int8
        What the backbone makes of some images.
    sums : ndarray, (N, outputs), int8
        What the file makes of them.

    Returns
    -------
    dict
        ``steps_apart``, the largest difference, and ``same_class``, the share of images whose class in the plain pass
        has the file's largest output.

    Raises
    ------
    ModelError
        They differ by more, or with several layers correlate with less than 0.99.
    """
    first, last = layers[0], layers[-1]
    open_ended = replace(head, blocks=(*head.blocks[:-1], replace(head.blocks[-1], activation="linear")))
    real = first.taken.scale * (features.astype(np.float32) - np.float32(first.taken.zero_point))
    plain = open_ended.forward(real.astype(np.float32))
    if made_of_one := sums.shape[1] == 1:  # two classes, -z / 2 and z / 2
        plain = 2 * plain[:, 1:]
    rounded = np.clip(np.rint(plain / last.given.scale) + last.given.zero_point, -128, 127)
    apart = int(np.abs(rounded - sums).max())
    if made_of_one:
        same = (plain > 0) == (sums > last.given.zero_point)
    else:
        same = np.take_along_axis(sums, plain.argmax(axis=1)[:, None], 1)[:, 0] == sums.max(axis=1)
    spread = float(rounded.std()) * float(sums.std())
    correlation = float(np.corrcoef(rounded.ravel(), sums.ravel())[0, 1]) if spread > 0 else 1.0
    if (len(layers) == 1 and apart > 1) or correlation < MIN_CORRELATION:
        raise ModelError(
            f"{graph.name}: its dense layers by themselves do not give what the file gives (up to {apart} steps apart, "
            f"correlation {correlation:.4f}); the values between them leave the range that the file holds: give fewer "
            "dropout rates, so that fewer layers are the head"
        )
    return {"steps_apart": apart, "same_class": float(same.mean())}


def accuracy_of(images: ImageSet, backbone: Backbone, head: Head, full: Backbone) -> dict[str, Any]:
    """Return the top-1 accuracy of the file and of the plain pass on labelled images."""
    labels, right = np.asarray(images.labels), {"accuracy_file": 0, "accuracy_plain": 0}
    with progress_bar(len(images), "accuracy") as bar:
        for start in range(0, len(images), _AT_ONCE):
            chunk, truth = images.images[start : start + _AT_ONCE], labels[start : start + _AT_ONCE]
            features = backbone(np.ascontiguousarray(chunk)).astype(np.float32)
            plain = head.forward((features - np.float32(backbone.zero_point)) * np.float32(backbone.scale))
            given = full(np.ascontiguousarray(chunk)).astype(float)
            if given.shape[1] == 1:  # one sigmoid unit
                given = np.concatenate(
                    [np.zeros_like(given), given * full.scale - full.zero_point * full.scale - 0.5], 1
                )
            right["accuracy_file"] += int((given.argmax(axis=1) == truth).sum())
            right["accuracy_plain"] += int((plain.argmax(axis=1) == truth).sum())
            bar.update(len(chunk))
    found = {key: count / len(images) for key, count in right.items()}
    return {"test_images": images.name, **found, "near_chance": found["accuracy_file"] < 1.5 / head.num_classes}


def report_lines(made: dict[str, Any]) -> list[str]:
    """Return what `fastuq import` found in a TFLite file, as lines to read."""
    report = made["report"]
    lines = [f"cut         after tensor {made['cut']}"]
    lines += [f"labels      {made['labels']}"] if "labels" in made else []
    if "steps_apart" in report:
        lines.append(
            f"plain pass  as the file's own on {made['checked_on']}: outputs at most {report['steps_apart']} int8 "
            f"steps apart, same class {report['same_class']:.1%}"
        )
        step, rounded = report["input_step"], report["rounded_outputs"]
        inputs = "exactly" if step == 1 else f"rounded to {1 / step:.3f} of the file's resolution"
        lines.append(f"integers    features taken {inputs}; weights of {rounded or 'no'} outputs rounded again")
    lines += head_lines(report["head_int8"])
    if "accuracy_file" in report:
        lines.append(
            f"accuracy    file {report['accuracy_file']:.2%}   plain pass {report['accuracy_plain']:.2%}   "
            f"({report['test_images']})"
        )
        if report["near_chance"]:
            lines.append("warning     that is near chance: are these the file's classes, in its order?")
    return lines
