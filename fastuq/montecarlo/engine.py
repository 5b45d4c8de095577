"""Monte-Carlo dropout on features: checks shapes, bounds memory, calls the kernels. Features + head -> moments."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import cache_folder, has_vnni
from fastuq.montecarlo.kernels.flatten import float32_plan, int8_plan, packed_bytes
from fastuq.montecarlo.kernels.float32 import Float32Kernels
from fastuq.montecarlo.kernels.int8 import Int8Kernels
from fastuq.montecarlo.kernels.running_sums import SCORES, Out, Part, Sums
from fastuq.montecarlo.kernels.selection import Selection, select_iterations, words_for
from fastuq.montecarlo.masks import check_sample_ids
from fastuq.montecarlo.sampling import Sampling
from fastuq.util.process import thread_count

SAMPLES_AT_ONCE = 8192
PACKED_BYTES = 32 * 2**20
"""Packed heads that are held at once; more iterations go in several rounds."""
RUNS_AT_ONCE = 100_000
"""Iterations times samples that one call of a per-sample kernel takes: about a tenth of a second."""
FEW_SAMPLES = 16
"""Below this many samples shared masks run one by one: a block of 64 would cost more."""
_WORTH_A_TASK = 400
"""Iterations of a sample, or heads to pack, that are worth a task of their own: about half a millisecond."""
LANES = 64
_COMPILED: set[tuple] = set()
"""Kernels that this process has compiled or loaded."""


@dataclass(frozen=True)
class Moments:
    """What the iterations come to.

    Attributes
    ----------
    mean, std : ndarray, (N, C), float32
        Per-class mean and standard deviation (ddof 0) over the iterations.
    mean_entropy : ndarray, (N,), float32, or None
        Mean over the iterations of the predictive entropy, in nats.
    """

    mean: np.ndarray
    std: np.ndarray
    mean_entropy: np.ndarray | None


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

    `vnni` forces the VNNI instruction or the portable path; by default the processor decides. Both give the same bits.
    `seconds_compiling` is the time that went into compiling kernels or loading compiled ones, once per process.
    """

    def __init__(
        self,
        model: Model,
        sampling: Sampling | None = None,
        *,
        entropy: bool = False,
        threads: int | None = None,
        vnni: bool | None = None,
        **single: Any,
    ) -> None:
        sampling = replace(sampling or Sampling(), **single)
        self._num_iter, self._seed, self._masks = sampling.num_iter, np.uint64(sampling.seed), sampling.masks
        self._entropy = entropy
        self.threads = thread_count(threads)
        self._num_features, self._num_classes = model.head.num_features, model.head.num_classes
        self._kernels: Int8Kernels | Float32Kernels
        if sampling.precision == "int8":
            self._kernels = Int8Kernels(int8_plan(model.head_int8), has_vnni() if vnni is None else vnni)
        else:
            self._kernels = Float32Kernels(float32_plan(model.head, model.feature_scale, model.feature_zero_point))
        self._packed: tuple | None = None
        self.seconds_compiling = 0.0

    def __call__(self, features: np.ndarray, sample_ids: np.ndarray | None = None) -> Moments:
        """Return the moments of features (N, D) int8 of the samples numbered `sample_ids` (default 0 to N - 1)."""
        ids = self._check_features(features, sample_ids)
        n = len(features)
        mean, std = (memory.empty((n, self._num_classes), np.float32) for _ in range(2))
        scores = memory.zeros((n, SCORES if self._entropy else 0), np.float64)
        one_by_one = self._masks == "per_sample" or n < FEW_SAMPLES  # both ways give the same bits
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, n, SAMPLES_AT_ONCE):
                part = slice(start, start + SAMPLES_AT_ONCE)
                # Read-only arrays are another type to numba, for which it would compile everything again.
                rows = np.require(features[part], requirements=("C", "W"))
                out = Out(scores[part], mean[part], std[part])
                if one_by_one:
                    self._run_one_by_one(pool, rows, ids[part], out)
                else:
                    self._run_shared(pool, rows, out)
        return Moments(mean, std, scores[:, 0].astype(np.float32) if self._entropy else None)

    def _run_one_by_one(self, pool: ThreadPoolExecutor, features: np.ndarray, ids: np.ndarray, out: tuple) -> None:
        ids = ids if self._masks == "per_sample" else np.zeros_like(ids)
        kernels = self._kernels

        def work(start: int, stop: int) -> None:
            kernels.run_per_sample(features, ids, self._seed, self._num_iter, start, stop, out)

        self._in_threads(pool, "rows", lambda start, stop: kernels.prepare_per_sample(), 1)
        least, most = _WORTH_A_TASK // self._num_iter, max(1, RUNS_AT_ONCE // self._num_iter)
        self._in_threads(pool, "one by one", work, len(features), least, most)

    def _run_shared(self, pool: ThreadPoolExecutor, features: np.ndarray, out: tuple) -> None:
        blocks = -(-len(features) // LANES)
        at_once = max(1, min(self._num_iter, PACKED_BYTES // packed_bytes(self._kernels.plan)))
        kept = self._state(blocks if at_once < self._num_iter else 0)
        made: tuple | None = None
        for first in range(0, self._num_iter, at_once):
            count = min(at_once, self._num_iter - first)
            selection, packed = made = self._pack(pool, first, count, made)
            part = Part(first == 0, first + count == self._num_iter, self._num_iter)

            def work(start: int, stop: int) -> None:
                state = kept if len(kept[0]) else self._state(1)
                self._kernels.run_shared(features, selection, packed, start, stop, part, state, out)  # noqa: B023

            self._in_threads(pool, "shared", work, blocks)

    def _state(self, blocks: int) -> Sums:
        """Return room for the running sums of that many blocks: pivots and two sums."""
        count = blocks * self._num_classes * LANES
        return Sums(memory.empty(count, np.float32), *(memory.empty(count, np.float64) for _ in range(2)))

    def _pack(self, pool: ThreadPoolExecutor, first: int, count: int, before: tuple | None) -> tuple:
        """Return the packed heads of iterations first to first + count; kept where they are all there are.

        The memory of what was packed `before` is used again.
        """
        if self._packed is not None:
            return self._packed
        plan = self._kernels.plan
        if before is None:
            units, counts = (
                memory.empty(count * plan.room, np.int32),
                memory.empty((count, len(plan.activations)), np.int32),
            )
            packed = None
        else:
            (units, counts), packed = before
            units, counts = units[: count * plan.room], counts[:count]

        def select(start: int, stop: int) -> None:
            select_iterations(plan, self._seed, first, start, stop, words_for(plan.widths.max()), units, counts)

        self._in_threads(pool, "select", select, count, _WORTH_A_TASK)
        run = partial(self._in_threads, pool, "pack", least=_WORTH_A_TASK)
        selection = Selection(units, counts)
        made = (selection, self._kernels.pack(selection, run, packed))
        if count == self._num_iter:
            self._packed = made
        return made

    def _in_threads(
        self,
        pool: ThreadPoolExecutor,
        name: str,
        work: Callable[[int, int], None],
        count: int,
        least: int = 1,
        most: int = SAMPLES_AT_ONCE,
    ) -> None:
        """Call work(start, stop) over ranges that cover 0 to count, a few per thread so that none waits long.

        No range but the last is shorter than `least`, since a task takes time to start, or longer than `most`, since
        Ctrl-C is heard between ranges only.
        Work that comes under this `name` for the first time in this process is called on nothing before, which compiles
        its kernels.
        """
        key = (*self._kernels.identity, name)
        if key not in _COMPILED:
            began = time.perf_counter()
            with announced_compile():
                work(0, 0)
            self.seconds_compiling += time.perf_counter() - began
            _COMPILED.add(key)
        size = max(1, min(most, max(least, -(-count // (self.threads * 8)))))
        run = map if self.threads == 1 or size >= count else pool.map
        for _ in run(lambda start: work(start, min(start + size, count)), range(0, count, size)):
            pass

    def _check_features(self, features: np.ndarray, sample_ids: np.ndarray | None) -> np.ndarray:
        """Return the sample numbers, or raise InputError where the features are not int8 (N, D)."""
        if getattr(features, "dtype", None) != np.int8 or features.ndim != 2 or features.shape[1] != self._num_features:
            found = f"{getattr(features, 'dtype', type(features).__name__)} {getattr(features, 'shape', '')}".strip()
            raise InputError(
                f"features: expected int8 (N, {self._num_features}), found {found}; "
                "use the features of this model's backbone"
            )
        return check_sample_ids(sample_ids, len(features))


@contextmanager
def announced_compile() -> Iterator[None]:
    """Say on stderr what takes so long when the block takes longer than a second."""
    timer = threading.Timer(1.0, _announce)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@functools.cache
def _announce() -> None:
    if sys.stderr is not None:
        print(f"fastuq: compiling or loading the kernels ({_price()})", file=sys.stderr, flush=True)


def _price() -> str:
    if cache_folder():
        return "slow the first time only"
    return "slow every time: there is no folder to keep them in; name one that can be written with NUMBA_CACHE_DIR"
