"""The float32 kernels behind one small interface, the same as that of `fastuq.kernels.int8`."""

import numpy as np

from fastuq.kernels.pack import pack_float32
from fastuq.kernels.per_sample_float32 import pack_rows_float32, run_per_sample_float32
from fastuq.kernels.plan import Plan, aligned, packed_layout, reused, whole_selection
from fastuq.kernels.shared_float32 import run_shared_float32


class Float32Kernels:
    """Kernels bound to the plan of a float32 head."""

    identity = ("float32",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rows: tuple[np.ndarray, np.ndarray] | None = None
        self._full: np.ndarray | None = None

    def pack(self, units: np.ndarray, counts: np.ndarray, run, before: tuple | None = None) -> tuple:
        """Pack the heads of the selected iterations; ``run(work, count)`` calls work(start, stop) in threads.

        What was packed `before` is no longer needed: its memory is used again.
        """
        made = self._pack(self.plan, units, counts, run, before)
        if self._full is None:
            whole, whole_units, whole_counts = whole_selection(self.plan)
            self._full = self._pack(whole, whole_units, whole_counts, lambda work, count: work(0, count))[1]
        return made

    @staticmethod
    def _pack(plan, units, counts, run, before=None) -> tuple:
        weights_at, _, size, _ = packed_layout(plan, counts, 1)
        packed = reused(None if before is None else before[1], size, np.float32)
        run(lambda start, stop: pack_float32(plan, units, counts, weights_at, start, stop, packed), len(units))
        return weights_at, packed

    def run_shared(
        self, features, units, counts, packed, start, stop, begins, ends, num_iter, state, entropy, mean, std
    ):
        """Run packed iterations over blocks `start` to `stop` of 64 samples; see `run_shared_float32`."""
        run_shared_float32(
            self.plan, features, units, counts, *packed, self._full, start, stop, begins, ends, num_iter,
            state, entropy, mean, std,
        )  # fmt: skip

    def prepare_per_sample(self) -> None:
        """Lay out the weights for `run_per_sample`."""
        if self._rows is not None:
            return
        widths = self.plan.widths
        sizes = -(-widths[1:] // 64) * 64 * widths[:-1]
        rows_at = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        rows = aligned(sizes.sum(), np.float32)
        pack_rows_float32(self.plan, rows, rows_at)
        self._rows = (rows, rows_at)

    def run_per_sample(self, features, sample_ids, seed, num_iter, start, stop, entropy, mean, std):
        """Run all iterations for samples `start` to `stop`; see `run_per_sample_float32`."""
        assert self._rows is not None
        run_per_sample_float32(
            self.plan, features, sample_ids, *self._rows, seed, num_iter, start, stop, entropy, mean, std
        )
