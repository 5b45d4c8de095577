"""The shift alarm: whether the scores of what is scored look like those of the calibration.

A two-sample Kolmogorov-Smirnov test; where both come from one source, it sounds in `RATE` of the cases at most. It
looks at scores alone: a shift that leaves them as they were stays unheard, as does a small one among few samples.
"""

import warnings
from typing import NamedTuple

import numpy as np

RATE = 0.01
"""The chance of a false alarm."""
MOST = 10_000
"""Samples of the calibration that are remembered; of more, that many are drawn."""


class Alarm(NamedTuple):
    """What the test found: the largest gap between the two distributions, the chance of such a gap, and the verdict."""

    gap: float
    p_value: float
    sounds: bool


def remembered(n: int) -> np.ndarray:
    """Return the places of the samples to remember of a calibration of n, ascending: all, or `MOST` drawn of them."""
    return np.sort(np.random.default_rng(0).permutation(n)[:MOST])


def shift_alarm(calibration: np.ndarray, score: np.ndarray, rate: float = RATE) -> Alarm:
    """Return whether scores (M,) differ from those of the calibration (N,), with `rate` false alarms at most.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> calibration = rng.random(1000)
    >>> shift_alarm(calibration, rng.random(500)).sounds, shift_alarm(calibration, rng.random(500) ** 2).sounds
    (False, True)
    """
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        # Where the gap is next to nothing the exact value is found as a hair above 1, and SciPy takes another, 1.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        found = ks_2samp(calibration, score)
    return Alarm(float(found.statistic), float(found.pvalue), bool(found.pvalue <= rate))
