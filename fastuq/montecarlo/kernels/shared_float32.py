"""float32 head under shared masks: as `shared_int8`, on float32 rows of 64 samples."""

import numpy as np

from fastuq.montecarlo.kernels.activating import activate_ahead, activate_numbers, scale_numbers, shift_rows
from fastuq.montecarlo.kernels.addend import add_addend, take_addend
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.deciding import activate_plain, write_entropies, write_found
from fastuq.montecarlo.kernels.ir import LANES, PART
from fastuq.montecarlo.kernels.lanes import real_rows, turn_features
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.running_sums import absorb, add_entropies, finish
from fastuq.montecarlo.kernels.scratch import TOGETHER
from fastuq.montecarlo.kernels.selection import output_count
from fastuq.montecarlo.kernels.tiles import float_block
from fastuq.montecarlo.kernels.voting import add_votes

_ONE = np.float32(1)


@kernel
def _full_product(job, samples):
    """Compute the whole product of the first block, [part][rows][16], from its packed weights `dense`."""
    plan, scratch = job.plan, job.scratch
    width, rows = plan.widths[0], len(scratch.base) // LANES
    float_block(
        samples, (scratch.inputs, 0), width, (scratch.every, 0), width, job.dense, 0, 0, plan.widths[1], _ONE,
        scratch.base, rows, (scratch.base, 0, 4 * PART, rows * 4 * PART),
    )  # fmt: skip


@kernel
def _run_iteration(job, t, samples, plain, out, out_at):
    """Run all blocks of one iteration, from the inputs to the pre-activations out[out_at:] as [classes][64]."""
    plan, scratch, packed, (units, counts) = job.plan, job.scratch, job.packed, job.selection
    last, room = len(plan.activations) - 1, len(scratch.hidden) // 2
    rows, inputs, listed = (scratch.inputs, 0), plan.widths[0], (units, t * plan.room)
    widest, base_rows = room // LANES, len(scratch.base) // LANES
    for block in range(last + 1):
        count, outputs = np.int64(counts[t, block]), output_count(plan.widths[-1], last + 1, counts, t, block)
        factor = plan.keeps[block] if plain and block == 0 else _ONE
        at, vectors_at, there = packed.weights_at[t, block], packed.vectors_at[t, block], block % 2 * room
        if block == last:
            float_block(
                samples, rows, inputs, listed, count, packed, at, vectors_at, outputs, factor, scratch.base, base_rows,
                (out, out_at, 4 * LANES, 4 * PART),
            )  # fmt: skip
        else:
            float_block(
                samples, rows, inputs, listed, count, packed, at, vectors_at, outputs, factor, scratch.base, base_rows,
                (scratch.hidden, there, 4 * PART, widest * 4 * PART),
            )  # fmt: skip
            for part in range((samples + PART - 1) // PART):
                begin = there + part * widest * PART
                activate_numbers(scratch.hidden, begin, plan.activations[block], plan.slopes[block], outputs)
                if plan.shifted[block] == 1:
                    shift_rows(scratch.hidden, begin, packed.unit_scale, packed.unit_shift, vectors_at, outputs)
                if plain:  # the weights have the 1 / (1 - p) of dropout
                    scale_numbers(scratch.hidden, begin, plan.keeps[block + 1], outputs)
        rows, inputs, listed = (scratch.hidden, there), widest, (scratch.every, 0)


@kernel
def run_shared_float32(frame):
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
        turn_features(job.features, first, samples, plan.widths[0], True, scratch.lanes, scratch.codes)
        real_rows(scratch.codes, plan.input_scale, plan.input_shift, plan.widths[0], scratch.inputs)
        if plan.complement == 1 or (part.decide and ends):
            _full_product(job, samples)
        take_addend(fused, job.addend, classes, first, samples, LANES, scratch.addend)
        parts = (samples + PART - 1) // PART
        for begin in range(0, part.length, TOGETHER):
            together = min(TOGETHER, part.length - begin)
            for t in range(together):
                _run_iteration(job, begin + t, samples, False, scratch.z, t * outputs)
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
                _run_iteration(job, part.length, samples, True, scratch.found.plain, 0)
                add_addend(fused, scratch.found.plain, 0, 0, 1, scratch.addend, vectors)
                activate_plain(activation, plan.slopes[-1], scratch.found.plain, classes)
            write_found(job, classes, first, samples)
