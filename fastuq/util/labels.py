"""What labels from outside must be."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import array_of, checked_path
from fastuq.util.npy import open_regular

MAX_NAMES_BYTES = 4 * 2**20
"""Largest file of class names that is read."""


def checked_labels(what: str, labels: Any, count: int, classes: int | None, way_out: str) -> np.ndarray:
    """Return the labels of `count` samples as int64; `classes` is None where their number is not known.

    A column (N, 1) and one-hot rows (N, C), as Keras has them, are taken too. The InputError where they are none begins
    with `what` and ends with the way out.
    """
    found = _as_numbers(array_of(what, labels), classes)
    if found.shape != (count,) or count == 0 or found.dtype.kind not in "iu":
        raise InputError(
            f"{what}: expected {count or 'at least one'} whole numbers, one per sample, "
            f"found {found.dtype} {found.shape}; {way_out}"
        )
    last = np.iinfo(np.int64).max if classes is None else classes - 1
    if found.min() < 0 or found.max() > last:  # before the cast, which makes large numbers negative
        upper = "and up" if classes is None else f"to {last}"
        raise InputError(f"{what}: expected class numbers 0 {upper}, found {found.min()} to {found.max()}; {way_out}")
    return found.astype(np.int64)


def _as_numbers(found: np.ndarray, classes: int | None) -> np.ndarray:
    """Return class numbers of a column, or of one-hot rows of as many classes; anything else as it is."""
    if found.ndim != 2 or found.dtype.kind not in "iufb":
        return found
    if found.shape[1] == 1:
        return found[:, 0]
    one_hot = classes in (None, found.shape[1]) and ((found == 0) | (found == 1)).all() and (found.sum(1) == 1).all()
    return found.argmax(axis=1) if one_hot else found


def one_hot_width(labels: Any) -> int | None:
    """Return how many classes one-hot labels count; None for numbers, of which the largest class may have none."""
    shape = np.shape(labels)
    return shape[1] if len(shape) == 2 and shape[1] > 1 else None


def check_width(what: str, width: int | None, classes: int) -> None:
    """Raise InputError where labels came one-hot (see `one_hot_width`) and count another number of classes."""
    if width not in (None, classes):
        raise InputError(
            f"{what}: expected one-hot labels of {classes} classes, as the model has, found {width}; give labels of "
            "the model's own classes, or none"
        )


def places_of(used: Sequence[str], class_names: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Return the number of each class that is known, and whether by number: where no name is and all are numbers.

    Names are compared in Unicode's form C, since some systems name files in form D. Two classes may have one name (two
    of ImageNet's are ``crane``), but none that is asked for: that is an InputError.
    """
    composed = [_composed(name) for name in class_names]
    place, count = {name: number for number, name in enumerate(composed)}, Counter(composed)
    for name in used:
        if count[_composed(name)] > 1:
            raise InputError(f"class {name!r}: is there twice among the names of classes; give class numbers instead")
    found = {name: place[_composed(name)] for name in used if _composed(name) in place}
    if found or not all(re.fullmatch(r"[0-9]{1,9}", name) for name in used):
        return found, False
    return {name: int(name) for name in used if int(name) < len(class_names)}, True


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def read_class_names(path: str | Path, count: int | None = None) -> tuple[str, ...]:
    """Return the class names of a text file (UTF-8), one a line; else InputError, also where they are not `count`."""
    try:
        with open(open_regular(checked_path(path)), "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_NAMES_BYTES:
                raise ValueError(f"more than {MAX_NAMES_BYTES} bytes")
            lines = file.read(MAX_NAMES_BYTES).decode("utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"class names {path}: expected a text file with one name a line ({reason})") from None
    names = tuple(line.strip() for line in lines)
    if not all(names):
        raise InputError(f"class names {path}: expected one name a line, found an empty line; name every class")
    if count is not None and len(names) != count:
        raise InputError(
            f"class names {path}: expected {count}, one for each class, found {len(names)}; name every class"
        )
    return names
