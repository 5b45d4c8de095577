"""Thinned heads packed for the shared-mask kernels: only the weights that an iteration reads, in the order it does."""

import numpy as np
from llvmlite import ir
from numba.core import types

from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import F32, I8, I32, I64, WORDS, all_lanes, counting, load, plus, store
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.selection import output_count
from fastuq.montecarlo.kernels.targets import current_target

_ROW = ir.VectorType(I8, 16)


@outlined
def _pack_groups(builder, weights, outputs, listed, count, nothing, negate, scratch, tiles, packed):
    """Pack the rows of `weights` (address) of listed inputs, group by group; see `Packed`."""
    totals, line, chosen = scratch
    size = current_target().dot.group
    groups = builder.sdiv(builder.add(count, I64(size - 1)), I64(size))
    vectors = builder.sdiv(builder.add(outputs, I64(15)), I64(16))
    with counting(builder, groups) as group:
        rows = []
        for i in range(size):
            place = builder.add(builder.mul(group, I64(size)), I64(i))
            unit = builder.zext(load(builder, plus(builder, listed, place, 4), I32), I64)
            at = builder.select(builder.icmp_signed("<", place, count), builder.mul(unit, outputs), nothing)
            rows.append(builder.add(weights, at))
        with counting(builder, vectors) as vector:
            word, total = _join(builder, [plus(builder, row, vector, 16) for row in rows], negate)
            at = plus(builder, totals, vector, 64)
            store(builder, builder.add(load(builder, at, WORDS), total), at)
            store(builder, word, plus(builder, line, vector, 64))
        with counting(builder, tiles) as tile:
            first = plus(builder, chosen, tile, 4 * TILE)
            place = builder.add(builder.mul(tile, groups), group)
            for number in range(TILE):
                unit = builder.zext(load(builder, first, I32, 4 * number), I64)
                word = load(builder, plus(builder, line, unit, 4), I32)
                store(builder, word, plus(builder, packed, place, 4 * TILE), 4 * number)


def _join(builder, rows, negate):
    """Return 16 words, the weights of a group of rows, and their sums; both negated where `negate` is set."""
    word, total, width = all_lanes(0, WORDS), all_lanes(0, WORDS), 32 // len(rows)
    for i, row in enumerate(rows):
        weights = builder.sext(load(builder, row, _ROW), WORDS)
        weights = builder.select(negate, builder.neg(weights), weights)
        total = builder.add(total, weights)
        part = builder.and_(weights, all_lanes((1 << width) - 1, WORDS))
        word = builder.or_(word, builder.shl(part, all_lanes(width * i, WORDS)))
    return word, total


@in_ir()
def _pack_int8(builder, plan, weight_at, nothing, outputs, units, units_at, count, negate, scratch, tiles, packed, at):
    _pack_groups(
        builder, builder.add(plan.weights, weight_at), outputs, plus(builder, units, units_at, 4), count,
        builder.sub(nothing, weight_at), negate, scratch, tiles, builder.add(packed, at),
    )  # fmt: skip


@in_ir()
def _pack_float32(builder, plan, weight_at, outputs, units, units_at, count, factor, scratch, tiles, packed, at):
    weights, listed = plus(builder, plan.weights, weight_at, 4), plus(builder, units, units_at, 4)
    packed = builder.add(packed, at)
    with counting(builder, count) as i:
        unit = builder.zext(load(builder, plus(builder, listed, i, 4), I32), I64)
        row = plus(builder, weights, builder.mul(unit, outputs), 4)
        with counting(builder, tiles) as tile:
            place = plus(builder, packed, builder.add(builder.mul(tile, count), i), 4 * TILE)
            for number in range(TILE):
                chosen = load(builder, plus(builder, scratch.chosen, tile, 4 * TILE), I32, 4 * number)
                chosen = builder.zext(chosen, I64)
                there = builder.icmp_signed("<", chosen, outputs)
                weight = load(builder, plus(builder, row, builder.select(there, chosen, I64(0)), 4), F32)
                value = builder.select(there, builder.fmul(weight, factor), F32(0.0))
                store(builder, value, place, 4 * number)


@in_ir()
def _choose(builder, units, units_at, is_last, count, padding, chosen):
    """List the outputs of a block that are computed, in the last one all, then `padding` to whole tiles."""
    units = plus(builder, units, units_at, 4)
    with counting(builder, count) as number:
        kept = load(builder, plus(builder, units, builder.select(is_last, I64(0), number), 4), I32)
        unit = builder.select(is_last, builder.trunc(number, I32), kept)
        store(builder, unit, plus(builder, chosen, number, 4))
    for number in range(TILE):
        store(builder, builder.trunc(padding, I32), plus(builder, chosen, builder.add(count, I64(number)), 4))


@kernel
def _pack_vectors(job, t, block, out_count, rounded):
    """Pack what a block's outputs have besides weights; float32 heads (not `rounded`) have no correction, no scale."""
    plan, packed, chosen = job.plan, job.packed, job.scratch.chosen
    at, first = packed.vectors_at[t, block], plan.output_at[block]
    complemented = block == 0 and (plan.complement == 1 or t == job.whole)
    scales = plan.plain_scale if t == job.whole else plan.scale
    for number in range((out_count + TILE - 1) // TILE * TILE):
        unit, there = chosen[number], number < out_count
        packed.start[at + number] = unit if there and complemented else plan.widths[1]
        packed.bias[at + number] = plan.bias[first + unit] if there else np.float32(0)
        packed.unit_scale[at + number] = plan.unit_scale[first + unit] if there else np.float32(0)
        packed.unit_shift[at + number] = plan.unit_shift[first + unit] if there else np.float32(0)
        if rounded:
            total = np.int64(job.scratch.totals[unit]) if there else 0
            packed.correction[at + number] = -total * (plan.zero_points[block] - _offset())
            packed.scale[at + number] = scales[first + unit] if there else np.float32(0)


@in_ir(types.int64)
def _offset(builder):
    """Return what codes are less of when they go into the dot product."""
    return I64(128 if current_target().dot.signed else 0)


@kernel
def pack_int8(frame):
    """Pack the thinned int8 head of iterations start to stop; see `Packed`."""
    job = record_of(frame)
    plan, packed, (units, counts), scratch = job.plan, job.packed, job.selection, job.scratch
    blocks = len(plan.activations)
    for t in range(job.start, job.stop):
        for block in range(blocks):
            out_count, is_last = output_count(plan.widths[-1], blocks, counts, t, block), block == blocks - 1
            following = t * plan.room + plan.unit_at[min(block + 1, blocks - 1)]
            _choose(units, following, is_last, out_count, len(scratch.line) - 1, scratch.chosen)
            for number in range(len(scratch.totals)):
                scratch.totals[number] = 0
            scratch.line[len(scratch.line) - 1] = 0
            _pack_int8(
                plan, plan.weight_at[block], plan.nothing, plan.widths[block + 1], units,
                t * plan.room + plan.unit_at[block], np.int64(counts[t, block]), block == 0 and plan.complement == 1,
                scratch, (out_count + TILE - 1) // TILE, packed.weights, packed.weights_at[t, block],
            )  # fmt: skip
            _pack_vectors(job, t, block, out_count, True)


@kernel
def pack_float32(frame):
    """Pack the thinned float32 head of iterations start to stop; see `Packed`."""
    job = record_of(frame)
    plan, packed, (units, counts), scratch = job.plan, job.packed, job.selection, job.scratch
    blocks = len(plan.activations)
    for t in range(job.start, job.stop):
        for block in range(blocks):
            out_count, is_last = output_count(plan.widths[-1], blocks, counts, t, block), block == blocks - 1
            following = t * plan.room + plan.unit_at[min(block + 1, blocks - 1)]
            _choose(units, following, is_last, out_count, plan.widths[block + 1], scratch.chosen)
            factor = np.float32(-1) if block == 0 and plan.complement == 1 else np.float32(1)
            _pack_float32(
                plan, plan.weight_at[block], plan.widths[block + 1], units, t * plan.room + plan.unit_at[block],
                np.int64(counts[t, block]), factor, scratch, (out_count + TILE - 1) // TILE, packed.weights,
                packed.weights_at[t, block],
            )  # fmt: skip
            _pack_vectors(job, t, block, out_count, False)
