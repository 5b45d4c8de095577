"""Timing for the benchmark: warm-up apart, sides interleaved, median and spread of several rounds."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SHORTEST = 0.05
"""Seconds that one measurement lasts at least: a shorter call is repeated."""
_PAUSE = 0.1
"""Seconds before each measurement, in which the idle threads of other libraries stop spinning."""


@dataclass(frozen=True)
class Side:
    """Something to time.

    Attributes
    ----------
    call : callable
        Does the work, without arguments.
    units : int
        Samples (or images) that one call deals with.
    """

    call: Callable[[], object]
    units: int = 1


@dataclass(frozen=True)
class Timing:
    """Milliseconds per unit: median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float


def interleave(
    sides: Mapping[str, Side], rounds: int, advance: Callable[[], object] = lambda: None
) -> dict[str, Timing]:
    """Time all sides in turn, `rounds` times over, after each was called once (what is compiled is compiled then).

    Parameters
    ----------
    sides : mapping of name to Side
    rounds : int
    advance : callable
        Called after each measurement.
    """
    repeats = {name: max(1, math.ceil(_SHORTEST / _warm_up(side))) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(_PAUSE)
            times[name].append(_seconds(side, repeats[name]) / (repeats[name] * side.units) * 1e3)
            advance()
    return {name: Timing(statistics.median(found), min(found), max(found)) for name, found in times.items()}


def _warm_up(side: Side) -> float:
    """Call twice: the first call may compile or fill caches, the second one tells how long a call lasts."""
    side.call()
    return _seconds(side, 1)


def _seconds(side: Side, repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        side.call()
    return time.perf_counter() - began
