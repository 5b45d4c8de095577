"""How likely it is that a decision is another one under another seed: from the moments of the iterations behind it."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from fastuq.montecarlo.kernels.plan import Rules

_FIRST = 48
"""Iterations of the first stage; that and all others but the last are multiples of 16, which kernels take at once."""
_FREEDOM = 0.4
"""Degrees of freedom an iteration, of variances that few iterations of skewed outputs tell; see docs/method.md."""
_UNSEEN = 3.0
"""Iterations at the extreme that must not change what a class is; outputs that rare are missed with a chance of 5%."""
_FAR = 8.0
"""Standard errors beyond which a bound is where it is."""
_SCORES = np.linspace(-_FAR, _FAR, 641)


class Near(NamedTuple):
    """Classes whose interval reaches the threshold, or might: of which samples, and which. By sample, then by class."""

    sample: np.ndarray
    class_: np.ndarray


Limits = tuple[float, float]
"""Between which all outputs lie, or infinities."""


def stages(most: int) -> list[int]:
    """Return after how many iterations samples are looked at, the last being `most`.

    Examples
    --------
    >>> stages(500)
    [48, 64, 96, 128, 192, 256, 384, 500]
    """
    ends = (_FIRST * 2**k * part // 3 for k in range(40) for part in (3, 4))
    return [*(end for end in ends if end < most), most]


def first_look(rules: Rules, limits: Limits) -> int:
    """Return after how many iterations a class whose outputs were all at the lower limit is told to be absent.

    0 without limits, or where no output can be on the other side of the threshold.
    """
    low, high = limits
    if not low < rules.threshold < high or math.isinf(high - low):
        return 0
    place = (float(rules.threshold) - low) / (high - low)
    # That share of the iterations at the upper limit puts the upper bound on the threshold.
    z2 = float(rules.z) ** 2
    half = place + z2 / 2
    share = (half - math.sqrt(half**2 - (1 + z2) * place**2)) / (1 + z2)
    return math.ceil(_UNSEEN / share - _UNSEEN)


def nearby(mean: np.ndarray, std: np.ndarray, count: int, rules: Rules, limits: Limits) -> Near:
    """Return the classes that matter, of moments (N, C) over `count` iterations.

    However heavy its tails, the standard error of a bound comes out at most (1/sqrt(T) + z/2) std.
    """
    reach = np.float32(_FAR * (1 / math.sqrt(count) + float(rules.z) / 2)) * std
    highest = np.maximum(mean + rules.z * std + reach, bound_with_unseen(mean, std, count, rules, limits, 1))
    return Near(*np.nonzero(highest >= rules.threshold))


def bound_with_unseen(
    mean: np.ndarray, std: np.ndarray, count: int, rules: Rules, limits: Limits, sign: int
) -> np.ndarray:
    """Return mean + sign·z·std as `_UNSEEN` more iterations at the extreme would make it.

    The extreme is a limit of the outputs; without limits it is as far out as one of so many iterations can be. Outputs
    that do not vary, of a head without dropout, have none that are unseen.
    """
    limit = limits[sign > 0]
    extreme = np.float32(limit) if math.isfinite(limit) else mean + np.float32(sign * math.sqrt(count - 1)) * std
    share = np.float32(_UNSEEN / (count + _UNSEEN))
    gap = np.where(std > 0, extreme - mean, np.float32(0))
    spread = np.sqrt((1 - share) * (std * std + share * gap * gap))
    return mean + share * gap + sign * rules.z * spread


class Doubt:
    """The doubts of samples that are looked at after `ends` iterations and stop where the doubt is at most `error`.

    The bounds of a class, mean ± z·std, are taken as normal around their true values, with variances by the first four
    moments of the iterations, and the classes as independent of each other. Where `_UNSEEN` more iterations at the
    extreme would change what a class is, it is taken to be that as often as so rare outputs are missed.
    """

    def __init__(self, error: float, ends: Sequence[int], limits: Limits = (0, 1)) -> None:
        self.error, self.ends, self.limits = error, ends, limits
        self.another = self._another()

    def of(
        self, keep: np.ndarray, near: Near, moments: np.ndarray, stage: int, rules: Rules
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how likely endless iterations, and another seed, are to decide otherwise, (N,) float64 each.

        Parameters
        ----------
        keep : ndarray, (N,), bool
        near : Near
        moments : ndarray, (4, K), float64
            Mean and second to fourth central moment of each of these classes.
        stage : int
        rules : Rules
        """
        scores = standard_scores(moments, self.ends[stage], rules)
        truth = self._with_unseen([ndtr(score) for score in scores], moments, self.ends[stage], rules)
        in_truth = kept(len(keep), near.sample, truth, keep_mixed=rules.keep_mixed)
        chances = [np.interp(score, _SCORES, self.another[stage], 0, 1) for score in scores]
        again = kept(len(keep), near.sample, chances, keep_mixed=rules.keep_mixed)
        return np.where(keep, 1 - in_truth, in_truth), np.where(keep, 1 - again, again)

    def _with_unseen(
        self, chances: list[np.ndarray], moments: np.ndarray, count: int, rules: Rules
    ) -> list[np.ndarray]:
        """Return the chances with those of what so many iterations have not seen."""
        (possible, certain, floor), missed = chances, math.exp(-_UNSEEN)
        mean, std = moments[0], np.sqrt(moments[1])
        low, high = (bound_with_unseen(mean, std, count, rules, self.limits, sign) for sign in (-1, 1))
        possible = np.where(high >= rules.threshold, np.maximum(possible, missed), possible)
        certain = np.where(low <= rules.threshold, np.minimum(certain, 1 - missed), certain)
        return [possible, certain, floor]

    def _another(self) -> np.ndarray:
        """Return how likely a bound, so many standard errors above a level, ends above it under another seed.

        (stages, len(_SCORES)). The true bound is normal around the one found; from there, see `_above`.
        """
        far = _FAR * math.sqrt(self.ends[-1] / self.ends[0])
        drift = np.sinh(np.linspace(0, np.arcsinh(far), 200)) / math.sqrt(self.ends[-1])
        above = self._above(drift)
        nodes, weights = np.polynomial.hermite_e.hermegauss(61)
        places = (_SCORES[:, None] + nodes) / np.sqrt(self.ends)[:, None, None]
        both = np.concatenate([-drift[:0:-1], drift]), np.concatenate([1 - above[:0:-1], above])
        return np.interp(places, *both) @ (weights / weights.sum())

    def _above(self, drift: np.ndarray) -> np.ndarray:
        """Return how likely a random walk ends above 0: so much drift a step, looked at and stopped as samples are.

        Stage by stage: where it is if it goes on, without drift, and the share that stops above, with it.
        """
        bound = -NormalDist().inv_cdf(self.error)
        nodes, weights = np.polynomial.legendre.leggauss(96)
        place, weight, before, above = np.zeros(1), np.ones(1), 0, np.zeros(len(drift))
        for end in self.ends:
            step, edge = math.sqrt(end - before), bound * math.sqrt(end)
            likelihood = np.exp(drift[:, None] * place - drift[:, None] ** 2 * before / 2)
            beyond = place + drift[:, None] * step**2 - (0 if end == self.ends[-1] else edge)
            above += (weight * likelihood * ndtr(beyond / step)).sum(axis=1)
            moved = (nodes * edge)[:, None] - place
            density = np.exp(-(moved**2) / (2 * step**2)) / (step * math.sqrt(2 * math.pi))
            place, weight, before = nodes * edge, weights * edge * (density @ weight), end
        return above


def standard_scores(moments: np.ndarray, count: int, rules: Rules) -> list[np.ndarray]:
    """Return by how many standard errors upper bound, lower bound and mean exceed threshold, threshold and floor.

    An error of the mean goes with one of the deviation: with the standardized output u, the error of mean ± z·std is
    that of the mean of std (u ± z (u² - 1) / 2).
    """
    mean, second, third, fourth = moments
    z, std, scores = float(rules.z), np.sqrt(second), []
    with np.errstate(divide="ignore", invalid="ignore"):
        skew, spread = z * third / std, z * z / 4 * (fourth / second - second)
        for sign, level in ((1, rules.threshold), (-1, rules.threshold), (0, rules.floor)):
            variance = np.where(second > 0, second + sign * skew + abs(sign) * spread, 0)
            gap = mean + sign * z * std - float(level)
            score = gap / np.sqrt(np.maximum(variance, 0) / (count - 1))
            scores.append(np.where(variance > 0, _normal_score(score, count), np.where(gap >= 0, np.inf, -np.inf)))
    return scores


def _normal_score(score: np.ndarray, count: int) -> np.ndarray:
    """Return the normal score that is as likely as one of Student's t: the variance behind it was estimated."""
    return np.copysign(ndtri(stdtr(_FREEDOM * count, -np.abs(score))), score)


def kept(samples: int, sample: np.ndarray, chances: Sequence[np.ndarray], *, keep_mixed: bool) -> np.ndarray:
    """Return how likely samples are to be kept, (N,).

    Parameters
    ----------
    samples : int
        N.
    sample : ndarray, (K,), int64
        Of each class that may be present, ascending; all others are absent.
    chances : three ndarrays, (K,)
        That upper bound, lower bound and mean are above threshold, threshold and floor.
    keep_mixed : bool
    """
    possible, certain, floor = chances
    certain = np.minimum(certain, possible)
    benefit = np.maximum(np.minimum(possible, floor) - certain, 0)
    # Class by class: none is present so far; one is uncertain, may be kept, and is alone; none uncertain; none certain.
    nothing, single, closed, unsure = np.ones(samples), np.zeros(samples), np.ones(samples), np.ones(samples)
    count = np.bincount(sample, minlength=samples)
    first = np.cumsum(count) - count
    for number in range(count.max(initial=0)):
        of = np.flatnonzero(count > number)
        at = first[of] + number
        single[of] = single[of] * (1 - possible[at]) + nothing[of] * benefit[at]
        nothing[of] *= 1 - possible[at]
        closed[of] *= 1 - (possible[at] - certain[at])
        unsure[of] *= 1 - certain[at]
    return np.clip(single + (1 - unsure if keep_mixed else closed - nothing), 0, 1)
