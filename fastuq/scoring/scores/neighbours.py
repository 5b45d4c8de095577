"""The k-th nearest training row: the kernel of a bank finds where to look, what is there is compared as it is.

The kernel gives the largest dot product of a sample with the rows of each group, of codes of principal components. The
nearest k rows lie in k groups at most, those of the largest dot products; since codes are no more than near the
features, twice as many are looked into. Of their rows the codes leave twice k, of which the features are compared. So
what is found is the k-th nearest row nearly always, and never a nearer one.
"""

import numpy as np

from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.nearest import Nearest
from fastuq.scoring.scores.chunk import Chunk, unit
from fastuq.scoring.scores.reference import Reference

COMPONENTS = 256
_TWICE = 2
_AT_ONCE = 512
"""Samples whose largest dot products with all groups are in memory at once."""
_FOLDS = 8
_FEW = 16
"""Samples whose candidates are: what is gathered of them stays in the processor's cache."""


class Neighbours:
    """The rows of a reference, made ready to be looked among.

    Parameters
    ----------
    reference : Reference
    of : Chunk
        Any samples of its model, which say how features become real values.
    """

    def __init__(self, reference: Reference, of: Chunk) -> None:
        self._rows, width = reference.rows, reference.rows.shape[1]
        ends = np.stack([np.zeros(width, np.int8), np.full(width, 127, np.int8)])
        self._offset, largest = Chunk(of.model, ends, np.arange(2)).features
        self._gain = (largest - self._offset) / 127  # a feature q is the real value gain q + offset
        self._axes, _ = np.linalg.qr(
            np.column_stack([reference.features.mean, reference.features.basis[:, : min(COMPONENTS, width) - 1]])
        )
        weights = self._gain[:, None] * self._axes
        scale = 127 / np.abs(weights).max()
        offset = np.rint(-scale * (self._offset @ self._axes)).astype(np.int64)
        values = self._rows * self._gain + self._offset
        self._lengths = np.maximum(np.linalg.norm(values, axis=1), np.float32(1e-12))
        inside = unit(values @ self._axes)
        step = 127 / max(float(np.abs(inside).max()), 1e-6)
        weights = np.rint(scale * weights).astype(np.int8)
        self._codes = np.rint(step * inside).astype(np.int8)
        counts = np.full(-(-len(self._rows) // TILE), TILE)
        counts[-1] -= counts.sum() - len(self._rows)
        self._nearest = Nearest(weights, offset, step, self._codes, counts)

    def cosines(self, chunk: Chunk, k: int) -> np.ndarray:
        """Return the cosine of each sample to its k-th nearest row, (N,)."""
        found = np.empty(len(chunk.rows))
        for start in range(0, len(found), _AT_ONCE):
            rows = chunk.rows[start : start + _AT_ONCE]
            best, x = self._nearest(rows, chunk.threads), unit(chunk.features[start : start + _AT_ONCE])
            inside = x @ self._axes
            for first in range(0, len(rows), _FEW):
                some = slice(first, first + _FEW)
                near = self._candidates(best[some], inside[some], k)
                each = _dots(self._rows[near] * self._gain + self._offset, x[some]) / self._lengths[near]
                found[start + first : start + first + len(each)] = np.partition(each, -k, axis=1)[:, -k]
        return found

    def _candidates(self, best: np.ndarray, inside: np.ndarray, k: int) -> np.ndarray:
        """Return rows that the nearest are among, by components (n, K) and the largest dot products (n, groups)."""
        groups = _largest(best, min(_TWICE * k, best.shape[1]))
        near = (groups[:, :, None] * TILE + np.arange(TILE)).reshape(len(groups), -1)
        there, near = near < len(self._rows), np.minimum(near, len(self._rows) - 1)
        dots = _dots(self._codes[near].astype(np.float32), inside)
        likely = np.where(there, dots, -np.inf)
        return np.take_along_axis(near, _largest(likely, min(_TWICE * k, len(self._rows))), axis=1)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return where the largest of each row (n, m) are, (n, count); of many, the largest of `_FOLDS` each come first."""
    columns, width = values.shape[1], -(-values.shape[1] // _FOLDS)
    if width <= count:
        return np.argpartition(values, -count, axis=1)[:, -count:]
    folded = values[:, :width].copy()
    for start in range(width, columns, width):
        part = values[:, start : start + width]
        np.maximum(folded[:, : part.shape[1]], part, out=folded[:, : part.shape[1]])
    first = np.argpartition(folded, -count, axis=1)[:, -count:]
    among = (first[:, :, None] + width * np.arange(_FOLDS)).reshape(len(values), -1)
    found = np.take_along_axis(values, np.minimum(among, columns - 1), axis=1)
    lowest = np.where(among < columns, found, found.min())
    return np.take_along_axis(among, np.argpartition(lowest, -count, axis=1)[:, -count:], axis=1)


def _dots(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the dot products (n, m) of vectors x (n, D) with rows of each, (n, m, D)."""
    return (rows @ x[:, :, None])[:, :, 0]
