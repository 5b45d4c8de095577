"""How stable a decision is: how many change between keep and ignore when only the seed of the masks changes."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fastuq.model.model import Model
from fastuq.montecarlo.sampling import MAX_ITERATIONS
from fastuq.scoring.scoring import score
from fastuq.util.checks import whole_number
from fastuq.util.progress import progress_bar

ITERATIONS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SEEDS = 3


def seed_disagreement(
    model: Model,
    features: Any,
    *,
    iterations: Sequence[int] = ITERATIONS,
    seeds: int = SEEDS,
    threads: int | None = None,
    **options: Any,
) -> list[dict[str, float]]:
    """Return, for each number of iterations, the share of decisions that differ between two seeds.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
    iterations : sequence of int
    seeds : int
        Seeds 0 to `seeds` - 1; the share is the mean over all pairs of them.
    **options
        As `fastuq.score` takes them, but for ``num_iter`` and ``seed``.

    Returns
    -------
    list of dict
        ``num_iter``, ``disagreement`` and ``kept``, both as shares.
    """
    rows, iterations = [], [whole_number("num_iter", count, 2, MAX_ITERATIONS) for count in iterations]
    with progress_bar(sum(iterations) * seeds, "seeds", "iteration") as bar:
        for count in iterations:
            kept = []
            for seed in range(seeds):
                result = score(model, features, details=False, threads=threads, num_iter=count, seed=seed, **options)
                kept.append(result.keep)
                bar.update(count)
            differing = [float((a != b).mean()) for a, b in combinations(kept, 2)]
            rows.append(
                {"num_iter": count, "disagreement": float(np.mean(differing)), "kept": float(np.mean(np.stack(kept)))}
            )
    return rows
