"""What there is to say of some samples, wherever it was found, put together to what there is to say of all."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """What each of some samples is by itself; what depends on the others is judged of all of them.

    Attributes
    ----------
    first : int
        Number of the first of them in the data set.
    columns : dict of str to ndarray
        Attributes of `Result`.
    doubles : ndarray, (2,), int64
        How many of them are rows of the bank, and how many it was fitted on.
    seconds : dict of str to float
        As in `Result`, without the total.
    """

    first: int
    columns: dict[str, np.ndarray]
    doubles: np.ndarray
    seconds: dict[str, float]


def joined(parts: Iterable[Part], count: int) -> Part:
    """Return all `count` samples of a data set as one part; its parts come in any order.

    They are put where they belong one after the other: joining them at the end would hold all twice.
    """
    whole = Part(0, {}, np.zeros(2, np.int64), {"features": 0.0, "compile": 0.0, "head": 0.0})
    for part in parts:
        for name, values in part.columns.items():
            if name not in whole.columns:
                whole.columns[name] = np.empty((count if len(values) else 0, *values.shape[1:]), values.dtype)
            whole.columns[name][part.first : part.first + len(values)] = values
        for name, value in part.seconds.items():
            whole.seconds[name] += value
        whole.doubles[:] += part.doubles
    return whole
