"""What labels from outside must be."""

import os
import re
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


def places_of(used: Sequence[str], class_names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class that is known: by its name, or as a number where none is and all are numbers."""
    place = {name: number for number, name in enumerate(class_names)}
    if any(name in place for name in used) or not all(re.fullmatch(r"[0-9]{1,9}", name) for name in used):
        return place
    return {name: int(name) for name in used if int(name) < len(class_names)}


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
