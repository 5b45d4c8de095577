"""The units that a mask selects: the thinned heads of all iterations."""

import numpy as np

from fastuq.montecarlo.kernels.building import kernel
from fastuq.montecarlo.kernels.threefry import keep_words, list_units


@kernel
def select_iterations(job):
    """List the units that the kernels visit: the kept inputs of each block, in a complemented first one the dropped.

    The plain pass drops nothing, and its first block is the whole product: none is listed there. Block l's list begins
    at ``plan.unit_at[l]`` of its iteration's room, filled up with unit 0 to a multiple of four.
    """
    plan, words, (units, counts) = job.plan, job.words, job.selection
    for t in range(job.start, job.stop):
        for block in range(len(plan.activations)):
            width, at = plan.widths[block], t * plan.room + plan.unit_at[block]
            threshold, dropped = plan.thresholds[block], block == 0 and plan.complement == 1
            if t == job.whole:
                threshold, dropped = np.int64(65536), block == 0
            keep_words(job.seed, block, job.first + t, 0, threshold, width, words)
            count = list_units(words, width, dropped, units, at)
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
