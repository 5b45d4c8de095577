"""Scores that may tell which predictions to trust, side by side on the same samples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.scoring.metrics import aurc, auroc, bootstrap_interval, fpr_at_tpr
from fastuq.scoring.result import Result

FIGURES = {"aurc": aurc, "auroc": auroc, "fpr95": fpr_at_tpr}
RESAMPLES = 1000


def trust_scores(result: Result) -> dict[str, np.ndarray]:
    """Return scores (N,) by name, larger is more trusted, of a result with details and mutual information.

    ``plain_max`` is the largest output of the plain pass; the others come from the iterations: the largest mean, the
    predictive entropy, the mutual information, and the standard deviation of the class of the largest mean, of which
    the width of its interval is a fixed multiple; ``mean_width`` is the width of the interval averaged over all
    classes.
    """
    if result.mutual_information is None or not len(result.plain):
        raise ValueError("trust_scores needs a result with details and mutual information")
    spread = result.std[np.arange(len(result)), result.top]
    lower, upper = result.lower, result.upper
    return {
        "plain_max": result.plain.max(axis=1),
        "max_mean": result.max_mean,
        "entropy": -result.entropy,
        "mutual_information": -result.mutual_information,
        "predicted_std": -spread,
        "mean_width": -(upper - lower).mean(axis=1),
    }


def failure_detection(result: Result, *, resamples: int = RESAMPLES) -> dict[str, dict[str, Any]]:
    """Return how well each score tells right from wrong predictions: figures with their 95% bootstrap intervals.

    Each score judges its own classifier: ``plain_max`` the plain pass, the others the largest mean.
    """
    assert result.labels is not None
    found = {}
    for name, score in trust_scores(result).items():
        right = (result.plain_prediction if name == "plain_max" else result.top) == result.labels
        row: dict[str, Any] = {"accuracy": float(right.mean())}
        for figure, function in FIGURES.items():
            interval = bootstrap_interval(function, score, right, resamples=resamples)
            row[figure] = [_number(function(score, right)), *map(_number, interval)]
        found[name] = row
    return found


def shift_detection(clean: dict[str, np.ndarray], corrupted: Result) -> dict[str, dict[str, float | None]]:
    """Return how well each score tells clean images (`trust_scores`) from those of one corrupted split."""
    found = {}
    for name, score in trust_scores(corrupted).items():
        both = np.concatenate([clean[name], score])
        is_clean = np.arange(len(both)) < len(clean[name])
        found[name] = {key: _number(FIGURES[key](both, is_clean)) for key in ("auroc", "fpr95")}
    return found


def mean_shift_detection(splits: Sequence[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, Any]]:
    """Return the means over splits of `shift_detection`, with 95% intervals from resampling the splits."""
    found: dict[str, dict[str, Any]] = {}
    for name in splits[0]:
        found[name] = {}
        for key in ("auroc", "fpr95"):
            values = np.array([split[name][key] for split in splits], np.float64)
            interval = bootstrap_interval(lambda x: float(x.mean()), values)
            found[name][key] = [float(values.mean()), *interval]
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
