"""Selective prediction: the risk of what is kept, over how much is kept.

A score ranks the samples, the most trusted first. Tied samples have no order of their own: curves and areas are the
expectation over all their orders, so that no figure depends on the order of the data; an actual threshold accepts
all of them or none.
"""

from typing import Any

import numpy as np

from fastuq.scoring.metrics.checks import checked_scores, samples_of
from fastuq.util.checks import finite_number


def risk_coverage_curve(score: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage k/N and selective risk (share of errors among the k most trusted), for k = 1 to N.

    Parameters
    ----------
    score : array-like, (N,)
        Larger is more trusted.
    correct : array-like, (N,), bool
        Whether the prediction is right.

    Returns
    -------
    coverage, risk : ndarray, (N,), float64
    """
    errors = _errors_accepted(*checked_scores(score, correct))
    accepted = np.arange(1, len(errors) + 1)
    return accepted / len(errors), errors / accepted


def aurc(score: Any, correct: Any) -> float:
    """Return the area under the risk-coverage curve: the mean of the selective risks at k/N, k = 1 to N.

    Geifman and El-Yaniv 2017, arXiv 1705.08500; smaller is better. Arguments as in `risk_coverage_curve`.
    """
    return float(risk_coverage_curve(score, correct)[1].mean())


def e_aurc(score: Any, correct: Any) -> float:
    """Return the excess of `aurc` over that of a perfect ranking of the same predictions.

    Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206, with the perfect ranking's exact area in place of their
    approximation r + (1 - r) ln(1 - r). Never negative; 0 is perfect.
    """
    values, right = checked_scores(score, correct)
    return max(0.0, aurc(values, right) - aurc(right.astype(np.float64), right))


def augrc(score: Any, correct: Any) -> float:
    """Return the area under the generalized risk-coverage curve, by trapezoids from coverage 0.

    The generalized risk at k/N is the number of errors among the k most trusted over N: the chance that a sample is
    wrong and accepted. Traub et al. 2024, arXiv 2407.01032; from 0 to 1/2, smaller is better.
    """
    errors = _errors_accepted(*checked_scores(score, correct))
    n = len(errors)
    return float((errors.sum() - errors[-1] / 2) / n**2)


def risk_at_coverage(score: Any, correct: Any, coverage: float) -> float:
    """Return the selective risk of the strictest threshold that accepts at least this share of the samples."""
    coverage = finite_number("coverage", coverage, np.finfo(float).tiny, 1)
    accepted, errors = _thresholds(*checked_scores(score, correct))
    place = np.searchsorted(accepted, samples_of(coverage, accepted[-1]))
    return float(errors[place] / accepted[place])


def coverage_at_risk(score: Any, correct: Any, risk: float) -> float:
    """Return the largest share of the samples that a threshold accepts with a selective risk up to `risk`; else 0."""
    risk = finite_number("risk", risk, 0, 1)
    accepted, errors = _thresholds(*checked_scores(score, correct))
    within = accepted[errors <= risk * accepted * (1 + 1e-12)]
    return float(within[-1] / accepted[-1]) if len(within) else 0.0


def _thresholds(score: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and errors accepted by each threshold from the strictest on; a block of ties is one threshold."""
    order = np.argsort(-score.astype(np.float64), kind="stable")
    ranked = score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ends + 1, np.cumsum(~correct[order])[ends]


def _errors_accepted(score: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the expected number of errors among the k most trusted, k = 1 to N: within ties it grows evenly."""
    accepted, errors = _thresholds(score, correct)
    return np.interp(np.arange(1, len(score) + 1), np.append(0, accepted), np.append(0, errors))
