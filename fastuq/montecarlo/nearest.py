"""Largest dot products of the codes of features with the rows of each class, in threads."""

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import Kernel, laid_flat
from fastuq.montecarlo.kernels.ir import LANES
from fastuq.montecarlo.kernels.nearest_rows import NearestJob, nearest_rows, nearest_scratch
from fastuq.montecarlo.kernels.targets import Target, host_target
from fastuq.montecarlo.threads import Threads
from fastuq.util.process import thread_count

_FIND = Kernel("nearest", "find_nearest")


class Nearest:
    """Rows of codes, made ready to be compared with what features come to.

    Codes of features q are ``clip(rint(step * y / |y|), -127, 127)``, where ``y = q @ weights - offset``.

    Parameters
    ----------
    weights : ndarray, (D, K), int8, from -127 to 127
    offset : ndarray, (K,), int64
    step : float
    rows : ndarray, (M, K), int8, from -127 to 127
        Class by class.
    counts : ndarray, (C,), int64
        Rows of each class, at least one.
    target : Target, optional
        What the kernel is compiled for; by default the processor decides. All give the same integers.
    """

    def __init__(
        self,
        weights: np.ndarray,
        offset: np.ndarray,
        step: float,
        rows: np.ndarray,
        counts: np.ndarray,
        *,
        target: Target | None = None,
    ) -> None:
        self._target = target or host_target()
        self._shape = weights.shape[0], weights.shape[1], len(counts)
        self._rows = laid_flat(nearest_rows(weights, offset, step, rows, counts, self._target))
        self._scratch = memory.Pool(lambda: laid_flat(nearest_scratch(*self._shape, self._target)))

    def __call__(self, features: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the largest dot product of the codes of features (N, D) int8 with a row of each class, (N, C) int32.

        The result does not depend on `threads`, which are all processors by default.
        """
        features = np.ascontiguousarray(features)
        assert (features.dtype, features.shape[1]) == (np.int8, self._shape[0])
        found = memory.empty((len(features), self._shape[2]), np.int32)

        def work(start: int, stop: int) -> None:
            with self._scratch.taken() as scratch:
                _FIND(self._target, NearestJob(features, self._rows, start, stop, found, scratch))

        Threads(thread_count(threads), (self._target.name,)).run("nearest", work, -(-len(features) // LANES))
        return found
