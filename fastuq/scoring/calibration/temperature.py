"""Outputs as probabilities: a temperature, fitted on held-out labels.

p is proportional to output ** (1 / T), which for a softmax head is the softmax of logits / T (Guo et al. 2017, arXiv
1706.04599). A sigmoid head is not trained for a softmax of its logits: there its outputs do much better, as they come.
"""

from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.metrics.calibration import SMALLEST
from fastuq.util.labels import checked_labels

_WAY_OUT = "give the label of each row of outputs"
_COLDEST, _HOTTEST = 0.02, 50.0


def probabilities(outputs: Any, temperature: float = 1.0) -> np.ndarray:
    """Return outputs (N, C), each from 0, as probabilities of classes that exclude each other, float64 (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> probabilities(np.array([[0.9, 0.3]]), temperature=0.5).round(3)
    array([[0.9, 0.1]])
    """
    from scipy.special import softmax

    return softmax(_logarithms(outputs) / temperature, axis=1)


def fit_temperature(outputs: Any, labels: Any) -> float:
    """Return the temperature, from 0.02 to 50, at which outputs (N, C) give labels (N,) the least mean -ln p.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.tile([0.9, 0.1], (100, 1))
    >>> labels = (np.arange(100) >= 75).astype(int)  # 75 of 100 are right, where the outputs say 90
    >>> round(float(probabilities(outputs, fit_temperature(outputs, labels))[0, 0]), 3)
    0.75
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logarithms = _logarithms(outputs)
    truth = checked_labels("temperature", labels, len(logarithms), logarithms.shape[1], _WAY_OUT)
    own = logarithms[np.arange(len(truth)), truth]

    def loss(inverse: float) -> float:  # convex in 1 / T
        return float((logsumexp(inverse * logarithms, axis=1) - inverse * own).mean())

    found = minimize_scalar(loss, bounds=(1 / _HOTTEST, 1 / _COLDEST), method="bounded", options={"xatol": 1e-6})
    return 1 / float(found.x)


def _logarithms(outputs: Any) -> np.ndarray:
    values = np.asarray(outputs, np.float64)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            f"temperature: expected outputs (N, C), finite and from 0, found {values.shape} or other values; "
            "the head needs a sigmoid or softmax at its end"
        )
    return np.log(np.maximum(values, SMALLEST))
