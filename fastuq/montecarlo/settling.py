"""Samples that run until their decisions are settled: in stages, those that are left going on from where they were."""

import math
from functools import lru_cache

import numpy as np

from fastuq.model.model import Model
from fastuq.montecarlo.doubt import Doubt, Limits, Near, first_look, nearby, stages
from fastuq.montecarlo.engine import LANES, MonteCarlo
from fastuq.montecarlo.kernels.plan import Columns, Part, Rules, Sums, columns, running_sums
from fastuq.montecarlo.kernels.targets import Target
from fastuq.montecarlo.sampling import Sampling

_SUMS_BYTES, _BYTES_A_SUM = 128 * 2**20, 52
"""Running sums that are held at once, and what one takes."""
_PROBABILITIES = ("sigmoid", "softmax")
_NONE_KEPT = np.zeros((0, 2, 0))


@lru_cache(maxsize=8)
def _doubt_of(error: float, ends: tuple[int, ...], limits: Limits) -> Doubt:
    """Return the doubt of these, whose chances take a while to compute."""
    return Doubt(error, ends, limits)


class Settling(MonteCarlo):
    """A head made ready to run each sample until the doubt of its decision is at most `error`.

    A sample that has taken T iterations has the very columns that T iterations give, whatever other samples there are.
    Those of `sampling` are the most that one takes.
    """

    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        *,
        error: float,
        threads: int | None = None,
        target: Target | None = None,
    ) -> None:
        super().__init__(model, sampling, threads=threads, target=target)
        self._error, self._most = error, sampling.num_iter
        self._limits = (0.0, 1.0) if model.head.blocks[-1].activation in _PROBABILITIES else (-math.inf, math.inf)

    def decide(
        self,
        features: np.ndarray,
        sample_ids: np.ndarray,
        rules: Rules,
        *,
        details: bool,
        addend: np.ndarray | None = None,
    ) -> Columns:
        """Return the columns of samples under `rules`, as `MonteCarlo` does, with iterations and flips."""
        ids, added = self._checked(features, sample_ids, addend)
        n, classes = len(features), self.num_classes
        found = columns(n, classes, decide=True, details=details)
        found = found._replace(iterations=np.zeros(n, np.int64), flips=np.zeros(n))
        at_once = max(LANES, _SUMS_BYTES // (_BYTES_A_SUM * classes))
        doubt = self._doubt(rules)
        for start in range(0, n, at_once):
            self._settle(np.arange(start, min(start + at_once, n)), doubt, features, ids, added, rules, found)
        return found

    def _doubt(self, rules: Rules) -> Doubt:
        """Return the doubts under these rules, without looks at which no class can be absent: they settle nothing."""
        first = min(first_look(rules, self._limits), self._most)
        ends = tuple(end for end in stages(self._most) if end >= first)
        return _doubt_of(self._error, ends, self._limits)

    def _settle(
        self,
        left: np.ndarray,
        doubt: Doubt,
        features: np.ndarray,
        ids: np.ndarray,
        addend: np.ndarray,
        rules: Rules,
        found: Columns,
    ) -> None:
        """Run the samples that are `left`, stage by stage, until none is."""
        sums, first = None, 0
        for stage, end in enumerate(doubt.ends):
            sums = _StageSums(self.places(len(left)), self.num_classes, sums)
            some = columns(len(left), self.num_classes, decide=True, details=True)
            self._go_on(features[left], ids[left], (first, end), sums.state, addend[left[: len(addend)]], rules, some)
            near = nearby(some.mean, some.std, end, rules, doubt.limits)
            doubts, flips = doubt.of(some.numbers[0] == 1, near, sums.moments(near, end), stage, rules)
            done = (doubts <= doubt.error) | (end == doubt.ends[-1])
            _copy(found, left[done], some._replace(iterations=np.full(len(left), end), flips=flips), done)
            left, first, sums.chosen = left[~done], end, np.flatnonzero(~done)
            if not len(left):
                break

    def _go_on(
        self,
        features: np.ndarray,
        ids: np.ndarray,
        span: tuple[int, int],
        state: Sums,
        addend: np.ndarray,
        rules: Rules,
        found: Columns,
    ) -> None:
        """Run iterations span[0] to span[1] of samples whose sums of those before are in `state`, at their `places`."""
        n, kernels, (first, end) = len(features), self._kernels, span
        if not self._one_by_one(n):
            self._run_shared(features, (0, n), addend, rules, found, span, state)
            return
        part, ids = Part(first, end - first, end, False, True), self._mask_ids(ids)

        def work(start: int, stop: int) -> None:
            kernels.run_per_sample(
                features, ids, self._seed, start, stop, part, (state, _NONE_KEPT), addend, rules, found
            )

        self._run_rows(work, (0, n), part.length)

    def places(self, samples: int) -> tuple[np.ndarray, int, int]:
        """Return where the running sums of so many samples begin, the step from class to class, and the room of all."""
        number, classes = np.arange(samples), self.num_classes
        if self._one_by_one(samples):
            width = -(-classes // LANES) * LANES
            return number * width, 1, samples * width
        size = self._block_size(samples)
        return number // size * classes * LANES + number % size, LANES, -(-samples // size) * classes * LANES


class _StageSums:
    """Running sums of samples in their places: new ones, or those of the `chosen` of the stage before."""

    def __init__(self, places: tuple[np.ndarray, int, int], classes: int, before: "_StageSums | None") -> None:
        self._begin, self._step, room = places
        self.state, self.chosen = running_sums(room, higher=True), np.arange(0)
        if before is not None:
            every = np.arange(classes)
            old = before._begin[before.chosen][:, None] + before._step * every
            new = self._begin[:, None] + self._step * every
            for array, source in zip(self.state, before.state, strict=True):
                array[new] = source[old]

    def moments(self, near: Near, count: int) -> np.ndarray:
        """Return mean and second to fourth central moments of classes over `count` iterations, (4, K) float64."""
        state, at = self.state, self._begin[near.sample] + self._step * near.class_
        sums = (state.sum1[at] + state.total1[at], state.sum2[at] + state.total2[at], state.sum3[at], state.sum4[at])
        a, b, c, d = (each / count for each in sums)
        third, fourth = c - 3 * a * b + 2 * a**3, d - 4 * a * c + 6 * a * a * b - 3 * a**4
        return np.stack([state.pivot[at] + a, np.maximum(b - a * a, 0), third, fourth])


def _copy(found: Columns, to: np.ndarray, some: Columns, chosen: np.ndarray) -> None:
    """Put what was found of the `chosen` samples where it belongs."""
    for name, into, source in zip(Columns._fields, found, some, strict=True):
        if name in ("floats", "numbers"):
            into[:, to] = source[:, chosen]
        elif len(into):
            into[to] = source[chosen]
