"""How well a score tells two kinds of samples apart: right from wrong predictions, or clean from corrupted images.

The positive kind is the one to be accepted (right, clean), and a larger score means more trust.
"""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.metrics.checks import checked_scores


def auroc(score: Any, positive: Any) -> float:
    """Return the chance that a positive sample scores above a negative one, ties counted half.

    Parameters
    ----------
    score : array-like, (N,)
    positive : array-like, (N,), bool

    Returns
    -------
    float
        From 0 to 1; 0.5 tells nothing. NaN where all samples are of one kind.
    """
    values, kind = checked_scores(score, positive)
    positives, negatives = np.sort(values[kind]), np.sort(values[~kind])
    if len(positives) == 0 or len(negatives) == 0:
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left").sum()
    not_above = np.searchsorted(negatives, positives, side="right").sum()
    return float((below + not_above) / 2 / (len(positives) * len(negatives)))


def fpr_at_tpr(score: Any, positive: Any, tpr: float = 0.95) -> float:
    """Return the share of negatives accepted by the strictest threshold that accepts at least `tpr` of the positives.

    With the default it is FPR95; smaller is better. Arguments and NaN as in `auroc`.
    """
    if not 0 < tpr <= 1:
        raise InputError(f"fpr_at_tpr: expected a rate above 0 and up to 1, found {tpr!r}")
    values, kind = checked_scores(score, positive)
    positives, negatives = np.sort(values[kind]), values[~kind]
    if len(positives) == 0 or len(negatives) == 0:
        return float("nan")
    needed = int(np.ceil(tpr * len(positives) * (1 - 1e-12)))  # 0.07 * 100 is a little more than 7
    return float((negatives >= positives[len(positives) - needed]).mean())
