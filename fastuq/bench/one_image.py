"""One image, both ways: the naive loop and the fast path give the same moments; how long each takes."""

from functools import partial

import numpy as np

from fastuq.bench.timing import Side, interleave, require_equal
from fastuq.model.backbone import Backbone
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.reference import naive_moments


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

    naive = partial(
        naive_moments, model, backbone, image, num_iter=num_iter, seed=seed, masks="shared", precision="int8"
    )
    features = backbone(image)
    found = run(features)
    difference = require_equal("naive loop and fast path", naive(), (found.mean, found.std))
    sides = {"naive": Side(naive), "fast": Side(lambda: run(backbone(image))), "head": Side(partial(run, features))}
    times = interleave(sides, rounds)
    return {**{name: timing.median for name, timing in times.items()}, "difference": difference}
