"""The units that a mask selects: the thinned heads of all iterations."""

import numpy as np
from numba.core import types

from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I32, I64, load, plus
from fastuq.montecarlo.kernels.threefry import keep_words, list_units


@kernel
def select_iterations(frame):
    """List the units that the kernels visit: the kept inputs of each block, in a complemented first one the dropped.

    The plain pass drops nothing, and its first block is the whole product: none is listed there. Block l's list begins
    at ``plan.unit_at[l]`` of its iteration's room, filled up with unit 0 to a multiple of four.
    """
    job = record_of(frame)
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


@in_ir(types.int64)
def output_count(builder, classes, blocks, counts, t, block):
    """Return how many outputs of `block` iteration t computes: only those that the next mask keeps."""
    last = builder.icmp_signed("==", block, builder.sub(blocks, I64(1)))
    following = builder.add(builder.mul(t, blocks), builder.select(last, block, builder.add(block, I64(1))))
    kept = builder.sext(load(builder, plus(builder, counts, following, 4), I32), I64)
    return builder.select(last, classes, kept)
