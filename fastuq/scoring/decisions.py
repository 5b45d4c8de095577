"""From moments to decisions: the interval, the ternary vector and the rules of the paper (arXiv 2403.01076)."""

import math
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.options import INTERVALS, MIXED, check_conf_factor, check_threshold
from fastuq.util.checks import one_of, whole_number


class Reason(IntEnum):
    """Why a sample is kept or ignored; the code is what `Decision.reason` holds.

    The first five are of the paper's rule, the last three of a rule by scores.

    Examples
    --------
    >>> import fastuq
    >>> [reason.text for reason in fastuq.Reason][:5]
    ['certain', 'nothing present', 'benefit of the doubt', 'uncertain', 'mixed']
    >>> [reason.text for reason in fastuq.Reason][5:]
    ['foreign', 'trusted', 'probably wrong', 'promise withdrawn']
    >>> fastuq.Reason(3).text
    'uncertain'
    """

    CERTAIN = 0
    NOTHING_PRESENT = 1
    BENEFIT_OF_THE_DOUBT = 2
    UNCERTAIN = 3
    MIXED = 4
    FOREIGN = 5
    """Not of the kind that the model knows: below the gate of a bank (`fastuq.score`), or of a second score."""
    TRUSTED = 6
    PROBABLY_WRONG = 7
    PROMISE_WITHDRAWN = 8
    """Kept by the threshold of a promise that does not hold for these data (`fastuq.keep_by_promise`)."""

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Decision:
    """Keep or ignore, for N samples and C classes.

    Attributes
    ----------
    keep : ndarray, (N,), bool
    reason : ndarray, (N,), int8
        A code of `Reason`.
    prediction : ndarray, (N,), int64
        The class of the largest mean: among the positive classes where the sample is kept, among all where it is not.
    positive : ndarray, (N, C), bool
        The classes predicted: more than one is possible for a kept sample; none for an ignored one.
    """

    keep: np.ndarray
    reason: np.ndarray
    prediction: np.ndarray
    positive: np.ndarray


def z_value(conf_factor: float) -> float:
    """Return z = norm.ppf((1 + conf_factor) / 2), the half width of the interval in standard deviations.

    Raises
    ------
    InputError
        `conf_factor` is not between 0 and 1, both excluded.

    Examples
    --------
    >>> round(z_value(0.7), 4)
    1.0364
    """
    # (1 + c) / 2 rounds to 1 for c just below 1; the lower tail, with (1 - c) / 2, does not.
    return -NormalDist().inv_cdf((1 - check_conf_factor(conf_factor)) / 2)


def interval(
    mean: np.ndarray, std: np.ndarray, conf_factor: float, *, kind: str = "std", num_iter: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval mean ± z·std, or mean ± z·std/sqrt(T).

    Parameters
    ----------
    mean, std : ndarray, (N, C), float32
        Moments over the iterations.
    conf_factor : float
        Confidence, between 0 and 1.
    kind : {'std', 'sem'}
        Spread of the iterations (the paper's), or of their mean.
    num_iter : int, optional
        Iterations T, which 'sem' needs.

    Returns
    -------
    lower, upper : ndarray, (N, C), float32

    Raises
    ------
    InputError
        An argument is out of range, or the moments are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> lower, upper = interval(np.array([[0.5, 0.25]]), np.array([[0.2, 0.0]]), conf_factor=0.7)
    >>> lower.round(2)
    array([[0.29, 0.25]], dtype=float32)
    >>> upper.round(2)
    array([[0.71, 0.25]], dtype=float32)
    """
    z = half_width(conf_factor, kind=kind, num_iter=num_iter)
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if mean.ndim != 2 or mean.shape != std.shape:
        raise InputError(f"moments: expected mean and std of one shape (N, C), found {mean.shape} and {std.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise InputError("moments: expected finite means and standard deviations from 0, found others; check the model")
    half = np.float32(z) * std
    return mean - half, mean + half


def half_width(conf_factor: float, *, kind: str = "std", num_iter: int | None = None) -> float:
    """Return the half width of the interval in standard deviations: z, or z/sqrt(T); arguments as in `interval`."""
    z = z_value(conf_factor)
    if one_of("interval", kind, INTERVALS) == "sem":
        z /= math.sqrt(whole_number("num_iter", num_iter, 2, 2**63))
    return z


def ternary_vector(lower: np.ndarray, upper: np.ndarray, threshold: float) -> np.ndarray:
    """Return 1 where lower > threshold, 0 where upper < threshold and -1 otherwise, as int8 (N, C).

    Raises
    ------
    InputError
        `threshold` is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> ternary_vector(np.array([[0.6, 0.3, 0.0]]), np.array([[0.9, 0.7, 0.2]]), threshold=0.5)
    array([[ 1, -1,  0]], dtype=int8)
    """
    # The paper's comparisons are strict: an interval that touches the threshold is uncertain.
    level = np.float32(check_threshold(threshold))
    ternary = np.full(np.shape(lower), -1, np.int8)
    ternary[np.asarray(upper) < level] = 0
    ternary[np.asarray(lower) > level] = 1
    return ternary


def decide(
    ternary: np.ndarray, mean: np.ndarray, *, mixed: str = "ignore", doubt_floor: float | None = None
) -> Decision:
    """Apply the rules of the paper to the ternary vectors of N samples.

    ==============================  ============================================================
    at least one 1, no -1           keep; the 1s are the prediction (certain)
    all 0                           ignore (nothing present)
    exactly one -1, all else 0      keep; the -1 becomes 1 (benefit of the doubt)
    two or more -1, no 1            ignore (uncertain)
    a 1 and a -1 together           the paper is silent: ignore, or keep the 1s with mixed='keep'
    ==============================  ============================================================

    Parameters
    ----------
    ternary : ndarray, (N, C), int8
        Values 1, 0 and -1, see `ternary_vector`.
    mean : ndarray, (N, C), float32
    mixed : {'ignore', 'keep'}
    doubt_floor : float, optional
        Least mean of a single -1 that gets the benefit of the doubt; below it, the sample is uncertain.

    Raises
    ------
    InputError
        `mixed` is not known, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> ternary = np.array([[1, 0, 0], [0, -1, 0], [0, -1, -1]], np.int8)
    >>> mean = np.array([[0.9, 0.1, 0.0], [0.1, 0.6, 0.0], [0.0, 0.5, 0.4]], np.float32)
    >>> decision = decide(ternary, mean)
    >>> decision.keep.tolist(), decision.prediction.tolist()
    ([True, True, False], [0, 1, 1])
    >>> [Reason(code).text for code in decision.reason]
    ['certain', 'benefit of the doubt', 'uncertain']
    """
    one_of("mixed", mixed, MIXED)
    ternary, mean = np.asarray(ternary), np.asarray(mean)
    if ternary.ndim != 2 or ternary.shape != mean.shape or ternary.shape[1] == 0:
        raise InputError(f"decide: expected ternary and mean of one shape (N, C), found {ternary.shape}, {mean.shape}")
    yes, open_ = ternary == 1, ternary == -1
    some_yes, doubts = yes.any(axis=1), open_.sum(axis=1)
    floor = np.float32(-np.inf if doubt_floor is None else doubt_floor)
    benefit = (doubts == 1) & (open_ & (mean >= floor)).any(axis=1)
    reason = np.select(
        [some_yes & (doubts == 0), some_yes, doubts == 0, benefit],
        [Reason.CERTAIN, Reason.MIXED, Reason.NOTHING_PRESENT, Reason.BENEFIT_OF_THE_DOUBT],
        Reason.UNCERTAIN,
    ).astype(np.int8)
    keep = (reason == Reason.CERTAIN) | (reason == Reason.BENEFIT_OF_THE_DOUBT)
    if mixed == "keep":
        keep |= reason == Reason.MIXED
    positive = np.where((reason == Reason.BENEFIT_OF_THE_DOUBT)[:, None], open_, yes) & keep[:, None]
    prediction = np.where(positive | ~keep[:, None], mean, -np.inf).argmax(axis=1).astype(np.int64)
    return Decision(keep, reason, prediction, positive)
