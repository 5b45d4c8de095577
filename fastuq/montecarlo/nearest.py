"""Largest dot products of int8 codes with the rows of each class."""

import numpy as np


class Nearest:
    """Rows of int8 codes, made ready to be compared with others.

    Parameters
    ----------
    rows : ndarray, (M, K), int8, from -127 to 127
        Class by class.
    counts : ndarray, (C,), int64
        Rows of each class, at least one.
    """

    def __init__(self, rows: np.ndarray, counts: np.ndarray) -> None:
        self._rows, self._ends = rows.astype(np.float32), np.cumsum(counts)

    def __call__(self, codes: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the largest dot product of codes (N, K) int8 with a row of each class, (N, C) int32, exact."""
        found = np.empty((len(codes), len(self._ends)), np.int32)
        start, wide = 0, codes.astype(np.float32)
        for number, stop in enumerate(self._ends):
            found[:, number] = (wide @ self._rows[start:stop].T).max(axis=1)
            start = stop
        return found
