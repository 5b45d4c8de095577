"""Timing: results required to be equal first, warm-up apart, sides interleaved, median and spread of several rounds."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fastuq.errors import FastUQError

TOLERANCE = 1e-5
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


def require_equal(what: str, expected: tuple, found: tuple) -> float:
    """Return the largest difference of two pairs (mean, std); raise FastUQError where it is more than 1e-5."""
    difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
    if difference > TOLERANCE:
        raise FastUQError(
            f"{what} differ by {difference:.1e}, expected at most {TOLERANCE}; "
            "the results of this installation are not to be trusted: run its tests with `make test`"
        )
    return difference


def interleave(
    sides: Mapping[str, Side],
    rounds: int,
    advance: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time all sides in turn, `rounds` times over, after each was called once (what is compiled is compiled then).

    Parameters
    ----------
    sides : mapping of name to Side
    rounds : int
    advance : callable
        Called after each measurement.
    clock : callable
        Seconds: those on the wall, or of the processor.
    """
    repeats = {name: max(1, math.ceil(_SHORTEST / _warm_up(side))) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(_PAUSE)
            times[name].append(seconds_of(side.call, repeats[name], clock) / (repeats[name] * side.units) * 1e3)
            advance()
    return {name: Timing(statistics.median(found), min(found), max(found)) for name, found in times.items()}


def _warm_up(side: Side) -> float:
    """Call twice: the first call may compile or fill caches, the second one tells how long a call lasts."""
    side.call()
    return seconds_of(side.call)


def seconds_of(call: Callable[[], object], repeats: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that so many calls take."""
    began = clock()
    for _ in range(repeats):
        call()
    return clock() - began
