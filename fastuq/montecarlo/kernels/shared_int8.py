"""int8 head under shared masks: the thinned head of each iteration, packed once, is run over all samples.

64 samples lie across the vector lanes, so gathering a dropped feature is one row load. The first block is
X W - X[:, dropped] W[dropped] (a fifth of the work at p = 0.2, exact in integers); units that the next mask drops
are not computed at all.
"""

import numpy as np
from numba.core import types

from fastuq.montecarlo.kernels.activating import activate_ahead
from fastuq.montecarlo.kernels.addend import add_addend, take_addend
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.coding import encode_rows
from fastuq.montecarlo.kernels.deciding import activate_plain, write_entropies, write_found
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I64, LANES, PART
from fastuq.montecarlo.kernels.lanes import code_rows, turn_features
from fastuq.montecarlo.kernels.plan import BY_ROUNDING, STORE_CODES, STORE_REAL, STORE_SUMS, TILE
from fastuq.montecarlo.kernels.running_sums import absorb, add_entropies, finish
from fastuq.montecarlo.kernels.scratch import TOGETHER
from fastuq.montecarlo.kernels.selection import output_count
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.tiles import gather_groups, int8_block
from fastuq.montecarlo.kernels.voting import add_votes

_AS_IT_IS = (np.float32(0), 0)


@in_ir(types.int64)
def groups_of(builder, count):
    """Return how many groups of inputs the dot product takes for `count` of them."""
    size = current_target().dot.group
    return builder.sdiv(builder.add(count, I64(size - 1)), I64(size))


@kernel
def _full_product(job, samples):
    """Compute the whole product of the first block, with its correction, from the packed weights `dense`."""
    plan, scratch = job.plan, job.scratch
    groups = groups_of(plan.widths[0])
    gather_groups(scratch.codes, LANES, scratch.every, 0, groups, scratch.inputs)
    int8_block(
        samples, STORE_SUMS, scratch, groups, job.dense, 0, 0, plan.widths[1], _AS_IT_IS, scratch.base, 0
    )  # fmt: skip


@kernel
def _run_iteration(job, t, samples, out, out_at):
    """Run all blocks of one iteration, from input codes to the pre-activations out[out_at:] as [classes][64]."""
    plan, scratch, packed, (units, counts) = job.plan, job.scratch, job.packed, job.selection
    last = len(plan.activations) - 1
    for block in range(last + 1):
        groups, outputs = (
            groups_of(np.int64(counts[t, block])),
            output_count(plan.widths[-1], last + 1, counts, t, block),
        )
        if block == 0:
            gather_groups(scratch.codes, LANES, units, t * plan.room, groups, scratch.inputs)
        else:
            gather_groups(scratch.hidden, LANES, scratch.every, 0, groups, scratch.inputs)
        at, vectors_at = packed.weights_at[t, block], packed.vectors_at[t, block]
        rounding = plan.tops[block], plan.zero_points[min(block + 1, last)]
        if block == last:
            int8_block(
                samples, STORE_REAL, scratch, groups, packed, at, vectors_at, outputs, rounding, out, 4 * out_at
            )  # fmt: skip
        elif plan.codings[block] == BY_ROUNDING:
            int8_block(
                samples, STORE_CODES, scratch, groups, packed, at, vectors_at, outputs, rounding, scratch.hidden, 0
            )  # fmt: skip
        else:
            int8_block(
                samples, STORE_REAL, scratch, groups, packed, at, vectors_at, outputs, rounding, scratch.reals, 0
            )  # fmt: skip
            encode_rows(scratch.reals, plan, block, packed, vectors_at, outputs, scratch.lanes, scratch.hidden)


@kernel
def run_shared_int8(frame):
    """Run the packed iterations over blocks of samples, adding to the running sums; see `SharedJob`."""
    job = record_of(frame)
    plan, part, scratch = job.plan, job.part, job.scratch
    classes, activation = plan.widths[-1], plan.activations[-1]
    outputs, ends = (classes + TILE) * LANES, part.first + part.length == part.iterations
    fused, vectors = len(job.addend) > 0, classes * (LANES // PART)
    higher = len(job.state.sum3) > 0
    for number in range(job.start, job.stop):
        first, at = number * job.size, number * classes * LANES % len(job.state.pivot)
        samples = min(job.size, len(job.features) - first)
        turn_features(job.features, first, samples, plan.widths[0], False, scratch.lanes, scratch.codes)
        code_rows(scratch.codes, plan.input_scale, plan.input_shift, plan.widths[0], scratch.codes)
        if plan.complement == 1 or (part.decide and ends):
            _full_product(job, samples)
        take_addend(fused, job.addend, classes, first, samples, LANES, scratch.addend)
        parts = (samples + PART - 1) // PART
        for begin in range(0, part.length, TOGETHER):
            together = min(TOGETHER, part.length - begin)
            for t in range(together):
                _run_iteration(job, begin + t, samples, scratch.z, t * outputs)
            add_addend(fused, scratch.z, 0, outputs, together, scratch.addend, vectors)
            activate_ahead(scratch.z, 0, outputs, together, activation, plan.slopes[-1], classes, True)
            absorb(
                scratch.z, 0, outputs, together, activation, classes, parts, job.state, at, part.first + begin, higher
            )
            add_votes(
                len(job.columns.votes) > 0, scratch.z, outputs, together, classes, job.columns.votes, first, samples
            )
            add_entropies(
                part.scores, plan.exclusive, scratch.z, outputs, together, classes, parts, scratch.found.entropies
            )  # fmt: skip
        write_entropies(part.scores, scratch.found, part.iterations, job.columns.entropies, first, samples)
        if ends:
            finish(job.state, at, part.iterations, classes * LANES, scratch.found.mean, scratch.found.std)
            if part.decide:
                _run_iteration(job, part.length, samples, scratch.found.plain, 0)
                add_addend(fused, scratch.found.plain, 0, 0, 1, scratch.addend, vectors)
                activate_plain(activation, plan.slopes[-1], scratch.found.plain, classes)
            write_found(job, classes, first, samples)
