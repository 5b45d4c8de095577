"""What every figure asks of its arguments."""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import array_of


def checked_scores(score: Any, flags: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return scores as finite numbers and flags as bool, both (N,) with N >= 1, or raise InputError."""
    values, marks = array_of("metrics", score), array_of("metrics", flags)
    if values.ndim != 1 or values.shape != marks.shape or len(values) == 0 or values.dtype.kind not in "fiu":
        raise InputError(
            f"metrics: expected one score and one flag for each of at least one sample, "
            f"found {values.dtype} {values.shape} and {marks.dtype} {marks.shape}"
        )
    if marks.dtype != bool:
        raise InputError(f"metrics: expected flags as bool, found {marks.dtype}; compare predictions with labels first")
    if not np.isfinite(values).all():
        raise InputError("metrics: expected finite scores, found NaN or infinity")
    return values, marks


def checked_labels(labels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return labels as whole numbers (N,), N and C from `shape` (N,) or (N, C), or raise InputError."""
    found = array_of("metrics", labels)
    if found.shape != shape[:1] or len(found) == 0 or found.dtype.kind not in "iu":
        raise InputError(
            f"metrics: expected {shape[:1]} labels as whole numbers for at least one sample, "
            f"found {found.dtype} {found.shape}"
        )
    if len(shape) == 2 and (found.min() < 0 or found.max() >= shape[1]):
        raise InputError(f"metrics: expected classes 0 to {shape[1] - 1}, found {found.min()} to {found.max()}")
    return found
