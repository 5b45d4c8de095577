"""The units that a mask selects: the thinned heads of all iterations."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.plan import Plan
from fastuq.montecarlo.kernels.threefry import keep_words, list_units


class Selection(NamedTuple):
    """What `select_iterations` lists for T iterations: units (int32, T rooms) and counts (int32, (T, L))."""

    units: np.ndarray
    counts: np.ndarray


def whole_selection(plan: Plan) -> tuple[Plan, Selection]:
    """Return the plan of the first block alone, not complemented, and a selection that drops nothing."""
    whole = plan._replace(widths=plan.widths[:2], activations=plan.activations[:1], complement=0)
    units = memory.zeros(plan.room, np.int32)
    units[: plan.widths[0]] = np.arange(plan.widths[0])
    return whole, Selection(units, memory.filled(plan.widths[None, :1], np.int32))


def selection_width(units: int) -> int:
    """Return the room for a list of selected units: whole vectors are written past its end."""
    return (int(units) + 31) // 16 * 16


def words_for(width: int) -> np.ndarray:
    """Make room for the keep bits of that many units: the generator writes 256 at a time."""
    return memory.empty(-(-int(width) // 256) * 4, np.uint64)


@kernel
def select_iterations(plan, seed, first_iteration, start, stop, words, units, counts):
    """List, for iterations ``first_iteration + t``, t from start to stop, the units that the kernels visit.

    Those are the kept inputs of each block; in a complemented first block the dropped ones. `units` (int32, T rooms)
    gets block l's list at ``plan.unit_at[l]`` of room t, filled up with unit 0 to a multiple of four; `counts` (int32,
    (T, L)) gets the lengths. `words` is scratch, `words_for` the widest block.
    """
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            width, at = plan.widths[block], t * plan.room + plan.unit_at[block]
            keep_words(seed, block, first_iteration + t, 0, plan.thresholds[block], width, words)
            invert = block == 0 and plan.complement == 1
            count = list_units(words, width, invert, units, at, None, None)
            counts[t, block] = count
            for i in range(count, (count + 3) // 4 * 4):
                units[at + i] = 0


@kernel
def output_unit(plan, units, t, block, number):
    """Return which output unit of `block` iteration t computes as its `number`-th: only those the next mask keeps."""
    if block == len(plan.activations) - 1:
        return np.int64(number)
    return np.int64(units[t * plan.room + plan.unit_at[block + 1] + number])


@kernel
def output_count(plan, counts, t, block):
    """Return how many outputs of `block` iteration t computes."""
    if block == len(plan.activations) - 1:
        return np.int64(plan.widths[block + 1])
    return np.int64(counts[t, block + 1])
