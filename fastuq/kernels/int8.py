"""The int8 kernels behind one small interface, the same as that of `fastuq.kernels.float32`."""

import numpy as np

from fastuq.kernels.pack import pack_int8
from fastuq.kernels.per_sample_int8 import pack_rows_int8, run_per_sample_int8
from fastuq.kernels.plan import Plan, aligned, packed_layout, reused, whole_selection
from fastuq.kernels.shared_int8 import run_shared_int8


class Int8Kernels:
    """Kernels bound to the plan of an int8 head; `vnni` chooses the VNNI instruction or the portable path."""

    def __init__(self, plan: Plan, vnni: bool) -> None:
        self.plan = plan
        self._vnni = True if vnni else None  # numba compiles the branch on None away
        self.identity = ("int8", vnni)
        self._rows: tuple | None = None
        self._full: np.ndarray | None = None

    def pack(self, units: np.ndarray, counts: np.ndarray, run, before: tuple | None = None) -> tuple:
        """Pack the heads of the selected iterations; ``run(work, count)`` calls work(start, stop) in threads.

        What was packed `before` is no longer needed: its memory is used again.
        """
        made = self._pack(self.plan, units, counts, run, before)
        if self._full is None:
            whole, whole_units, whole_counts = whole_selection(self.plan)
            self._full = self._pack(whole, whole_units, whole_counts, lambda work, count: work(0, count))[2][0]
        return made

    def _pack(self, plan, units, counts, run, before=None) -> tuple:
        weights_at, vectors_at, weights_size, vectors_size = packed_layout(plan, counts, 4)
        kinds = (np.int8, np.int32, np.float32, np.float32)
        sizes = (weights_size, vectors_size, vectors_size, vectors_size)
        rooms = (None,) * 4 if before is None else before[2]
        vectors = tuple(reused(*each) for each in zip(rooms, sizes, kinds, strict=True))
        run(
            lambda start, stop: pack_int8(plan, units, counts, weights_at, vectors_at, start, stop, *vectors),
            len(units),
        )
        return weights_at, vectors_at, vectors

    def run_shared(
        self, features, units, counts, packed, start, stop, begins, ends, num_iter, state, entropy, mean, std
    ):
        """Run packed iterations over blocks `start` to `stop` of 64 samples; see `run_shared_int8`."""
        run_shared_int8(
            self._vnni, self.plan, features, units, counts, packed, self._full, start, stop, begins, ends, num_iter,
            state, entropy, mean, std,
        )  # fmt: skip

    def prepare_per_sample(self) -> None:
        """Lay out the weights for `run_per_sample`."""
        if self._rows is not None:
            return
        plan, widths = self.plan, self.plan.widths
        groups = -(-widths[1:] // 64)
        first = aligned(groups[0] * widths[0] * 64, np.uint8)
        sizes = groups * -(-widths[:-1] // 4) * 256
        sizes[0] = 0
        dense_at = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        dense = aligned(sizes.sum(), np.int8)
        dense[:] = 0  # what fills inputs up to fours
        sums = np.zeros((len(groups), groups.max() * 64), np.int32)
        pack_rows_int8(plan, first, dense, dense_at, sums)
        self._rows = (first, dense, dense_at, sums)

    def run_per_sample(self, features, sample_ids, seed, num_iter, start, stop, entropy, mean, std):
        """Run all iterations for samples `start` to `stop`; see `run_per_sample_int8`."""
        run_per_sample_int8(
            self._vnni, self.plan, features, sample_ids, self._rows, seed, num_iter, start, stop, entropy, mean, std
        )
