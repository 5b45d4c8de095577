"""Whole networks in the benchmark: the naive loop, one pass, the backbone once, and the head from the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fastuq.bench.heads import NUM_ITER, kernel_of
from fastuq.bench.timing import Side, Timing, interleave, require_equal
from fastuq.errors import ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.model import Model, load_model
from fastuq.montecarlo.reference import naive_moments
from fastuq.training.random_model import random_model

BUNDLED = "bundled"
_CHECK_ITERATIONS = 3
_BATCHES = (8, 32, 64)
_SLOW_ROUNDS = 3
"""Rounds of the naive loops at most: a single run lasts seconds."""


@dataclass(frozen=True)
class NetworkTimings:
    """What was measured of one network, milliseconds per sample.

    Attributes
    ----------
    network : str
    width : int
        Number of features D.
    naive, one_pass : dict of Timing
        The naive loop at T = 50, and one quantized pass; by delegate, ``xnnpack`` and ``reference``.
    backbone : dict of Timing
        By number of images that come at once, ``1`` to ``64``.
    head : Timing
        int8 head, shared masks, T = 50, many cached features.
    one_image : Timing
        Backbone once and head, a single image.
    """

    network: str
    width: int
    naive: dict[str, Timing]
    one_pass: dict[str, Timing]
    backbone: dict[str, Timing]
    head: Timing
    one_image: Timing

    @property
    def best_batch(self) -> str:
        """The number of images at once that takes the least time per image."""
        return min(self.backbone, key=lambda size: self.backbone[size].median)


def open_network(name: str, folder: Path) -> Model:
    """Return the bundled model, a model folder, or a randomly initialised network (made in `folder` and kept there)."""
    if name == BUNDLED:
        return load_model()
    if Path(name).is_dir():
        return load_model(name)
    kept = folder / name
    try:
        return load_model(kept)
    except ModelError:
        return random_model(name, kept)


def bench_network(model: Model, *, rounds: int, samples: int, advance: Callable[[], object]) -> NetworkTimings:
    """Time one network, after the naive loop and the fast path gave the same moments."""
    images = np.random.default_rng(0).integers(0, 256, (max(_BATCHES), *model.image_shape), np.uint8)
    one = images[:1]
    backbones = {
        "xnnpack": _fastest(model.read_backbone(), one),
        "reference": Backbone(model.read_backbone(), xnnpack=False),
    }
    for name, backbone in backbones.items():
        _check(model, backbone, one, name)
    naive = {f"naive {name}": Side(partial(_naive, model, b, one)) for name, b in backbones.items()}
    slow = interleave(naive, min(rounds, _SLOW_ROUNDS), advance)
    passes = {name: Backbone(model.full_path, xnnpack=name == "xnnpack") for name in backbones}
    run, backbone = kernel_of(model, "int8.shared"), Backbone(model.read_backbone())
    cached = np.resize(backbone(images), (samples, model.head.num_features))
    sides = {f"pass {name}": Side(partial(p, one)) for name, p in passes.items()}
    sides |= {f"batch {n}": Side(partial(backbone, images[:n]), n) for n in (1, *_BATCHES)}
    sides["head"] = Side(partial(run, cached), samples)
    sides["one image"] = Side(lambda: run(backbone(one)))
    quick = interleave(sides, rounds, advance)
    return NetworkTimings(
        model.network,
        model.head.num_features,
        {name: slow[f"naive {name}"] for name in backbones},
        {name: quick[f"pass {name}"] for name in passes},
        {str(n): quick[f"batch {n}"] for n in (1, *_BATCHES)},
        quick["head"],
        quick["one image"],
    )


def _naive(model: Model, backbone: Backbone, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run the naive loop with the float32 head: in NumPy it is the faster one."""
    return naive_moments(model, backbone, image, num_iter=NUM_ITER, precision="float32")


def _check(model: Model, backbone: Backbone, image: np.ndarray, name: str) -> None:
    features = backbone(image)
    for precision in ("int8", "float32"):
        expected = naive_moments(model, backbone, image, num_iter=_CHECK_ITERATIONS, precision=precision)
        found = kernel_of(model, f"{precision}.shared", _CHECK_ITERATIONS)(features)
        require_equal(f"naive loop ({name}, {precision}) and fast path", expected, (found.mean, found.std))


def _fastest(network: bytes, image: np.ndarray) -> Backbone:
    """Return the backbone with one thread or with all, whichever runs a single image faster."""
    backbones = {"one": Backbone(network, threads=1), "all": Backbone(network)}
    timings = interleave({name: Side(partial(b, image)) for name, b in backbones.items()}, 3)
    return backbones[min(timings, key=lambda name: timings[name].median)]
