"""Timing: results required to be equal first, warm-up apart, sides interleaved, median and spread of several rounds."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fastuq.errors import FastUQError

Name = TypeVar("Name")
TOLERANCE = 1e-5
_SHORTEST = 0.05
"""Seconds that one measurement lasts at least: a shorter call is repeated."""
_PAUSE = 0.1
"""Seconds before each measurement, in which the idle threads of other libraries stop spinning."""
_FEWEST = 3
"""Rounds that a slow side takes part in all the same."""


@dataclass(frozen=True)
class Side:
    """Something to time.

    Attributes
    ----------
    call : callable
        Does the work, without arguments.
    units : float
        Samples (or images) that one call deals with; a fraction where a call does a known part of the work for one.
    first : callable, optional
        Called before anything is timed, in place of `call`: the same on less data, so that nothing timed compiles.
    """

    call: Callable[[], object]
    units: float = 1
    first: Callable[[], object] | None = None


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
    sides: Mapping[Name, Side],
    rounds: int,
    advance: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    *,
    seconds: float = math.inf,
) -> dict[Name, Timing]:
    """Time all sides in turn, `rounds` times over, after each was called once (what is compiled is compiled then).

    Parameters
    ----------
    sides : mapping of a name, which may be a tuple, to Side
    rounds : int
    advance : callable
        Called after each measurement.
    clock : callable
        Seconds: those on the wall, or of the processor.
    seconds : float
        About what all measurements of one side may take. A side that is too slow for it takes part in fewer rounds,
        three at least, spread over all of them.
    """
    for side in sides.values():
        (side.first or side.call)()
    repeats, taken = dict.fromkeys(sides, 1), dict.fromkeys(sides, rounds)
    times: dict[Name, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            if number and number * taken[name] // rounds == (number - 1) * taken[name] // rounds:
                continue
            time.sleep(_PAUSE)
            found = seconds_of(side.call, repeats[name], clock)
            if number == 0:  # tells how long a call lasts, and counts where that is long enough
                repeats[name] = max(1, math.ceil(_SHORTEST / found))
                if repeats[name] > 1:
                    found = seconds_of(side.call, repeats[name], clock)
                taken[name] = max(min(_FEWEST, rounds), int(min(rounds, seconds / found)))
            times[name].append(found / (repeats[name] * side.units) * 1e3)
            advance()
    return {name: Timing(statistics.median(found), min(found), max(found)) for name, found in times.items()}


def seconds_of(call: Callable[[], object], repeats: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that so many calls take."""
    began = clock()
    for _ in range(repeats):
        call()
    return clock() - began
