"""Sets of classes that hold the true one with a chance of at least `coverage`, by split conformal prediction.

The limit on how foreign a class may look is the ceil((n + 1) coverage)-th smallest of how foreign the true classes of n
held-out samples look; a new sample like them has its true class within it with that chance, over samples and
calibrations together, whatever the model is worth. LAC: foreign is 1 - p (Sadinle et al. 2019, arXiv 1609.00451).
RAPS: the sum of the larger p, plus a penalty for each rank beyond the first few (Angelopoulos et al. 2020, arXiv
2009.14193), here without their random part: sets are never empty, and the same every time.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.calibration.risk import check_rate, split
from fastuq.scoring.calibration.temperature import fit_temperature, probabilities
from fastuq.util.checks import one_of
from fastuq.util.labels import checked_labels

KINDS = ("lac", "raps")
_PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)
"""Among which the paper's code chooses, by the size of the sets."""


@dataclass(frozen=True)
class Sets:
    """How sets are made.

    Attributes
    ----------
    kind : {'lac', 'raps'}
    coverage : float
        The chance that a set holds the true class.
    temperature : float
        Of the probabilities.
    limit : float
        A class that looks more foreign is left out.
    penalty, free_ranks : float, int
        Of RAPS: what each rank costs, and how many cost nothing.
    """

    kind: str
    coverage: float
    temperature: float
    limit: float
    penalty: float = 0.0
    free_ranks: int = 0

    def of(self, outputs: Any) -> np.ndarray:
        """Return the sets of outputs (N, C), as bool (N, C)."""
        return self.foreign(outputs) <= self.limit

    def foreign(self, outputs: Any) -> np.ndarray:
        """Return how foreign each class looks, float64 (N, C)."""
        p = probabilities(outputs, self.temperature)
        if self.kind == "lac":
            return 1 - p
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, 1)
        larger = np.cumsum(ranked, axis=1) - ranked
        cost = larger + self.penalty * np.maximum(np.arange(1, p.shape[1] + 1) - self.free_ranks, 0)
        foreign = np.empty_like(p)
        np.put_along_axis(foreign, order, cost, 1)
        return foreign


def calibrated_sets(outputs: Any, labels: Any, coverage: float, kind: str = "lac") -> Sets:
    """Return how to make sets that hold the true class with a chance of at least `coverage`.

    A fifth of the samples choose temperature, penalty and free ranks; the others choose the limit.

    Parameters
    ----------
    outputs : array-like, (N, C)
        Of the head, from 0.
    labels : array-like, (N,), int
    coverage : float
        Between 0 and 1.
    kind : {'lac', 'raps'}

    Raises
    ------
    InputError
        There are too few samples.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> outputs = rng.dirichlet(np.ones(10) / 4, 2000)
    >>> labels = np.array([rng.choice(10, p=row) for row in outputs])
    >>> sets = calibrated_sets(outputs[:1000], labels[:1000], coverage=0.9)
    >>> bool(sets.of(outputs[1000:])[np.arange(1000), labels[1000:]].mean() > 0.88)
    True
    """
    one_of("sets", kind, KINDS)
    coverage = check_rate("coverage of the sets", coverage)
    values = np.asarray(outputs)
    choosing = split(len(values))
    proving, needed = int((~choosing).sum()), math.ceil(coverage / (1 - coverage) - 1e-9)
    if proving < needed or not choosing.any():
        least = max(math.ceil(needed / 0.8), 3)
        raise InputError(
            f"calibration: sets with a coverage of {coverage:g} need at least {least} samples, found {len(values)}; "
            "give more held-out samples, or ask for a smaller coverage"
        )
    truth = checked_labels("sets", labels, len(values), values.shape[1], "give the label of each row of outputs")
    some, some_truth = values[choosing], truth[choosing]
    sets = Sets(kind, coverage, fit_temperature(some, some_truth), 0.0)
    if kind == "raps":
        candidates = [_raps(sets, some, some_truth, penalty) for penalty in _PENALTIES]
        sets = min(candidates, key=lambda each: each.of(some).mean())
    return _with_limit(sets, values[~choosing], truth[~choosing])


def _raps(sets: Sets, outputs: np.ndarray, truth: np.ndarray, penalty: float) -> Sets:
    """Return sets with this penalty, and as many free ranks as hold the wanted share of the true classes."""
    p = probabilities(outputs, sets.temperature)
    ranks = 1 + (p > p[np.arange(len(p)), truth][:, None]).sum(axis=1)
    free = int(np.quantile(ranks, sets.coverage, method="inverted_cdf"))
    made = Sets(sets.kind, sets.coverage, sets.temperature, 0.0, penalty, free)
    return _with_limit(made, outputs, truth)


def _with_limit(sets: Sets, outputs: np.ndarray, truth: np.ndarray) -> Sets:
    foreign = np.sort(sets.foreign(outputs)[np.arange(len(truth)), truth])
    place = min(math.ceil((len(foreign) + 1) * sets.coverage - 1e-9), len(foreign))
    return Sets(sets.kind, sets.coverage, sets.temperature, float(foreign[place - 1]), sets.penalty, sets.free_ranks)
