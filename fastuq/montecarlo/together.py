"""Several heads, each under masks of its own, and the moments of the iterations of all heads or views together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.masks import head_seed
from fastuq.montecarlo.sampling import Sampling


def heads_of(model: Model, sampling: Sampling, **options: Any) -> list[MonteCarlo]:
    """Return each head of a model made ready to run, under masks of its own (`fastuq.montecarlo.masks.head_seed`)."""
    return [
        MonteCarlo(each, replace(sampling, seed=head_seed(sampling.seed, number)), **options)
        for number, each in enumerate(model.members)
    ]


def moments_together(means: Sequence[np.ndarray], stds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (N, C) float32 over the iterations of all, from those of each view or head."""
    centres = np.stack(means).astype(np.float64)
    squares = np.stack(stds).astype(np.float64) ** 2
    std = np.sqrt(squares.mean(axis=0) + centres.var(axis=0))
    return centres.mean(axis=0).astype(np.float32), std.astype(np.float32)
