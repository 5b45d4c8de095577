"""What every figure asks of its arguments."""

import math
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


def samples_of(coverage: float, count: int) -> int:
    """Return the fewest of `count` samples that are a share `coverage` of them.

    Examples
    --------
    >>> samples_of(0.07, 100)
    7
    """
    return math.ceil(coverage * count * (1 - 1e-12))  # 0.07 * 100 is a little more than 7
