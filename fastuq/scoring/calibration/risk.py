"""Thresholds with a proof: of what is kept, at most a share `risk` is wrong, with confidence 1 - `delta`.

Samples are kept whose score reaches a threshold. Where the samples at hand had no say in the threshold, and it keeps n
of them, the number of wrong ones among these is binomial with its true risk, whatever n came out as: so the exact
(Clopper-Pearson) bound holds given n. Nothing is asked of the score, and ties are kept together or not at all.

To search for a threshold, `split` sets a fifth of the samples aside, 500 at most. They name the thresholds and the one
to begin with, the one they speak for most; the others, which had no say in it, test these in order, each at the full
`delta`, down to the first that fails (fixed-sequence testing, Angelopoulos et al. 2021, arXiv 2110.01052). For a
promise to be broken, the first threshold in order that is too risky has to pass its test, and the chance of that is
`delta` at most.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.metrics.checks import checked_scores, samples_of
from fastuq.util.checks import finite_number

LEAST_SCORE = -float(np.finfo(np.float32).max)
"""The threshold that keeps everything but `NEVER_KEPT`."""
NEVER_KEPT = -float(np.finfo(np.float64).max)
"""The score of a sample that no threshold keeps."""
_CHOOSING, _MOST_CHOOSING = 0.2, 500
"""Share of the samples that choose, and how many do at most: more would find no better place to begin."""
_STEPS = 4
"""Thresholds between one score and the next: a test that fails costs the fewest samples where steps are small."""
_SEED = 0


class Chosen(NamedTuple):
    """A threshold and what speaks for it.

    Attributes
    ----------
    threshold : float
        Keep a sample where its score is at least this.
    risk : float
        At most this share of the kept is wrong, with confidence 1 - delta.
    tested, kept, errors : int
        Samples that the threshold was tested on, how many of them it keeps, and how many of these are wrong.
    """

    threshold: float
    risk: float
    tested: int
    kept: int
    errors: int


def check_rate(name: str, value: Any) -> float:
    """Return a risk, delta or coverage as a plain float; raises InputError where it is not between 0 and 1."""
    return finite_number(name, value, 0, 1, open_ends=True)


def upper_bound(errors: int, kept: int, delta: float) -> float:
    """Return the exact binomial (Clopper-Pearson) upper bound of an error rate, at confidence 1 - delta.

    Examples
    --------
    >>> round(upper_bound(0, 59, 0.05), 4)
    0.0495
    """
    from scipy.stats import beta

    return 1.0 if errors >= kept else float(beta.ppf(1 - delta, errors + 1, kept - errors))


def split(n: int) -> np.ndarray:
    """Return which of n samples choose, (n,) bool: a fifth, 500 at most, drawn once for each n; the others prove."""
    choosing = np.zeros(n, bool)
    choosing[np.random.default_rng(_SEED).permutation(n)[: _choosing(n)]] = True
    return choosing


def _choosing(n: int) -> int:
    return min(round(n * _CHOOSING), _MOST_CHOOSING)


def samples_needed(risk: float, delta: float) -> int:
    """Return the fewest samples with which a risk can be promised, not one of them wrong.

    Examples
    --------
    >>> samples_needed(0.05, 0.05)
    74
    """
    proving = math.ceil(math.log(delta) / math.log1p(-risk))
    n = proving
    while n - _choosing(n) < proving:
        n += 1
    return n


def threshold_at_risk(score: Any, correct: Any, risk: float, delta: float) -> Chosen:
    """Return the lowest threshold for which the samples prove that at most `risk` of the kept are wrong.

    Parameters
    ----------
    score : array-like, (N,)
        Larger is more trusted.
    correct : array-like, (N,), bool
        Whether the prediction is right.
    risk, delta : float
        Between 0 and 1: the largest share of errors, and the chance that the promise is wrong.

    Raises
    ------
    InputError
        There are too few samples, none is wrong, or no threshold passes.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.linspace(0, 1, 1000)
    >>> chosen = threshold_at_risk(score, score > 0.2, risk=0.05, delta=0.05)
    >>> round(chosen.threshold, 3), chosen.kept, chosen.errors
    (0.175, 661, 21)
    """
    values, right = _checked(score, correct)
    risk, delta = check_rate("risk", risk), check_rate("delta", delta)
    needed = samples_needed(risk, delta)
    if len(values) < needed:
        raise InputError(
            f"calibration: at least {needed} samples are needed to promise a risk of {risk:g} at delta {delta:g}, "
            f"found {len(values)}; give more held-out samples, or ask for a higher risk"
        )
    choosing = split(len(values))
    thresholds = np.unique(np.maximum(values[choosing], LEAST_SCORE))[::-1]
    some, some_errors = _kept(values[choosing], right[choosing], thresholds)
    first = _first(some, some_errors, (len(values) - choosing.sum()) / choosing.sum(), risk) * _STEPS
    places = np.arange((len(thresholds) - 1) * _STEPS + 1) / _STEPS
    thresholds = np.interp(places, np.arange(len(thresholds)), thresholds)
    kept, errors = _kept(values[~choosing], right[~choosing], thresholds)
    failed = np.flatnonzero(_p_values(errors[first:], kept[first:], risk) > delta)
    place = first + (int(failed[0]) if len(failed) else len(thresholds) - first) - 1
    if place < first:
        raise InputError(
            f"calibration: no threshold keeps a risk of {risk:g} at delta {delta:g}: {errors[first]} of {kept[first]} "
            f"kept are wrong, which proves {upper_bound(errors[first], kept[first], delta):.3f}; ask for a "
            "higher risk, take a better score, or give more samples"
        )
    return Chosen(float(thresholds[place]), risk, int((~choosing).sum()), int(kept[place]), int(errors[place]))


def threshold_at_coverage(score: Any, correct: Any, coverage: float, delta: float) -> Chosen:
    """Return the threshold that keeps a share `coverage` of the samples, and the risk that they prove for it.

    Parameters and errors as in `threshold_at_risk`. Nothing is searched for, so all samples count: the threshold lies
    just above the score of one of them, and given that score those above it are as good as drawn afresh. Those of
    the same score are left out for that, so that less than `coverage` can be kept.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.linspace(0, 1, 1000)
    >>> chosen = threshold_at_coverage(score, score > 0.2, coverage=0.9, delta=0.05)
    >>> chosen.kept, chosen.errors, round(chosen.risk, 3)
    (900, 100, 0.13)
    """
    values, right = _checked(score, correct)
    coverage, delta = finite_number("coverage", coverage, np.finfo(float).tiny, 1), check_rate("delta", delta)
    wanted = samples_of(coverage, len(values))
    ranked = np.sort(values)[::-1]
    threshold = max(float(np.nextafter(ranked[wanted], np.inf)) if wanted < len(values) else LEAST_SCORE, LEAST_SCORE)
    keep = values >= threshold
    kept, errors = int(keep.sum()), int((keep & ~right).sum())
    if errors >= kept:
        raise InputError(
            f"calibration: {kept} of {len(values)} samples are above the threshold for a coverage of {coverage:g}, "
            f"{errors} of them wrong, which proves nothing; give more samples, or a score with fewer ties"
        )
    return Chosen(threshold, upper_bound(errors, kept, delta), len(values), kept, errors)


def _checked(score: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    values, right = checked_scores(score, correct)
    if right.all():
        raise InputError(
            f"calibration: not one of {len(values)} predictions is wrong, which leaves nothing to calibrate; the "
            "labels may be the model's own or of its training data: give more samples that it has not seen"
        )
    return values.astype(np.float64), right


def _kept(score: np.ndarray, right: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many samples each threshold keeps, and how many of these are wrong."""
    every, wrong = np.sort(score), np.sort(score[~right])
    kept = len(every) - np.searchsorted(every, thresholds)
    return kept, len(wrong) - np.searchsorted(wrong, thresholds)


def _p_values(errors: np.ndarray, kept: np.ndarray, risk: float) -> np.ndarray:
    """Return the chance of so few errors, or fewer, among the kept where the true risk is just too high."""
    from scipy.stats import binom

    return binom.cdf(errors, kept, risk)


def _first(kept: np.ndarray, errors: np.ndarray, times: float, risk: float) -> int:
    """Return the threshold that would pass most clearly if `times` as many samples erred like the choosing ones."""
    rate = (errors + 0.5) / (kept + 1)  # no errors among a few do not speak for a risk of 0
    expected = np.round(times * kept)
    return int(np.argmin(_p_values(np.round(rate * expected), expected, risk)))
