"""What `model.json` says of a model, and whether its heads fit that and each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastuq.errors import InputError, ModelError, short
from fastuq.model.folder import AGAIN, DESCRIPTION
from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead

MAX_IMAGE_SIDE = 4096
HeadPair = tuple[Head, QuantizedHead]
"""A head in float32 and in int8."""


def check_names(network: str, class_names: Sequence[str]) -> None:
    """Raise InputError where `save_model` would refuse the names, or two are the same, before the work."""
    for what, name in (("network", network), *(("class", name) for name in class_names)):
        if not _is_name(name):
            raise InputError(
                f"{what} {name!r}: expected a name of printable characters, found a line feed or the like; rename it"
            )


def check_values(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise ModelError where a value of `model.json` is none of a model."""
    for key, right in _RIGHT.items():
        if not right(info.get(key)):
            found = short(info.get(key), 80)
            raise ModelError(f"model {folder}: {DESCRIPTION} does not describe a model ({key}: {found}); {AGAIN}")
    if (info["input_shape"] is None) == ("backbone.tflite" in info["parts"]):
        raise ModelError(f"model {folder}: {DESCRIPTION} has images without a backbone or the other way round; {AGAIN}")


def check_heads(folder: Path, heads: Sequence[HeadPair], classes: int) -> None:
    """Raise ModelError where heads are of other classes, float and int8 differ, or they are not of one model."""
    for head, head_int8 in heads:
        kinds = [[(b.rate, b.activation) for b in each.blocks] for each in (head, head_int8)]
        if head.widths != head_int8.widths or kinds[0] != kinds[1] or head.num_classes != classes:
            raise ModelError(
                f"model {folder}: its parts are of different models: float head {head.widths} "
                f"to {head.num_classes}, int8 head {head_int8.widths}, {classes} class names; {AGAIN}"
            )
    if len({(each.num_features, each.blocks[-1].activation) for each, _ in heads}) > 1:
        raise ModelError(
            f"model {folder}: its heads are of different models: expected all to take as many features and to end in "
            f"one activation, found others; {AGAIN}"
        )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()  # names reach the terminal, where escape codes act


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_IMAGE_SIDE


_RIGHT: dict[str, Callable[[Any], bool]] = {
    "network": _is_name,
    "input_shape": lambda x: x is None or (type(x) is list and len(x) == 3 and all(map(_is_side, x)) and x[2] == 3),
    "class_names": lambda x: type(x) is list and len(x) > 0 and all(map(_is_name, x)),
    "feature_scale": lambda x: type(x) is float and math.isfinite(x) and x > 0,
    "feature_zero_point": lambda x: type(x) is int and -128 <= x <= 127,
    "crop": lambda x: x is None or (type(x) is float and 0.01 <= x <= 1),
}
"""What each value of `model.json` must be."""
