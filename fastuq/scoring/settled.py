"""Scoring with ``num_iter="auto"``: what it goes with, what runs it, and what its samples come to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.sampling import Sampling
from fastuq.montecarlo.settling import Settling
from fastuq.montecarlo.together import heads_of
from fastuq.scoring.options import AUTO, Options


def check_settling(options: Options, others: Mapping[str, bool]) -> None:
    """Raise InputError where samples run until they are settled, and what is there of `others` needs as many of all."""
    found = [name for name, there in others.items() if there]
    if options.settles and found:
        raise InputError(
            f"num_iter {AUTO}: expected decisions by one view and one head alone, found {' and '.join(found)} too, "
            "with the same iterations for all images; give a number of them, such as 50"
        )


def runs_of(
    model: Model, options: Options, sampling: Sampling, *, entropy: bool, threads: int | None
) -> Sequence[MonteCarlo]:
    """Return what runs the iterations of these options, of each head."""
    check_settling(options, {"mutual information": entropy, "other heads": len(model.members) > 1})
    if options.settles:
        return [Settling(model, sampling, error=options.settle_error, threads=threads)]
    return heads_of(model, sampling, entropy=entropy, threads=threads)


def settled_figures(iterations: np.ndarray | None, flips: np.ndarray | None, most: int) -> dict[str, Any]:
    """Return the figures of `Result.summary` about samples that took so many iterations, at most `most`."""
    if iterations is None or flips is None:
        return dict.fromkeys(("iterations", "at_max_iter", "flips"))
    at_most = int((iterations == most).sum())
    return {
        "iterations": float(iterations.mean()),
        "at_max_iter": at_most,
        "flips": float(flips.mean(dtype=np.float64)),
    }
