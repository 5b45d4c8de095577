"""What labels from outside must be."""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import array_of


def checked_labels(what: str, labels: Any, count: int, classes: int | None, way_out: str) -> np.ndarray:
    """Return the labels of `count` samples as int64; `classes` is None where their number is not known.

    The InputError where they are none begins with `what` and ends with the way out.
    """
    found = array_of(what, labels)
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
