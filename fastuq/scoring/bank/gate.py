"""The gate: what no logit of the plain pass is large for is foreign, however similar it is to some row."""

from collections.abc import Sequence

import numpy as np

from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.plan import Rules
from fastuq.montecarlo.sampling import Sampling
from fastuq.scoring.bank.fitting import Weights
from fastuq.scoring.decisions import Reason
from fastuq.scoring.logits import with_logits
from fastuq.util.checks import finite_number

_ANY = Rules(np.float32(0), np.float32(0), False)


class Gate:
    """Closed for samples whose largest logit (of views: the mean) is less than a share of the held-out samples has.

    Of several heads, logits are the mean of theirs.
    """

    def __init__(self, model: Model, weights: Weights, share: float, precision: str, threads: int | None) -> None:
        self._least = np.float32(weights.gate(finite_number("gate", share, 0, 1)))
        sampling = Sampling(num_iter=2, precision=precision)
        self._runs = [MonteCarlo(with_logits(each), sampling, threads=threads) for each in model.members]

    def close(self, views: Sequence[np.ndarray], columns: dict[str, np.ndarray]) -> None:
        """Ignore, in columns of `Result`, the samples that it is closed for; views are features (N, D) int8."""
        ids = np.arange(len(views[0]))
        largest = []
        for rows in views:
            logits = [run.decide(rows, ids, _ANY, details=True).plain for run in self._runs]
            largest.append(np.mean(logits, axis=0).max(axis=1))
        closed = np.mean(largest, axis=0, dtype=np.float64).astype(np.float32) < self._least
        columns["keep"][closed], columns["reason"][closed] = False, Reason.FOREIGN
        columns["positive_bits"][closed] = 0
        if "flips" in columns:
            columns["flips"][closed] = 0  # the plain pass knows no seed
