"""One image, both ways: the naive loop and the fast path give the same moments; how long each takes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastuq.errors import FastUQError
from fastuq.model.backbone import Backbone
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.reference import naive_moments

TOLERANCE = 1e-5


def time_one_image(model: Model, image: np.ndarray, *, num_iter: int = 50, seed: int = 0, rounds: int = 3) -> dict:
    """Time the naive loop and the fast path on one image, interleaved, after both gave the same moments.

    Parameters
    ----------
    model : Model
    image : ndarray, (1, H, W, 3), uint8
    num_iter, seed : int
    rounds : int
        Each side's figure is the median of that many.

    Returns
    -------
    dict
        ``naive`` and ``fast`` (backbone once, then the head), ``head`` alone, in milliseconds; ``difference``, the
        largest between the two sides' means and standard deviations.

    Raises
    ------
    FastUQError
        The two sides differ by more than 1e-5, which is a bug or a broken installation.
    """
    backbone = Backbone(model.read_backbone())
    run = MonteCarlo(model, num_iter=num_iter, seed=seed)

    def naive() -> Any:
        return naive_moments(model, backbone, image, num_iter=num_iter, seed=seed, masks="shared", precision="int8")

    def fast() -> Any:
        return run(backbone(image))

    features, (mean, std), found = backbone(image), naive(), fast()
    difference = float(max(np.abs(mean - found.mean).max(), np.abs(std - found.std).max()))
    if difference > TOLERANCE:
        raise FastUQError(
            f"naive loop and fast path differ by {difference:.1e}, expected at most {TOLERANCE}; "
            "the results of this installation are not to be trusted: run its tests with `make test`"
        )
    times: dict[str, list[float]] = {"naive": [], "fast": [], "head": []}
    for _ in range(rounds):
        for name, side in (("naive", naive), ("fast", fast), ("head", lambda: run(features))):
            times[name].append(_milliseconds(side))
    return {**{name: statistics.median(values) for name, values in times.items()}, "difference": difference}


def _milliseconds(side: Callable[[], Any]) -> float:
    began = time.perf_counter()
    side()
    return (time.perf_counter() - began) * 1e3
