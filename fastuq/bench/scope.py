"""How much the benchmark measures. Nothing heavy is imported here, so that help texts can name the defaults."""

from dataclasses import dataclass
from pathlib import Path

from fastuq.util.checks import whole_number

BUNDLED = "bundled"
NETWORKS, QUICK_NETWORKS = ("resnet50", "efficientnet_b0", BUNDLED), (BUNDLED,)
ROUNDS, QUICK_ROUNDS = 7, 3
NUM_ITER = 50
GRID_ITERATIONS, GRID_SAMPLES = (50, 200, 1000), (1, 32, 1024, 8192)


@dataclass(frozen=True)
class Scope:
    """How much the benchmark measures.

    Attributes
    ----------
    networks : tuple of str
        Names or model folders.
    rounds : int
    samples : int
        Cached features that the head is timed on.
    iterations, sizes : tuple of int
        T and N of the grid.
    cached : int
        Samples of the cache that is scored for its memory.
    folder : Path
        Where randomly initialised networks are kept.
    """

    networks: tuple[str, ...]
    rounds: int
    samples: int
    iterations: tuple[int, ...]
    sizes: tuple[int, ...]
    cached: int
    folder: Path


def scope_of(*, quick: bool, networks: list[str] | None, rounds: int | None, folder: Path) -> Scope:
    """Return the full or the quick scope, with what was asked for put in its place."""
    if rounds is not None:
        rounds = whole_number("rounds", rounds, 1, 1000)
    if quick:
        names = tuple(networks or QUICK_NETWORKS)
        return Scope(names, rounds or QUICK_ROUNDS, 2048, (NUM_ITER,), GRID_SAMPLES[:3], 65_536, folder)
    return Scope(tuple(networks or NETWORKS), rounds or ROUNDS, 8192, GRID_ITERATIONS, GRID_SAMPLES, 1_000_000, folder)
