"""Whole networks in the benchmark: the naive loop, one pass, the backbone once, and the head from the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fastuq.bench.heads import NUM_ITER, kernel_of
from fastuq.bench.process import run_pythons
from fastuq.bench.timing import Side, Timing, interleave, require_equal
from fastuq.bench.trained import trained_folder
from fastuq.errors import ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.folder import FULL
from fastuq.model.model import Model, load_model
from fastuq.montecarlo.reference import naive_moments
from fastuq.training.networks import NETWORKS, network_of
from fastuq.util.defaults import BY_IMAGE, RANDOM

BUNDLED = "bundled"
_CHECK_ITERATIONS = 3
_BATCHES = (8, 32)
NAIVE_ITERATIONS = 10
"""Iterations of the naive loop that are timed, for all of them: they are alike, and none depends on another."""
_SECONDS = 2.5
"""What the measurements of one side may take, where they are more than three."""


@dataclass(frozen=True)
class NetworkTimings:
    """What was measured of one network, milliseconds per sample.

    Attributes
    ----------
    name : str
        No two of a run have the same.
    about : str
        Whether it was trained, and in which size it sees images.
    width : int
        Number of features D.
    naive, one_pass : dict of Timing
        The naive loop at T = 50, and one quantized pass; by delegate, ``xnnpack`` and ``reference``.
    backbone : dict of Timing
        By number of images that come at once, ``1`` to ``32``.
    head : Timing
        int8 head, shared masks, T = 50, many cached features.
    one_image : Timing
        Backbone once and head, a single image.
    """

    name: str
    about: str
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


def missing_networks(names: Sequence[str], folder: Path) -> list[str]:
    """Return the networks that have to be made in `folder`; raises InputError where a name is none that is known."""
    given = {name: _given_folder(name) for name in names}
    for found in given.values():
        if found is not None:
            load_model(found).check_one_head("bench")
    made = dict.fromkeys(
        name.removeprefix(RANDOM) for name, found in given.items() if found is None and name != BUNDLED
    )
    for name in made:
        network_of(name)
    return [name for name in made if not _is_kept(folder / name, by_image=name in BY_IMAGE)]


def _given_folder(name: str) -> Path | None:
    """Return the model folder that a name is, or that of the trained network of that name; None where it is neither."""
    if name.startswith(RANDOM):
        return None
    return Path(name) if Path(name).is_dir() else trained_folder(name)


def _is_kept(folder: Path, *, by_image: bool) -> bool:
    """Return whether a random network is there, and rounded as those that are made now."""
    try:
        made = load_model(folder).info.get("made", {})
    except ModelError:
        return False
    return made.get("by_image", False) == by_image


def make_networks(names: Sequence[str], folder: Path) -> None:
    """Make randomly initialised networks in `folder`: side by side, each in a process of its own."""
    script = "from fastuq.training.random_model import random_model; random_model({!r}, {!r})"
    run_pythons([script.format(name, str(folder / name)) for name in names])


def open_network(name: str, folder: Path) -> Model:
    """Return the bundled model, a model folder, or a network: a trained one, else one that was made in `folder`."""
    if name == BUNDLED:
        return load_model()
    return load_model(_given_folder(name) or folder / name.removeprefix(RANDOM))


def label_of(name: str, model: Model, taken: Sequence[str]) -> str:
    """Return what the figures of a network are called: its name in the model, or as it was given where it was random.

    Where that is taken, what was given stands behind it.
    """
    label = name if name.startswith(RANDOM) else model.network
    return label if label not in taken else f"{label} ({name})"


def _about(model: Model) -> str:
    made = model.info.get("made", {})
    known = NETWORKS.get(model.network)
    size = made.get("network_size") or (known.image_size if known else model.image_shape[0])
    return f"{'Random weights' if made.get('weights') == 'random' else 'Trained'}, images in {size} x {size}."


def _one_pass(model: Model, *, xnnpack: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return one quantized pass over images: the whole network where the model has it, else backbone and float head."""
    if FULL in model.info["parts"]:
        return Backbone(model.read_full(), xnnpack=xnnpack)
    backbone = Backbone(model.read_backbone(), xnnpack=xnnpack)
    return lambda images: model.head.forward(model.dequantize(backbone(images)))


def bench_network(
    model: Model, name: str, *, rounds: int, samples: int, advance: Callable[[], object]
) -> NetworkTimings:
    """Time one network, after the naive loop and the fast path gave the same moments."""
    images = np.random.default_rng(0).integers(0, 256, (max(_BATCHES), *model.image_shape), np.uint8)
    one = images[:1]
    loops = {
        "xnnpack": _fastest(model.read_backbone(), one),
        "reference": Backbone(model.read_backbone(), xnnpack=False),
    }
    sides = {}
    for way, loop in loops.items():
        _check(model, loop, one, way)
        naive = partial(_naive, model, loop, one)
        sides["naive", way] = Side(partial(naive, NAIVE_ITERATIONS), NAIVE_ITERATIONS / NUM_ITER, partial(naive, 2))
        sides["pass", way] = Side(partial(_one_pass(model, xnnpack=way == "xnnpack"), one))
    run, backbone = kernel_of(model, "int8.shared"), Backbone(model.read_backbone())
    cached = np.resize(backbone(images), (samples, model.head.num_features))
    sides |= {("batch", str(n)): Side(partial(backbone, images[:n]), n) for n in (1, *_BATCHES)}
    sides["head", ""] = Side(partial(run, cached), samples)
    sides["one image", ""] = Side(lambda: run(backbone(one)))
    timings = interleave(sides, rounds, advance, seconds=_SECONDS)

    def of(kind: str) -> dict[str, Timing]:
        return {way: timing for (found, way), timing in timings.items() if found == kind}

    return NetworkTimings(
        name,
        _about(model),
        model.head.num_features,
        of("naive"),
        of("pass"),
        of("batch"),
        timings["head", ""],
        timings["one image", ""],
    )


def _naive(model: Model, backbone: Backbone, image: np.ndarray, num_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """Run the naive loop with the float32 head: in NumPy it is the faster one."""
    return naive_moments(model, backbone, image, num_iter=num_iter, precision="float32")


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
