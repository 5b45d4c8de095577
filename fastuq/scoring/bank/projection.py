"""From features to the codes that a bank compares: principal components, length 1, int8; integers up to the length."""

from dataclasses import dataclass

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.util.progress import progress_bar

ROWS = 1024
"""Features that a float32 product adds up at most: |sum| <= 1024 * 128 * 128 = 2^24, so it is exact in any order."""
_WIDEST = 4
"""Standard deviations of the first component that the largest code, 127, stands for."""


@dataclass(frozen=True)
class Projection:
    """Codes of int8 features: ``clip(rint(step * y / |y|), -127, 127)``, y = q @ weights - offset in whole numbers.

    |y|^2 is a sum of whole numbers too, so codes do not depend on the processor or on how features are cut in pieces.

    Attributes
    ----------
    weights : ndarray, (D, K), int8
        The principal components of the training features, rounded.
    offset : ndarray, (K,), int64
        What the mean of the training features comes to.
    step : float
        Code of 1: a cosine is the dot product of two codes over step^2.
    """

    weights: np.ndarray
    offset: np.ndarray
    step: float

    def codes(self, features: np.ndarray) -> np.ndarray:
        """Return the codes (N, K) int8 of int8 features (N, D)."""
        y = np.zeros((len(features), self.weights.shape[1]), np.int64)
        for first in range(0, len(self.weights), ROWS):
            part = slice(first, first + ROWS)
            product = features[:, part].astype(np.float32) @ self.weights[part].astype(np.float32)
            y += product.astype(np.int64)
        y -= self.offset
        length = np.sqrt(np.square(y).sum(axis=1, dtype=np.int64).astype(np.float64))
        factor = self.step / np.maximum(length, 1)  # features that are the mean: all codes 0
        return np.clip(np.rint(y * factor[:, None]), -127, 127).astype(np.int8)


def principal(features: FeatureCache, components: int) -> Projection:
    """Return the projection to the first principal components of a cache, which is read once, in pieces."""
    width, count = features.num_features, len(features)
    products, total = np.zeros((width, width)), np.zeros(width)
    with progress_bar(count, "components", "sample") as bar:
        for start in range(0, count, ROWS):
            rows = features.read(start, min(start + ROWS, count)).astype(np.float32)
            products += rows.T @ rows  # whole numbers, exact in float64 too
            total += rows.sum(axis=0, dtype=np.float64)
            bar.update(len(rows))
    mean = total / count
    if not (np.diagonal(products) / count > mean**2).any():
        raise InputError(
            "bank: expected training features that differ, found the same for every sample; check the cache"
        )
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    best = vectors[:, ::-1][:, :components]
    best = best * np.where(best[np.abs(best).argmax(axis=0), np.arange(components)] < 0, -1, 1)  # LAPACK leaves it open
    weights = np.rint(best * (127 / np.abs(best).max()))
    largest = min(1.0, _WIDEST * float(np.sqrt(variances[-1] / variances.sum())))
    return Projection(weights.astype(np.int8), np.rint(mean @ weights).astype(np.int64), 127 / largest)
