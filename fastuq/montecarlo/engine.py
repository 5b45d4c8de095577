"""Monte-Carlo dropout on features: checks shapes, bounds memory, calls the kernels. Features + head -> moments."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastuq.model.model import Model
from fastuq.montecarlo.inputs import check_features, checked_addend
from fastuq.montecarlo.kernels.flatten import float32_plan, int8_plan, packed_bytes
from fastuq.montecarlo.kernels.heads import HeadKernels, Run
from fastuq.montecarlo.kernels.plan import (
    FOLD,
    Columns,
    Packed,
    Part,
    Rules,
    Selection,
    Sums,
    columns,
    joined,
    running_sums,
    selection_of,
)
from fastuq.montecarlo.kernels.scratch import TOGETHER
from fastuq.montecarlo.kernels.targets import Target, host_target
from fastuq.montecarlo.masks import check_sample_ids
from fastuq.montecarlo.sampling import Sampling
from fastuq.montecarlo.threads import Threads
from fastuq.util.process import thread_count

SAMPLES_AT_ONCE = 8192
PACKED_BYTES = 32 * 2**20
"""Packed heads that are held at once; more iterations go in several rounds."""
RUNS_AT_ONCE = 100_000
"""Iterations times samples that one call of a per-sample kernel takes: about a tenth of a second."""
SHARED_FROM = 512
"""Iterations of one sample that threads share: with fewer, handing them over costs more than it saves."""
FEW_SAMPLES = 16
"""Up to this many samples shared masks run one by one: packing their heads would cost more."""
_WORTH_A_TASK = 100
"""Iterations of a sample that are worth a task of their own: about a quarter of a millisecond."""
_MASKS_A_TASK, _HEADS_A_TASK = 400, 16
"""Masks to draw, and heads to pack, that are worth one."""
LANES = 64
_NO_RULES = Rules(np.float32(0), np.float32(0), False)


@dataclass(frozen=True)
class Moments:
    """What the iterations come to.

    Attributes
    ----------
    mean, std : ndarray, (N, C), float32
        Per-class mean and standard deviation (ddof 0) over the iterations.
    mean_entropy : ndarray, (N,), float32, or None
        Mean over the iterations of the predictive entropy, in nats.
    votes : ndarray, (N, C), int32, or None
        In how many iterations each class has the largest output, the first one of equals.
    """

    mean: np.ndarray
    std: np.ndarray
    mean_entropy: np.ndarray | None = None
    votes: np.ndarray | None = None


def moments(
    model: Model,
    features: np.ndarray,
    *,
    sample_ids: np.ndarray | None = None,
    entropy: bool = False,
    threads: int | None = None,
    **sampling: Any,
) -> Moments:
    """Run all Monte-Carlo iterations of the head; `MonteCarlo` does the same for features that come in pieces.

    Parameters
    ----------
    model : Model
    features : ndarray, (N, D), int8
    sample_ids : ndarray of int, (N,), optional
        Number of each sample in its data set (0 to N - 1 by default); decides per-sample masks.
    entropy : bool
        Also return the mean entropy of the iterations.
    threads : int, optional
        Default: the processors this process may use. The result does not depend on it.
    **sampling
        The fields of `fastuq.montecarlo.sampling.Sampling`: ``num_iter``, ``seed``, ``masks``, ``precision``.

    Returns
    -------
    Moments

    Raises
    ------
    InputError
        An argument is out of range or the features do not fit the model.
    """
    return MonteCarlo(model, entropy=entropy, threads=threads, **sampling)(features, sample_ids)


class MonteCarlo:
    """A head made ready to run on features piece by piece; arguments as in `moments`, or a `Sampling`.

    Of a model of several heads, `fastuq.montecarlo.together.heads_of` makes one for each. With `votes` the moments have
    them. `target` is what the kernels are compiled for; by default the processor decides. All give the same integers,
    and those that fuse multiply-adds (`Target.fused`) the same bits.
    """

    def __init__(
        self,
        model: Model,
        sampling: Sampling | None = None,
        *,
        entropy: bool = False,
        votes: bool = False,
        threads: int | None = None,
        target: Target | None = None,
        **single: Any,
    ) -> None:
        model.check_one_head("iterations")
        sampling = replace(sampling or Sampling(), **single)
        self._num_iter, self._seed, self._masks = sampling.num_iter, np.uint64(sampling.seed), sampling.masks
        self._entropy, self._votes = entropy, votes
        self.num_features, self.num_classes = model.head.num_features, model.head.num_classes
        if sampling.precision == "int8":
            plan = int8_plan(model.head_int8)
        else:
            plan = float32_plan(model.head, model.feature_scale, model.feature_zero_point)
        self._kernels = HeadKernels(plan, target or host_target(), sampling.precision)
        self._packed: dict[bool, tuple[Selection, Packed]] = {}
        self._threads = Threads(thread_count(threads), (self._kernels.target.name, sampling.precision))

    @property
    def threads(self) -> int:
        """How many threads it runs on."""
        return self._threads.count

    @property
    def seconds_compiling(self) -> float:
        """Seconds that went into compiling kernels, or loading them."""
        return self._threads.seconds_compiling

    def __call__(
        self, features: np.ndarray, sample_ids: np.ndarray | None = None, addend: np.ndarray | None = None
    ) -> Moments:
        """Return the moments of features (N, D) int8 of the samples numbered `sample_ids` (default 0 to N - 1).

        `addend` (N, C) float32 is added to the outputs of every iteration before the last activation.
        """
        found = self._run(features, sample_ids, None, addend, details=True)
        entropies = found.entropies.astype(np.float32) if self._entropy else None
        return Moments(found.mean, found.std, entropies, found.votes if self._votes else None)

    def decide(
        self,
        features: np.ndarray,
        sample_ids: np.ndarray,
        rules: Rules,
        *,
        details: bool,
        addend: np.ndarray | None = None,
    ) -> Columns:
        """Return the columns of samples under `rules`, with `details` mean, std and plain pass of every class."""
        return self._run(features, sample_ids, rules, addend, details=details)

    def _one_by_one(self, samples: int) -> bool:
        return self._masks == "per_sample" or samples <= FEW_SAMPLES  # both ways give the same bits

    def _checked(self, features: np.ndarray, ids: Any, addend: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return sample numbers and addend as kernels take them, of features that fit."""
        check_features(features, self.num_features)
        return check_sample_ids(ids, len(features)), checked_addend(addend, len(features), self.num_classes)

    def _mask_ids(self, ids: np.ndarray) -> np.ndarray:
        return ids if self._masks == "per_sample" else np.zeros_like(ids)

    def _run(
        self, features: np.ndarray, sample_ids: Any, rules: Rules | None, addend: np.ndarray | None, *, details: bool
    ) -> Columns:
        ids, added = self._checked(features, sample_ids, addend)
        n, decide = len(features), rules is not None
        found = columns(n, self.num_classes, decide=decide, details=details, scores=self._entropy, votes=self._votes)
        rows = np.ascontiguousarray(features)
        for start in range(0, n, SAMPLES_AT_ONCE):
            some = start, min(start + SAMPLES_AT_ONCE, n)
            if self._one_by_one(n):
                self._run_one_by_one(rows, ids, some, added, rules, found)
            else:
                self._run_shared(rows, some, added, rules, found, (0, self._num_iter))
        return found

    def _run_one_by_one(
        self,
        features: np.ndarray,
        ids: np.ndarray,
        samples: tuple[int, int],
        addend: np.ndarray,
        rules: Rules | None,
        found: Columns,
    ) -> None:
        ids, judged, total, kernels = self._mask_ids(ids), rules or _NO_RULES, self._num_iter, self._kernels
        part, by_themselves = Part(0, total, total, self._entropy, rules is not None), self._entropy or self._votes

        def work(start: int, stop: int) -> None:
            kernels.run_per_sample(features, ids, self._seed, start, stop, part, None, addend, judged, found)

        if samples[1] - samples[0] >= self.threads or total < SHARED_FROM or by_themselves:
            return self._run_rows(work, samples, total)
        self._run_rows(work, (samples[0], samples[0]), total)  # compiles, and no more
        for n in range(*samples):
            self._run_one(features, ids, n, part, addend, judged, found)

    def _run_rows(self, work: Callable[[int, int], None], samples: tuple[int, int], iterations: int) -> None:
        """Call work(start, stop) over ranges of samples, of which each has so many iterations to run."""
        self._threads.run("rows", lambda start, stop: self._kernels.prepare_per_sample(), 1)
        least, most = _WORTH_A_TASK // iterations, max(1, RUNS_AT_ONCE // iterations)
        self._threads.run("one by one", work, samples[1], least, most, first=samples[0])

    def _run_one(
        self,
        features: np.ndarray,
        ids: np.ndarray,
        n: int,
        part: Part,
        addend: np.ndarray,
        rules: Rules,
        found: Columns,
    ) -> None:
        """Run one sample, whose iterations the threads share."""
        kernels, width = self._kernels, -(-self.num_classes // LANES) * LANES
        kept = np.zeros((-(-part.iterations // FOLD), 2, width))
        state = running_sums(width)

        def work(start: int, stop: int) -> None:
            own, end = (state if start == 0 else running_sums(width)), min(stop * FOLD, part.iterations)
            piece = part._replace(first=start * FOLD, length=end - start * FOLD)
            if piece.length > 0:
                kernels.run_per_sample(features, ids, self._seed, n, n + 1, piece, (own, kept), addend, rules, found)

        self._threads.run("pieces", work, len(kept), -(-len(kept) // self.threads))
        joined(state, kept[:, :, : self.num_classes])
        last = part._replace(first=part.iterations, length=0)
        kernels.run_per_sample(features, ids, self._seed, n, n + 1, last, (state, kept[:0]), addend, rules, found)

    def _run_shared(
        self,
        features: np.ndarray,
        samples: tuple[int, int],
        addend: np.ndarray,
        rules: Rules | None,
        found: Columns,
        span: tuple[int, int],
        state: Sums | None = None,
    ) -> None:
        size, (begin, end), judged = self._block_size(samples[1] - samples[0]), span, rules or _NO_RULES
        kernels, blocks = self._kernels, (samples[0] // size, -(-samples[1] // size))
        at_once = min(end, max(PACKED_BYTES // packed_bytes(kernels.plan) // TOGETHER * TOGETHER, TOGETHER))
        if state is None and at_once < end:  # the sums of all blocks are kept from one round to the next
            state = running_sums((blocks[1] - blocks[0]) * self.num_classes * LANES)
        made: tuple[Selection, Packed] | None = None
        for first in range(begin, end, at_once):
            count = min(at_once, end - first)
            part = Part(first, count, end, self._entropy, rules is not None)
            selection, packed = made = self._pack(part, made)

            def work(start: int, stop: int) -> None:
                kernels.run_shared(features, selection, packed, size, start, stop, part, state, addend, judged, found)  # noqa: B023

            self._threads.run("shared", work, blocks[1], first=blocks[0])

    def _block_size(self, samples: int) -> int:
        """Return how many samples make a block: 64, or fewer where some threads would have none."""
        return next((size for size in (64, 32) if -(-samples // size) >= self.threads), 16)

    def _pack(self, part: Part, before: tuple[Selection, Packed] | None) -> tuple[Selection, Packed]:
        """Return the packed heads of a part, with the plain pass behind the last iteration of all where it is wanted.

        They are kept where they are all there are. The memory of what was packed `before` is used again.
        """
        complete = part.length == part.iterations
        if complete and part.decide in self._packed:
            return self._packed[part.decide]
        plain = part.length if part.decide and part.first + part.length == part.iterations else -1
        kernels, rooms, used = self._kernels, part.length + (plain >= 0), before or (None, None)
        selection = selection_of(kernels.plan, rooms, used[0])

        def in_threads(name: str, least: int) -> Run:
            return lambda work, count: self._threads.run(name, work, count, least)

        kernels.select(self._seed, part.first, plain, selection, in_threads("select", _MASKS_A_TASK))
        made = selection, kernels.pack(selection, plain, in_threads("pack", _HEADS_A_TASK), used[1])
        if complete:
            self._packed[part.decide] = made
        return made
