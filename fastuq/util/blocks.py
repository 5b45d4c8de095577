"""Products of rows that do not depend on how many rows there are."""

from collections.abc import Callable

import numpy as np

ROWS = 256
"""Rows of a block: enough for BLAS to be quick, few enough for a single one not to wait."""


def in_blocks(work: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return ``work(rows)``, computed for `ROWS` rows at a time, the last ones with zeros behind them.

    BLAS adds up in another order for another number of rows. In blocks of one size the result of a row, to the bit, is
    its own, whatever it is scored with.

    Parameters
    ----------
    work : callable
        Takes `ROWS` rows and returns as many.
    rows : ndarray, (N, ...)

    Returns
    -------
    ndarray, (N, ...)

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((300, 40))
    >>> def work(some): return some @ rows.T
    >>> bool((in_blocks(work, rows)[299] == in_blocks(work, rows[299:])[0]).all())
    True
    """
    parts, end = [], max(1, len(rows))
    for start in range(0, end, ROWS):
        block = rows[start : start + ROWS]
        missing = ROWS - len(block)
        if missing:
            block = np.concatenate([block, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
        parts.append(work(block)[: ROWS - missing])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows @ matrix``, in blocks."""
    return in_blocks(lambda block: block @ matrix, rows)
