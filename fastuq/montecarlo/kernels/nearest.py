"""The largest dot product of codes with the rows of each class: the tiles of `tiles`, with a running maximum.

64 samples lie across the vector lanes. Their features are projected by the tiles as they are, and made codes of length
`step`; then 6 rows make a tile, and a class is filled up to whole tiles with a row of its own. The largest sums of a
class stay in registers until its last tile is done.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.dots import slot_of_chunk
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    F64,
    I8,
    I32,
    I64,
    LANES,
    PART,
    all_lanes,
    call,
    counting,
    lanes_of,
    load,
    plus,
    splat,
    store,
    words,
)
from fastuq.montecarlo.kernels.lanes import turn_features
from fastuq.montecarlo.kernels.plan import STORE_SUMS, TILE
from fastuq.montecarlo.kernels.running_sums import DOUBLES
from fastuq.montecarlo.kernels.shared_int8 import groups_of
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.tiles import for_units, gather_groups, int8_block, int8_sums, places_of

_LOWEST = -(2**31)
_ROUND = 1.5 * 2**52
"""Added to a small float64 number and taken off, it rounds to a whole one, ties to even."""
_AS_IT_IS = (np.float32(0), 0)


@outlined
def _largest(builder, vectors, unit, inputs, groups, weights, correction, tiles, zeros, out):
    """Store the largest sums over `tiles` tiles to a row of 64 int32; all are addresses but numbers."""
    lanes = current_target().lanes
    kind, places = words(lanes), places_of(builder, vectors, unit, I64(4 * PART))
    data = [builder.add(inputs, at) for at in places_of(builder, vectors, unit, builder.mul(groups, I64(4 * PART)))]
    best = [cgutils.alloca_once(builder, kind) for _ in range(vectors)]
    for slot in best:
        builder.store(all_lanes(_LOWEST, kind), slot)
    starts = [[zeros] * vectors] * TILE
    with counting(builder, tiles) as tile:
        rows = plus(builder, weights, builder.mul(tile, groups), 4 * TILE)
        sums = int8_sums(builder, vectors, data, rows, groups, starts, plus(builder, correction, tile, 4 * TILE))
        for number, value in enumerate(sums):
            slot = best[number % vectors]
            so_far = builder.load(slot)
            builder.store(builder.select(builder.icmp_signed(">", value, so_far), value, so_far), slot)
    for slot, place in zip(best, places, strict=True):
        store(builder, builder.load(slot), builder.add(out, place))


@in_ir()
def _compare(builder, samples, scratch, groups, bank, first, tiles, c):
    """Write the largest sums of class c, `tiles` tiles from tile `first` on, to row c of `best`."""
    weights = plus(builder, bank.weights, builder.mul(first, groups), 4 * TILE)
    correction, out = plus(builder, bank.correction, first, 4 * TILE), plus(builder, scratch.best, c, 4 * LANES)

    def run(vectors, unit):
        _largest(builder, vectors, unit, scratch.inputs, groups, weights, correction, tiles, scratch.base, out)

    for_units(builder, samples, run)


@in_ir()
def _write(builder, best, classes, out, first, samples):
    """Write best [classes][64] of `samples` samples to rows of out (N, C) from `first` on."""
    with counting(builder, samples) as s:
        row = plus(builder, out, builder.mul(builder.add(first, s), classes), 4)
        with counting(builder, classes) as c:
            value = load(builder, plus(builder, best, builder.add(builder.mul(c, I64(LANES)), s), 4), I32)
            store(builder, value, plus(builder, row, c, 4))


@in_ir()
def _offset_rows(builder, rows, count):
    """Replace int8 rows[count][64] by what they are more than -128, as uint8."""
    with counting(builder, count) as i:
        at = plus(builder, rows, i, LANES)
        store(builder, builder.xor(load(builder, at, BYTES), all_lanes(128, BYTES)), at)


def _code(builder, y, factor):
    """Return clip(rint(y * factor), -127, 127) + 128 of 8 words and float64 factors, as words."""
    x, high = builder.fmul(builder.sitofp(y, DOUBLES), factor), all_lanes(127.0, DOUBLES)
    x = builder.select(builder.fcmp_ordered("<", x, high), x, high)
    x = builder.select(builder.fcmp_ordered(">", x, builder.fneg(high)), x, builder.fneg(high))
    nearest = all_lanes(_ROUND, DOUBLES)
    x = builder.fsub(builder.fadd(x, nearest), nearest)
    return builder.add(builder.fptosi(x, words(8)), all_lanes(128, words(8)))


@outlined
def _code_part(builder, sums, count, step, part, out):
    """Do as `_code_sums` for 16 lanes; all are addresses but `count`, `step` and `part`."""
    long = ir.VectorType(I64, 8)
    squares = [cgutils.alloca_once(builder, long) for _ in range(2)]
    for slot in squares:
        builder.store(all_lanes(0, long), slot)
    with counting(builder, count) as k:
        for half, slot in enumerate(squares):
            y = builder.sext(load(builder, plus(builder, sums, k, 4 * LANES), words(8), 32 * half), long)
            builder.store(builder.add(builder.load(slot), builder.mul(y, y)), slot)
    one, factors = all_lanes(1.0, DOUBLES), []
    for slot in squares:
        length = call(builder, "llvm.sqrt.v8f64", DOUBLES, builder.sitofp(builder.load(slot), DOUBLES))
        length = builder.select(builder.fcmp_ordered(">", length, one), length, one)
        factors.append(builder.fdiv(splat(builder, step, 8), length))
    with counting(builder, count) as k:
        row = plus(builder, out, k, LANES)
        for half, factor in enumerate(factors):
            y = load(builder, plus(builder, sums, k, 4 * LANES), words(8), 32 * half)
            codes = builder.trunc(_code(builder, y, factor), ir.VectorType(I8, 8))
            for chunk in range(2):
                place = plus(builder, builder.mul(part, I64(4)), 2 * half + chunk)
                at = builder.add(row, slot_of_chunk(builder, current_target().dot, place))
                store(builder, builder.bitcast(lanes_of(builder, codes, 4 * chunk, 4), I32), at)


@in_ir()
def _code_sums(builder, sums, count, step, out):
    """Turn y (int32, [count][64]) into clip(rint(y * (step / |y|)), -127, 127) + 128 as uint8 [count][64].

    |y| is the length of a lane, 1 where that is less. The squares are whole numbers and the rest is float64, so that
    the codes are those of `fastuq.scoring.bank.projection` on every processor.
    """
    with counting(builder, I64(LANES // PART)) as part:
        _code_part(builder, plus(builder, sums, part, 4 * PART), count, builder.bitcast(step, F64), part, out)


@kernel
def find_nearest(frame):
    """Find the largest dot products of blocks of samples; see `nearest_rows.NearestJob`."""
    job = record_of(frame)
    bank, scratch, width = job.bank, job.scratch, job.features.shape[1]
    classes, components = len(bank.tiles_at) - 1, bank.components
    for number in range(job.start, job.stop):
        first = number * LANES
        samples = min(LANES, len(job.features) - first)
        turn_features(job.features, first, samples, width, False, scratch.lanes, scratch.rows)
        _offset_rows(scratch.rows, width)
        gather_groups(scratch.rows, LANES, scratch.every, 0, groups_of(width), scratch.inputs)
        int8_block(
            samples, STORE_SUMS, scratch, groups_of(width), bank.projection, 0, 0, components, _AS_IT_IS,
            scratch.sums, 0,
        )  # fmt: skip
        _code_sums(scratch.sums, components, bank.step, scratch.rows)
        groups = groups_of(components)
        gather_groups(scratch.rows, LANES, scratch.every, 0, groups, scratch.inputs)
        for c in range(classes):
            begin, end = bank.tiles_at[c], bank.tiles_at[c + 1]
            _compare(samples, scratch, groups, bank, begin, end - begin, c)
        _write(scratch.best, classes, job.out, first, samples)
