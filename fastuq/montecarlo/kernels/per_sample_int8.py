"""int8 head one sample at a time: for masks that differ by sample, and for few samples under shared masks.

Outputs lie across the vector lanes. The first block adds up the weights of the dropped (or kept) inputs alone; the
later ones run dense on codes whose dropped units hold the code of zero.
"""

import numpy as np
from numba.core import types

from fastuq.montecarlo.kernels.activating import activate_ahead
from fastuq.montecarlo.kernels.addend import add_addend, take_addend
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.coding import encode
from fastuq.montecarlo.kernels.deciding import activate_plain, place_found, write_entropies, write_found
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I64, LANES, PART
from fastuq.montecarlo.kernels.listing import list_mask
from fastuq.montecarlo.kernels.plan import FOLD
from fastuq.montecarlo.kernels.rows import (
    add_listed,
    copy_words,
    dense_sums,
    group_codes,
    input_codes,
    real_of_sums,
)
from fastuq.montecarlo.kernels.running_sums import absorb, add_entropy, finish, keep_sums
from fastuq.montecarlo.kernels.scratch import AT_ONCE, chunk_of, excess_of
from fastuq.montecarlo.kernels.shared_int8 import groups_of
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.threefry import keep_words
from fastuq.montecarlo.kernels.voting import add_vote


@in_ir(types.int64)
def _group_size(builder):
    return I64(current_target().dot.group)


@in_ir(types.int64)
def _chunk(builder):
    return I64(chunk_of(current_target(), True))


@in_ir(types.int64)
def _weight_offset(builder):
    """Return what is added to the weights of the first block: they may go in as unsigned."""
    return I64(excess_of(current_target().dot))


@in_ir(types.int64)
def _code_offset(builder):
    """Return what codes of later blocks are less of when they go into the dot product."""
    return I64(128 if current_target().dot.signed else 0)


@kernel
def pack_rows_int8(frame):
    """Lay out the whole int8 head for `run_per_sample_int8`; see `Rows`."""
    job = record_of(frame)
    plan, rows, size = job.plan, job.rows, _group_size()
    for block in range(len(plan.activations)):
        inputs, outputs, first = plan.widths[block], plan.widths[block + 1], block == 0
        groups, sign = (inputs + size - 1) // size, np.int64(-1 if first and plan.complement == 1 else 1)
        out, at = (rows.first, np.int64(0)) if first else (rows.later, 4 * rows.at[block])
        for column in range((outputs + LANES - 1) // LANES * LANES):
            total, lane, block_of_64 = np.int64(0), column % LANES, column // LANES
            slot = lane % 16 // 4 * 16 + lane // 16 * 4 + lane % 4
            for d in range(inputs):
                weight = np.int64(0)
                if column < outputs:
                    weight = sign * np.int64(plan.weights[plan.weight_at[block] + d * outputs + column])
                total += weight
                if first and size == 4:
                    out[(block_of_64 * inputs + d) * LANES + slot] = np.int8(weight + _weight_offset())
                    continue
                place = at + 4 * ((block_of_64 * groups + d // size) * LANES + lane) + d % size * (4 // size)
                out[place] = np.int8(weight)
                if size == 2:
                    out[place + 1] = np.int8(weight >> 8)
            zero = np.int64(0) if first else plan.zero_points[block] - _code_offset()
            rows.offsets[block, column] = np.int32(total * zero)


@kernel
def _base(job, n):
    """Set the input codes of a sample, and `base` to what they come to where nothing is dropped."""
    plan, scratch, width, outputs = job.plan, job.scratch, job.plan.widths[0], job.plan.widths[1]
    room, chunks = len(scratch.base), (width + _chunk() - 1) // _chunk()
    input_codes(job.features, n, width, plan.input_scale, plan.input_shift, scratch.codes)
    list_mask(
        scratch.codes, scratch.everything, width, False, scratch.values, 0, scratch.listed, 0, scratch.bounds, 0,
        scratch.excess, 0,
    )  # fmt: skip
    copy_words(scratch.nothing, 0, scratch.base, 0, room, 1)
    add_listed(
        job.rows.first,
        width,
        outputs,
        scratch.values,
        scratch.listed,
        scratch.bounds,
        room,
        chunks,
        1,
        scratch.base,
        room,
    )
    for i in range(room):
        scratch.base[i] -= scratch.excess[0]
        if plan.complement == 1:
            scratch.base[i] = -scratch.base[i]


@kernel
def _later_blocks(job, iteration, sample, plain, t):
    """Take row t of the sums of the first block to row t of the pre-activations of the last."""
    plan, scratch, rows = job.plan, job.scratch, job.rows
    room, last = len(scratch.base), len(plan.activations) - 1
    scales = plan.plain_scale if plain else plan.scale
    for block in range(last + 1):
        outputs = plan.widths[block + 1]
        vectors, offsets_at = (outputs + PART - 1) // PART, block * rows.offsets.shape[1]
        excess_at = t if block == 0 else AT_ONCE
        real_of_sums(
            scratch.sums, t * room, scratch.excess, excess_at, rows.offsets, offsets_at, scales, plan.bias,
            plan.output_at[block], vectors, scratch.z, t * room,
        )  # fmt: skip
        if block < last:
            encode(scratch.z[t * room : (t + 1) * room], plan, block, outputs, scratch.hidden)
            keep_words(job.seed, block + 1, iteration, sample, plan.thresholds[block + 1], outputs, scratch.words)
            zero = plan.zero_points[block + 1]
            group_codes(scratch.hidden, scratch.words, not plain, outputs, zero, scratch.values)
            dense_sums(
                scratch.values, rows.later, 4 * rows.at[block + 1], groups_of(outputs), plan.widths[block + 2],
                scratch.sums[t * room : (t + 1) * room],
            )  # fmt: skip


@kernel
def _first_block(job, sample, first, together):
    """Run the first block of iterations first to first + together, into rows of `sums`."""
    plan, scratch, width, outputs = job.plan, job.scratch, job.plan.widths[0], job.plan.widths[1]
    room, chunks = len(scratch.base), (width + _chunk() - 1) // _chunk()
    for t in range(together):
        keep_words(job.seed, 0, first + t, sample, plan.thresholds[0], width, scratch.words)
        list_mask(
            scratch.codes, scratch.words, width, plan.complement == 1, scratch.values, t * room, scratch.listed,
            t * room, scratch.bounds, t * (chunks + 1), scratch.excess, t,
        )  # fmt: skip
        copy_words(scratch.base, 0, scratch.sums, t * room, outputs, plan.complement)
    add_listed(
        job.rows.first, width, outputs, scratch.values, scratch.listed, scratch.bounds, room, chunks, together,
        scratch.sums, room,
    )  # fmt: skip


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
def run_per_sample_int8(frame):
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
                copy_words(scratch.base, 0, scratch.sums, 0, plan.widths[1], 1)
                scratch.excess[0] = 0
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
