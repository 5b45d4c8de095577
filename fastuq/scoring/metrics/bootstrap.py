"""How far a figure would move with other samples of the same kind."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import checked_seed, finite_number, whole_number


def bootstrap_interval(
    figure: Callable[..., float],
    *columns: Any,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of ``figure(*columns)``.

    Parameters
    ----------
    figure : callable
        Takes the columns, returns a number; resamples where it is NaN are left out.
    *columns : array-like, (N, ...)
        Samples are drawn together from all of them, N at a time, with replacement.
    confidence : float
        Between 0 and 1.
    resamples, seed : int

    Returns
    -------
    low, high : float
        NaN where no resample gives a number.
    """
    arrays = [np.asarray(column) for column in columns]
    if not arrays or len(arrays[0]) == 0 or any(len(array) != len(arrays[0]) for array in arrays):
        raise InputError(f"bootstrap: expected columns of one length, found {[len(array) for array in arrays]}")
    confidence = finite_number("confidence", confidence, 0, 1, open_ends=True)
    resamples = whole_number("resamples", resamples, 1, 10_000_000)
    # scipy.stats.bootstrap draws the same samples in the same time, but refuses a single sample, gives no interval
    # where one draw has no figure, and takes a second to import.
    rng = np.random.default_rng(checked_seed(seed))
    n = len(arrays[0])
    values = np.empty(resamples)
    for place in range(resamples):
        drawn = rng.integers(0, n, n)
        values[place] = figure(*(array[drawn] for array in arrays))
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
