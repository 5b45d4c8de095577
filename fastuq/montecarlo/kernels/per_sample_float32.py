"""float32 head one sample at a time: as `per_sample_int8`, adding up the weight rows of the listed inputs.

Each sum is the same fused multiply-adds in the same order as in `shared_float32`, so both give the same bits.
"""

import numpy as np
from numba.core import types

from fastuq.montecarlo.kernels.activating import activate_ahead, activate_numbers, scale_numbers, shift_numbers
from fastuq.montecarlo.kernels.addend import add_addend, take_addend
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.deciding import activate_plain, place_found, write_entropies, write_found
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I64, LANES, PART
from fastuq.montecarlo.kernels.listing import list_chunks
from fastuq.montecarlo.kernels.plan import FOLD
from fastuq.montecarlo.kernels.rows import add_rows, copy_scaled, input_reals
from fastuq.montecarlo.kernels.running_sums import absorb, add_entropy, finish, keep_sums
from fastuq.montecarlo.kernels.scratch import AT_ONCE, chunk_of
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.threefry import keep_words
from fastuq.montecarlo.kernels.voting import add_vote

_ONE = np.float32(1)


@in_ir(types.int64)
def _chunk(builder):
    return I64(chunk_of(current_target(), False))


@kernel
def pack_rows_float32(frame):
    """Lay out the whole float32 head for `run_per_sample_float32`; see `Rows`."""
    job = record_of(frame)
    plan, rows = job.plan, job.rows
    for block in range(len(plan.activations)):
        inputs, outputs, first = plan.widths[block], plan.widths[block + 1], plan.weight_at[block]
        out, at = (rows.first, 0) if block == 0 else (rows.later, rows.at[block])
        for column in range((outputs + LANES - 1) // LANES * LANES):
            place = at + column // LANES * inputs * LANES + column % LANES
            for d in range(inputs):
                weight = plan.weights[first + d * outputs + column] if column < outputs else np.float32(0)
                out[place + d * LANES] = weight


@kernel
def _base(job, n):
    """Set the inputs of a sample and, in a complemented head, `base` to the whole first product."""
    plan, scratch, width, outputs = job.plan, job.scratch, job.plan.widths[0], job.plan.widths[1]
    room, chunks = len(scratch.base), (width + _chunk() - 1) // _chunk()
    sign = np.float32(-1 if plan.complement == 1 else 1)
    input_reals(job.features, n, width, plan.input_scale, plan.input_shift, _ONE, scratch.inputs)
    input_reals(job.features, n, width, plan.input_scale, plan.input_shift, sign, scratch.negated)
    copy_scaled(scratch.nothing, 0, _ONE, scratch.nothing, 0, scratch.base, 0, room)
    list_chunks(scratch.everything, width, False, scratch.listed, 0, scratch.bounds, 0, _chunk())
    add_rows(
        job.rows.first, 0, width, outputs, scratch.inputs, scratch.listed, scratch.bounds, room, chunks, 1,
        scratch.base, room,
    )  # fmt: skip


@kernel
def _first_block(job, sample, first, together):
    """Run the first block of iterations first to first + together, into rows of `z`."""
    plan, scratch, width, outputs = job.plan, job.scratch, job.plan.widths[0], job.plan.widths[1]
    room, chunks = len(scratch.base), (width + _chunk() - 1) // _chunk()
    for t in range(together):
        keep_words(job.seed, 0, first + t, sample, plan.thresholds[0], width, scratch.words)
        list_chunks(
            scratch.words, width, plan.complement == 1, scratch.listed, t * room, scratch.bounds, t * (chunks + 1),
            _chunk()
        )  # fmt: skip
        if plan.complement == 1:
            copy_scaled(scratch.base, 0, _ONE, plan.bias, 0, scratch.z, t * room, outputs)
        else:
            copy_scaled(scratch.nothing, 0, _ONE, plan.bias, 0, scratch.z, t * room, outputs)
    add_rows(
        job.rows.first, 0, width, outputs, scratch.negated, scratch.listed, scratch.bounds, room, chunks, together,
        scratch.z, room,
    )  # fmt: skip


@kernel
def _later_blocks(job, iteration, sample, plain, t):
    """Take row t of the pre-activations of the first block to those of the last, in place."""
    plan, scratch, rows = job.plan, job.scratch, job.rows
    room, at = len(scratch.base), t * len(scratch.base)
    for block in range(len(plan.activations) - 1):
        outputs, following = plan.widths[block + 1], plan.widths[block + 2]
        vectors = (outputs + PART - 1) // PART
        activate_numbers(scratch.z, at, plan.activations[block], plan.slopes[block], vectors)
        if plan.shifted[block] == 1:
            shift_numbers(scratch.z, at, plan.unit_scale, plan.unit_shift, plan.output_at[block], vectors)
        threshold = np.int64(65536) if plain else plan.thresholds[block + 1]
        keep_words(job.seed, block + 1, iteration, sample, threshold, outputs, scratch.words)
        list_chunks(scratch.words, outputs, False, scratch.listed, 0, scratch.bounds, 0, 65536)
        if plain:  # the weights have the 1 / (1 - p) of dropout
            scale_numbers(scratch.z, at, plan.keeps[block + 1], vectors)
        copy_scaled(
            scratch.nothing, 0, _ONE, plan.bias, plan.output_at[block + 1], scratch.sums, 0, following
        )  # fmt: skip
        add_rows(
            rows.later, 4 * rows.at[block + 1], outputs, following, scratch.z[at : at + room], scratch.listed,
            scratch.bounds, room, 1, 1, scratch.sums, room,
        )  # fmt: skip
        copy_scaled(scratch.sums, 0, _ONE, scratch.nothing, 0, scratch.z, at, following)


@kernel
def _add_addend(job, together):
    """Add what belongs to the sample to the outputs of `together` iterations."""
    scratch, vectors = job.scratch, (job.plan.widths[-1] + PART - 1) // PART
    add_addend(len(job.addend) > 0, scratch.z, 0, len(scratch.base), together, scratch.addend, vectors)


@kernel
def _run_iterations(job, n, first, together, at):
    """Run iterations first to first + together of sample n, and add them to the running sums."""
    plan, scratch, classes = job.plan, job.scratch, job.plan.widths[-1]
    activation, room, sample = plan.activations[-1], len(scratch.base), job.sample_ids[n]
    _first_block(job, sample, first, together)
    for t in range(together):
        _later_blocks(job, first + t, sample, False, t)
    _add_addend(job, together)
    activate_ahead(scratch.z, 0, room, together, activation, plan.slopes[-1], classes, False)
    vectors, higher = (classes + PART - 1) // PART, len(job.state.sum3) > 0
    absorb(scratch.z, 0, room, together, activation, 1, vectors, job.state, at, first, higher)


@kernel
def run_per_sample_float32(frame):
    """Run the iterations of a part for samples, and write what all of them come to; see `PerSampleJob`."""
    job = record_of(frame)
    plan, part, scratch, classes = job.plan, job.part, job.scratch, job.plan.widths[-1]
    room, end = len(scratch.base), part.first + part.length
    for n in range(job.start, job.stop):
        place = (n - job.start) % LANES
        _base(job, n)
        take_addend(len(job.addend) > 0, job.addend, classes, n, 1, 1, scratch.addend)
        at = n * ((classes + LANES - 1) // LANES * LANES) % len(job.state.pivot)
        # A piece that begins later needs the first iteration all the same: it is the pivot.
        begin = -1 if part.first > 0 and len(job.kept) > 0 else part.first
        while begin < end:
            first = max(begin, 0)
            together = 1 if begin < 0 else min(AT_ONCE, end - first)
            _run_iterations(job, n, first, together, at)
            add_vote(len(job.columns.votes) > 0, scratch.z, room, together, classes, job.columns.votes, n)
            add_entropy(part.scores, plan.exclusive, scratch.z, room, together, classes, scratch.found.entropies, place)
            begin = part.first if begin < 0 else begin + together
            if len(job.kept) > 0 and begin > part.first and (begin % FOLD == 0 or begin == end):
                keep_sums(job.state, job.kept, (begin - 1) // FOLD, job.kept.shape[2])
        if end == part.iterations and len(job.kept) == 0:
            finish(job.state, at, part.iterations, classes, scratch.mean, scratch.std)
            if part.decide:
                copy_scaled(scratch.base, 0, plan.keeps[0], plan.bias, 0, scratch.z, 0, plan.widths[1])
                _later_blocks(job, 0, job.sample_ids[n], True, 0)
                _add_addend(job, 1)
            place_found(scratch.mean, scratch.std, scratch.z, scratch.found, classes, place)
            if place == LANES - 1 or n == job.stop - 1:
                _write(job, classes, n - place, place + 1)


@kernel
def _write(job, classes, first, samples):
    """Write what up to 64 samples came to."""
    part, found = job.part, job.scratch.found
    activate_plain(job.plan.activations[-1], job.plan.slopes[-1], found.plain, classes)
    write_entropies(part.scores, found, part.iterations, job.columns.entropies, first, samples)
    write_found(job, classes, first, samples)
