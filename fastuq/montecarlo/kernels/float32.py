"""The float32 kernels behind one small interface, the same as that of `fastuq.montecarlo.kernels.int8`."""

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.pack import pack_float32, pack_scratch
from fastuq.montecarlo.kernels.per_sample_float32 import (
    pack_rows_float32,
    per_sample_float32_scratch,
    run_per_sample_float32,
)
from fastuq.montecarlo.kernels.plan import Plan, packed_layout
from fastuq.montecarlo.kernels.selection import Selection, whole_selection
from fastuq.montecarlo.kernels.shared_float32 import run_shared_float32, shared_float32_scratch


class Float32Kernels:
    """Kernels bound to the plan of a float32 head."""

    identity = ("float32",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rows: tuple[np.ndarray, np.ndarray] | None = None
        self._full: np.ndarray | None = None
        self._pack_scratch = memory.Pool(lambda: pack_scratch(plan))
        self._shared_scratch = memory.Pool(lambda: shared_float32_scratch(plan))
        self._per_sample_scratch = memory.Pool(lambda: per_sample_float32_scratch(plan))

    def pack(self, selection: Selection, run, before: tuple | None = None) -> tuple:
        """Pack the heads of the selected iterations; ``run(work, count)`` calls work(start, stop) in threads.

        What was packed `before` is no longer needed: its memory is used again.
        """
        made = self._pack(self.plan, selection, run, before)
        if self._full is None:
            whole, everything = whole_selection(self.plan)
            self._full = self._pack(whole, everything, lambda work, count: work(0, count))[1]
        return made

    def _pack(self, plan, selection, run, before=None) -> tuple:
        (weights_at, _), size, _ = packed_layout(plan, selection.counts, 1)
        packed = memory.reused(None if before is None else before[1], size, np.float32)

        def work(start: int, stop: int) -> None:
            with self._pack_scratch.taken() as scratch:
                pack_float32(plan, selection, weights_at, start, stop, packed, scratch)

        run(work, len(selection.counts))
        return weights_at, packed

    def run_shared(self, features, selection, packed, start, stop, part, state, out) -> None:
        """Run packed iterations over blocks `start` to `stop` of 64 samples; see `run_shared_float32`."""
        with self._shared_scratch.taken() as scratch:
            run_shared_float32(
                self.plan, features, selection, packed, self._full, start, stop, part, state, out, scratch
            )  # fmt: skip

    def prepare_per_sample(self) -> None:
        """Lay out the weights for `run_per_sample`."""
        if self._rows is not None:
            return
        widths = self.plan.widths
        sizes = -(-widths[1:] // 64) * 64 * widths[:-1]
        rows_at = memory.filled(np.cumsum(sizes) - sizes, np.int64)
        rows = memory.empty(sizes.sum(), np.float32)
        pack_rows_float32(self.plan, rows, rows_at)
        self._rows = (rows, rows_at)

    def run_per_sample(self, features, sample_ids, seed, num_iter, start, stop, out) -> None:
        """Run all iterations for samples `start` to `stop`; see `run_per_sample_float32`."""
        with self._per_sample_scratch.taken() as scratch:
            run_per_sample_float32(
                self.plan, features, sample_ids, self._rows, seed, num_iter, start, stop, out, scratch
            )  # fmt: skip
