"""How right predictions are."""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.labels import checked_labels

_WAY_OUT = "give the label of each prediction"


def accuracy(prediction: Any, labels: Any) -> float:
    """Return the share of predicted classes (N,) that equal their labels (N,)."""
    predicted = np.asarray(prediction).reshape(-1)
    return float((predicted == checked_labels("accuracy", labels, len(predicted), None, _WAY_OUT)).mean())


def micro_f1(positive: Any, labels: Any) -> float:
    """Return micro-F1 = 2 TP / (2 TP + FP + FN) of predicted classes over all samples and classes.

    Parameters
    ----------
    positive : array-like, (N, C), bool
        The classes predicted of each sample: none, one or more.
    labels : array-like, (N,), int
        The one true class of each sample.

    Raises
    ------
    InputError
        The shapes do not fit, a label is no class, or there are no samples.
    """
    classes = np.asarray(positive)
    if classes.ndim != 2 or classes.dtype != bool:
        raise InputError(f"micro_f1: expected positive classes as bool (N, C), found {classes.dtype} {classes.shape}")
    truth = checked_labels("micro_f1", labels, len(classes), classes.shape[1], _WAY_OUT)
    true_positive = int(classes[np.arange(len(truth)), truth].sum())
    # 2 TP + FP + FN is the number of classes predicted plus that of true classes, one per sample.
    return 2 * true_positive / (int(classes.sum()) + len(truth))
