"""How far outputs are from probabilities.

Classes exclude each other here, so rows of outputs that do not sum to one (a sigmoid head) are divided by their sum.
"""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.metrics.checks import checked_scores
from fastuq.util.checks import whole_number
from fastuq.util.labels import checked_labels

SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities below it count as it in the logarithm, so that one certain mistake does not decide the mean."""


def ece(confidence: Any, correct: Any, bins: int = 15) -> float:
    """Return the expected calibration error: over bins of equal width, the mean of |accuracy - mean confidence|.

    Bins count by their samples (Guo et al. 2017, arXiv 1706.04599). Arguments as in `reliability_bins`.
    """
    counts, right, confident = reliability_bins(confidence, correct, bins)
    return float(np.abs(right - confident).sum() / counts.sum())


def reliability_bins(confidence: Any, correct: Any, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what lies in the bins ((b-1)/B, b/B] of confidence, the first one with 0.

    Parameters
    ----------
    confidence : array-like, (N,)
        From 0 to 1.
    correct : array-like, (N,), bool
    bins : int

    Returns
    -------
    counts, right, confident : ndarray, (bins,)
        Samples, how many of them are right, and the sum of their confidences.
    """
    values, flags = checked_scores(confidence, correct)
    bins = whole_number("bins", bins, 1, 1_000_000)
    if values.min() < 0 or values.max() > 1:
        raise InputError(f"ece: expected confidences from 0 to 1, found {values.min()} to {values.max()}")
    values = values.astype(np.float64)
    place = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    return counts, np.bincount(place, flags, minlength=bins), np.bincount(place, values, minlength=bins)


def per_sample(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return what ECE, `nll` and `brier` are means of, float32 (N,) each: largest p, -ln p and squares of p - y."""
    own = probabilities[np.arange(len(probabilities)), labels]
    columns = {
        "confidence": probabilities.max(axis=1),
        "log_loss": -np.log(np.maximum(own, SMALLEST)),
        "squares": (probabilities**2).sum(axis=1) - 2 * own + 1,
    }
    return {name: values.astype(np.float32) for name, values in columns.items()}


def nll(outputs: Any, labels: Any) -> float:
    """Return the mean of -ln p of the true class, for outputs (N, C) and labels (N,)."""
    return float(per_sample(*_probabilities(outputs, labels))["log_loss"].mean(dtype=np.float64))


def brier(outputs: Any, labels: Any) -> float:
    """Return the mean over samples of the sum over classes of (p - y)², y one for the true class; from 0 to 2."""
    return float(per_sample(*_probabilities(outputs, labels))["squares"].mean(dtype=np.float64))


def _probabilities(outputs: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(outputs, np.float64)
    if p.ndim != 2 or p.shape[1] == 0 or not np.isfinite(p).all() or (p < 0).any():
        raise InputError(f"metrics: expected outputs (N, C), finite and from 0, found {p.shape} or other values")
    total = p.sum(axis=1, keepdims=True)
    truth = checked_labels("metrics", labels, len(p), p.shape[1], "give the label of each row of outputs")
    # A row of zeros says nothing: every class alike.
    return np.where(total > 0, p, 1) / np.where(total > 0, total, p.shape[1]), truth
