"""The kernels of a head behind one small interface, whatever its precision."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import Kernel, laid_flat
from fastuq.montecarlo.kernels.ir import LANES
from fastuq.montecarlo.kernels.jobs import PackJob, PerSampleJob, RowsJob, SelectJob, SharedJob
from fastuq.montecarlo.kernels.plan import (
    Columns,
    Packed,
    Part,
    Plan,
    Rules,
    Selection,
    Sums,
    packed_room,
    running_sums,
    whole_block,
    words_for,
)
from fastuq.montecarlo.kernels.scratch import pack_scratch, packed_rows, per_sample_scratch, shared_scratch
from fastuq.montecarlo.kernels.targets import Target

SELECT = Kernel("selection", "select_iterations")
_KERNELS = {
    precision: tuple(
        Kernel(module, f"{name}_{precision}")
        for module, name in (
            ("pack", "pack"),
            (f"shared_{precision}", "run_shared"),
            (f"per_sample_{precision}", "pack_rows"),
            (f"per_sample_{precision}", "run_per_sample"),
        )
    )
    for precision in ("int8", "float32")
}
_NONE_KEPT = np.zeros((0, 2, 0))
Run = Callable[[Callable[[int, int], None], int], None]
"""Calls work(start, stop) over ranges up to a count, in threads."""


class HeadKernels:
    """Kernels bound to the plan of a head, for a target."""

    def __init__(self, plan: Plan, target: Target, precision: str) -> None:
        self.plan, self.target, self.integers = plan, target, precision == "int8"
        self._frame = laid_flat(plan)
        self._pack_kernel, self._shared, self._pack_rows, self._per_sample = _KERNELS[precision]
        self._kind: Any = np.int32 if self.integers else np.float32
        self._group = target.dot.group if self.integers else 1
        self._full: Any = None
        self._rows: Any = None
        self._select_scratch = memory.Pool(lambda: words_for(plan.widths.max()))
        self._pack_scratch = memory.Pool(lambda: laid_flat(pack_scratch(plan)))
        self._shared_scratch = memory.Pool(lambda: laid_flat(shared_scratch(plan, target, self.integers)))
        self._states = memory.Pool(lambda: laid_flat(running_sums(int(plan.widths[-1]) * LANES)))
        width = -(-int(plan.widths[-1]) // LANES) * LANES
        self._single_states = memory.Pool(lambda: laid_flat(running_sums(width)))
        self._per_sample_scratch = memory.Pool(lambda: laid_flat(per_sample_scratch(plan, target, self.integers)))

    def select(self, seed: np.uint64, first: int, whole: int, selection: Selection, run: Run) -> None:
        """List the units of iterations `first` onwards; room `whole` gets all of them."""

        def work(start: int, stop: int) -> None:
            with self._select_scratch.taken() as words:
                SELECT(self.target, SelectJob(self._frame, seed, first, start, stop, whole, words, selection))

        run(work, len(selection.counts))

    def pack(self, selection: Selection, whole: int, run: Run, before: Packed | None = None) -> Packed:
        """Pack the heads of the selected iterations; the memory of those packed `before` is used again."""
        if self._full is None:
            block, everything = whole_block(self.plan)
            full = self._packed(block, everything, -1, lambda work, count: work(0, count))
            full.bias[:] = 0
            self._full = laid_flat(full)
        return self._packed(self.plan, selection, whole, run, before)

    def _packed(self, plan: Plan, selection: Selection, whole: int, run: Run, before: Packed | None = None) -> Packed:
        packed = packed_room(plan, selection.counts, self._group, self._kind, before)
        frame = self._frame if plan is self.plan else laid_flat(plan)
        choice, room = laid_flat(selection), laid_flat(packed)

        def work(start: int, stop: int) -> None:
            with self._pack_scratch.taken() as scratch:
                self._pack_kernel(self.target, PackJob(frame, choice, start, stop, whole, room, scratch))

        run(work, len(selection.counts))
        return packed

    def run_shared(
        self,
        features: np.ndarray,
        selection: Selection,
        packed: Packed,
        size: int,
        start: int,
        stop: int,
        part: Part,
        state: Sums | None,
        addend: np.ndarray,
        rules: Rules,
        columns: Columns,
    ) -> None:
        """Run packed iterations over blocks `start` to `stop` of `size` samples; see `SharedJob`.

        Without a `state` for all blocks the call must run all iterations.
        """
        with self._shared_scratch.taken() as scratch, self._states.taken() as own:
            job = SharedJob(
                self._frame, features, selection, packed, self._full, size, start, stop, part,
                state or own, addend, rules, columns, scratch,
            )  # fmt: skip
            self._shared(self.target, job)

    def prepare_per_sample(self) -> None:
        """Lay out the weights for `run_per_sample`."""
        if self._rows is None:
            rows = packed_rows(self.plan, self.target, self.integers)
            self._pack_rows(self.target, RowsJob(self._frame, rows))
            self._rows = laid_flat(rows)

    def run_per_sample(
        self,
        features: np.ndarray,
        sample_ids: np.ndarray,
        seed: np.uint64,
        start: int,
        stop: int,
        part: Part,
        split: tuple[Sums, np.ndarray] | None,
        addend: np.ndarray,
        rules: Rules,
        columns: Columns,
    ) -> None:
        """Run a part for samples `start` to `stop`; see `PerSampleJob`.

        Without a `split`, which is a state and room for kept sums, it must be all iterations.
        """
        with self._per_sample_scratch.taken() as scratch, self._single_states.taken() as own:
            state, kept = split or (own, _NONE_KEPT)
            job = PerSampleJob(
                self._frame, features, sample_ids, self._rows, seed, start, stop, part, state, kept, addend, rules,
                columns, scratch,
            )  # fmt: skip
            self._per_sample(self.target, job)
