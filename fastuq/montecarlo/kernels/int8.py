"""The int8 kernels behind one small interface, the same as that of `fastuq.montecarlo.kernels.float32`."""

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.pack import pack_int8, pack_scratch
from fastuq.montecarlo.kernels.per_sample_int8 import pack_rows_int8, per_sample_int8_scratch, run_per_sample_int8
from fastuq.montecarlo.kernels.plan import Plan, packed_layout
from fastuq.montecarlo.kernels.selection import Selection, whole_selection
from fastuq.montecarlo.kernels.shared_int8 import run_shared_int8, shared_int8_scratch


class Int8Kernels:
    """Kernels bound to the plan of an int8 head; `vnni` chooses the VNNI instruction or the portable path."""

    def __init__(self, plan: Plan, vnni: bool) -> None:
        self.plan = plan
        self._vnni = True if vnni else None  # numba compiles the branch on None away
        self.identity = ("int8", vnni)
        self._rows: tuple | None = None
        self._full: np.ndarray | None = None
        self._pack_scratch = memory.Pool(lambda: pack_scratch(plan))
        self._shared_scratch = memory.Pool(lambda: shared_int8_scratch(plan))
        self._per_sample_scratch = memory.Pool(lambda: per_sample_int8_scratch(plan))

    def pack(self, selection: Selection, run, before: tuple | None = None) -> tuple:
        """Pack the heads of the selected iterations; ``run(work, count)`` calls work(start, stop) in threads.

        What was packed `before` is no longer needed: its memory is used again.
        """
        made = self._pack(self.plan, selection, run, before)
        if self._full is None:
            whole, everything = whole_selection(self.plan)
            self._full = self._pack(whole, everything, lambda work, count: work(0, count))[2][0]
        return made

    def _pack(self, plan, selection, run, before=None) -> tuple:
        layout, weights_size, vectors_size = packed_layout(plan, selection.counts, 4)
        kinds = (np.int8, np.int32, np.float32, np.float32)
        sizes = (weights_size, vectors_size, vectors_size, vectors_size)
        rooms = (None,) * 4 if before is None else before[2]
        vectors = tuple(memory.reused(*each) for each in zip(rooms, sizes, kinds, strict=True))

        def work(start: int, stop: int) -> None:
            with self._pack_scratch.taken() as scratch:
                pack_int8(plan, selection, layout, start, stop, vectors, scratch)

        run(work, len(selection.counts))
        return (*layout, vectors)

    def run_shared(self, features, selection, packed, start, stop, part, state, out) -> None:
        """Run packed iterations over blocks `start` to `stop` of 64 samples; see `run_shared_int8`."""
        with self._shared_scratch.taken() as scratch:
            run_shared_int8(
                self._vnni, self.plan, features, selection, packed, self._full, start, stop, part, state, out, scratch
            )  # fmt: skip

    def prepare_per_sample(self) -> None:
        """Lay out the weights for `run_per_sample`."""
        if self._rows is not None:
            return
        plan, widths = self.plan, self.plan.widths
        groups = -(-widths[1:] // 64)
        first = memory.empty(groups[0] * widths[0] * 64, np.uint8)
        sizes = groups * -(-widths[:-1] // 4) * 256
        sizes[0] = 0
        dense_at = memory.filled(np.cumsum(sizes) - sizes, np.int64)
        dense = memory.zeros(sizes.sum(), np.int8)  # what fills inputs up to fours stays
        sums = memory.zeros((len(groups), groups.max() * 64), np.int32)
        pack_rows_int8(plan, first, dense, dense_at, sums)
        self._rows = (first, dense, dense_at, sums)

    def run_per_sample(self, features, sample_ids, seed, num_iter, start, stop, out) -> None:
        """Run all iterations for samples `start` to `stop`; see `run_per_sample_int8`."""
        with self._per_sample_scratch.taken() as scratch:
            run_per_sample_int8(
                self._vnni, self.plan, features, sample_ids, self._rows, seed, num_iter, start, stop, out, scratch
            )  # fmt: skip
