"""The k-th nearest training row: the kernel of a bank finds where to look, what is there is compared as it is.

The kernel gives the largest dot product of a sample with the rows of each group, of codes of principal components. The
nearest k rows lie in k groups at most, those of the largest dot products; since codes are no more than near the
features, twice as many are looked into, and 20 of them at least. Of their rows the codes leave as many, of which the
features are compared. So what is found is the k-th nearest row nearly always, and never a nearer one.
"""

import numpy as np

from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.nearest import Nearest
from fastuq.scoring.scores.chunk import Chunk, unit
from fastuq.scoring.scores.reference import Reference

COMPONENTS = 256
_TWICE, _LEAST = 2, 20
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
        values = self._rows * self._gain + self._offset
        self._lengths = np.maximum(np.linalg.norm(values, axis=1), np.float32(1e-12))
        inside = (values @ self._axes) / self._lengths[:, None]
        codes, self._scale = _balanced(inside)
        self._codes, asked = _rounded(codes), _rounded(inside * self._scale)
        counts = np.full(-(-len(self._rows) // TILE), TILE)
        counts[-1] -= counts.sum() - len(self._rows)
        usual = float(np.linalg.norm(asked.astype(np.float32), axis=1).mean())
        as_they_are, none = np.eye(len(self._scale), dtype=np.int8), np.zeros(len(self._scale), np.int64)
        self._nearest = Nearest(as_they_are, none, max(usual, 1.0), self._codes, counts)

    def cosines(self, chunk: Chunk, k: int) -> np.ndarray:
        """Return the cosine of each sample to its k-th nearest row, (N,)."""
        found = np.empty(len(chunk.rows))
        for start in range(0, len(found), _AT_ONCE):
            rows = chunk.rows[start : start + _AT_ONCE]
            x = unit(chunk.features[start : start + _AT_ONCE])
            inside = (x @ self._axes) * self._scale
            best = self._nearest(_rounded(inside), chunk.threads)
            for first in range(0, len(rows), _FEW):
                some = slice(first, first + _FEW)
                near = self._candidates(best[some], inside[some], k)
                each = _dots(self._rows[near] * self._gain + self._offset, x[some]) / self._lengths[near]
                found[start + first : start + first + len(each)] = np.partition(each, -k, axis=1)[:, -k]
        return found

    def _candidates(self, best: np.ndarray, inside: np.ndarray, k: int) -> np.ndarray:
        """Return rows that the nearest are among, by components (n, K) and the largest dot products (n, groups)."""
        count = max(_TWICE * k, _LEAST)
        groups = _largest(best, min(count, best.shape[1]))
        near = (groups[:, :, None] * TILE + np.arange(TILE)).reshape(len(groups), -1)
        there, near = near < len(self._rows), np.minimum(near, len(self._rows) - 1)
        dots = _dots(self._codes[near].astype(np.float32), inside)
        likely = np.where(there, dots, -np.inf)
        return np.take_along_axis(near, _largest(likely, min(count, len(self._rows))), axis=1)


def _balanced(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return components of rows (M, K) to make codes of, and what those of samples are multiplied by.

    What all rows have in common adds the same to all products of a sample: without it codes resolve the rest. A
    component that is large in samples and small in what is left of rows goes over from the ones to the others.
    """
    rest = inside - inside.mean(axis=0)
    theirs, ours = (np.maximum(np.abs(each).max(axis=0), np.float32(1e-9)) for each in (inside, rest))
    balance = np.sqrt(theirs / ours)
    codes, scaled = rest * balance, theirs / balance
    return codes * (127 / max(float(np.abs(codes).max()), 1e-9)), (127 / scaled.max()) / balance


def _rounded(components: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(components), -127, 127).astype(np.int8)


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
