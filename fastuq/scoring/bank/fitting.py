"""What is read off held-out labels: how much logits and similarities weigh, and how large logits usually are."""

from dataclasses import dataclass

import numpy as np

from fastuq.errors import InputError

LEAST = 100
"""Held-out samples that two weights need at least."""


@dataclass(frozen=True)
class Weights:
    """The weights of q = logit * z + similarity * s, and what is usual of z.

    Attributes
    ----------
    logit, similarity : float
    gates : ndarray, (101,), float32
        Per cents (0 to 100) of the largest logit of the held-out samples.
    """

    logit: float
    similarity: float
    gates: np.ndarray

    def gate(self, share: float) -> float:
        """Return what the largest logit of this share of the held-out samples (0 to 1) lies below."""
        return float(np.interp(100 * share, np.arange(len(self.gates)), self.gates))


def fit(logits: np.ndarray, similarities: np.ndarray, labels: np.ndarray) -> Weights:
    """Return the weights with which softmax(q) gives held-out labels the least negative log-likelihood.

    Parameters
    ----------
    logits, similarities : ndarray, (N, C), float32
    labels : ndarray, (N,), int64

    Raises
    ------
    InputError
        There are fewer than `LEAST` samples.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    if len(labels) < LEAST:
        raise InputError(
            f"bank: expected at least {LEAST} held-out samples to fit two weights on, found {len(labels)}; give more"
        )
    parts, every = np.stack([logits, similarities]).astype(np.float64), np.arange(len(labels))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        likely = log_softmax(np.tensordot(weights, parts, 1), axis=1)
        wrong = np.exp(likely)
        wrong[every, labels] -= 1
        return -likely[every, labels].mean(), np.tensordot(parts, wrong, ([1, 2], [0, 1])) / len(labels)

    # Convex in both; neither may turn the order of its classes around.
    found = minimize(loss, [1.0, 1.0], jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2)
    gates = np.percentile(logits.max(axis=1), np.arange(101)).astype(np.float32)
    return Weights(float(found.x[0]), float(found.x[1]), gates)
