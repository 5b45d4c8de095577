"""Thinned heads packed for the shared-mask kernels: only the weights that an iteration reads, in the order it does."""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I8, I32, I64, WORDS, all_lanes, call, compress, load, offset, plus, store
from fastuq.montecarlo.kernels.plan import Plan
from fastuq.montecarlo.kernels.selection import output_count, output_unit
from fastuq.montecarlo.kernels.tiles import TILE

_ROW = ir.VectorType(I8, 16)


def _join(builder, rows, negate, at):
    """Return 16 words, the bytes of four rows at `at`, and their sums; both negated where `negate` is set."""
    word, total = all_lanes(0, WORDS), all_lanes(0, WORDS)
    for i, row in enumerate(rows):
        weights = load(builder, row, _ROW, at)
        weights = builder.select(negate, builder.neg(weights), weights)
        total = builder.add(total, builder.sext(weights, WORDS))
        word = builder.or_(word, builder.shl(builder.zext(weights, WORDS), all_lanes(8 * i, WORDS)))
    return word, total


def _store_tiles(builder, line, tiles, stride, out):
    """Cut a line of words into tiles of 6, `stride` bytes apart."""
    eight = ir.VectorType(I32, 8)
    within = ir.Constant(ir.VectorType(ir.IntType(1), 8), [i < TILE for i in range(8)])
    with cgutils.for_range(builder, tiles, intp=I64) as loop:
        words = load(builder, builder.add(line, builder.mul(loop.index, offset(4 * TILE))), eight)
        at = builder.add(out, builder.mul(loop.index, stride))
        pointer = builder.inttoptr(at, eight.as_pointer())
        call(builder, "llvm.masked.store.v8i32.p0", ir.VoidType(), words, pointer, I32(4), within)


@in_ir()
def _pack_quad(builder, weights, negate, scratch, vectors, tiles, stride, out, out_at):
    """Pack the weights of one quad of inputs to the kept outputs as words[tile][6], tiles `stride` bytes apart.

    `scratch` has rows[4], the bytes of `weights` where the four inputs' begin; `kept`, the bits of the outputs, 16 to a
    vector; `totals`, which gets the sum of the quad's weights to each output added. Words go to `out`, from byte
    `out_at` on.
    """
    totals, line, kept, _, rows = scratch
    starts = [builder.add(weights, load(builder, rows, I64, 8 * i)) for i in range(4)]
    count = cgutils.alloca_once_value(builder, offset(0))
    with cgutils.for_range(builder, vectors, intp=I64) as loop:
        word, total = _join(builder, starts, negate, plus(builder, offset(0), loop.index, 16))
        at = plus(builder, totals, loop.index, 64)
        store(builder, builder.add(load(builder, at, WORDS), total), at)
        bits = load(builder, plus(builder, kept, loop.index, 2), ir.IntType(16))
        place = builder.load(count)
        store(builder, compress(builder, word, bits), plus(builder, line, place, 4))
        builder.store(builder.add(place, builder.zext(builder.ctpop(bits), I64)), count)
    _store_tiles(builder, line, tiles, stride, builder.add(out, out_at))


class PackScratch(NamedTuple):
    """What packing needs.

    Attributes
    ----------
    totals, line : int32, as many as the widest layer has units and 64
    kept : uint64, bits of as many
    chosen : int64, as many
    rows : int64 (4,)
    """

    totals: np.ndarray
    line: np.ndarray
    kept: np.ndarray
    chosen: np.ndarray
    rows: np.ndarray


def pack_scratch(plan: Plan) -> PackScratch:
    """Make the scratch memory of `pack_int8` and `pack_float32`."""
    widest = int(plan.widths.max()) + 64
    return PackScratch(
        memory.empty(widest, np.int32),
        memory.empty(widest, np.int32),
        memory.empty(widest // 64 + 1, np.uint64),
        memory.empty(widest, np.int64),
        memory.empty(4, np.int64),
    )


@kernel
def pack_int8(plan, selection, layout, start, stop, vectors, scratch):
    """Pack the thinned int8 head of iterations start to stop.

    `selection` is units and counts, `layout` weights_at and vectors_at, `vectors` what is filled: packed weights,
    correction, scale, bias. Block l of iteration t begins at byte ``weights_at[t, l]`` of the weights as
    [tile][quad of inputs][6 outputs][4 inputs], negated where the block is complemented. Its outputs' offset
    corrections (int32), scales and biases, filled up with zeros to whole tiles, begin at ``vectors_at[t, l]``.
    """
    units, counts = selection
    weights_at, vectors_at = layout
    packed, correction, scale, bias = vectors
    chosen, totals = scratch.chosen, scratch.totals
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            out_count = output_count(plan, counts, t, block)
            _choose(plan, units, t, block, out_count, chosen)
            complemented = block == 0 and plan.complement == 1
            _pack_block(plan, units, counts, t, block, complemented, out_count, packed, weights_at[t, block], scratch)
            at, first = vectors_at[t, block], plan.output_at[block]
            for number in range((out_count + TILE - 1) // TILE * TILE):
                if number < out_count:
                    unit = chosen[number]
                    total = totals[unit] + plan.column_sums[unit] if complemented else totals[unit]
                    correction[at + number] = -plan.zero_points[block] * total
                    scale[at + number], bias[at + number] = plan.scale[first + unit], plan.bias[first + unit]
                else:
                    correction[at + number], scale[at + number], bias[at + number] = 0, 0, 0


@kernel
def _choose(plan, units, t, block, out_count, chosen):
    """List the outputs that are computed; what fills up the last tile is the number of outputs, past them all."""
    for number in range(out_count):
        chosen[number] = output_unit(plan, units, t, block, number)
    for number in range(out_count, out_count + TILE):
        chosen[number] = plan.widths[block + 1]


@kernel
def _pack_block(plan, units, counts, t, block, complemented, out_count, packed, packed_at, scratch):
    """Pack one block from byte `packed_at` on; `totals` gets the sum of the listed inputs' weights to every output."""
    totals, line, kept, chosen, rows = scratch
    outputs, count = plan.widths[block + 1], np.int64(counts[t, block])
    vectors, tiles, quads = (outputs + 15) // 16, (out_count + TILE - 1) // TILE, (count + 3) // 4
    for number in range(len(kept)):
        kept[number] = np.uint64(0)
    for number in range(out_count):
        kept[chosen[number] >> 6] |= np.uint64(1) << np.uint64(chosen[number] & 63)
    for number in range(len(totals)):
        line[number] = 0  # what fills up the last tile
        totals[number] = 0
    nothing = len(plan.weights) - plan.widths.max() - 64  # a row of zeros
    for quad in range(quads):
        for i in range(4):
            place = t * plan.room + plan.unit_at[block] + 4 * quad + i
            listed = 4 * quad + i < count
            rows[i] = plan.weight_at[block] + units[place] * outputs if listed else nothing
        _pack_quad(
            plan.weights, complemented, scratch, vectors, tiles, quads * 4 * TILE, packed, packed_at + quad * 4 * TILE,
        )  # fmt: skip


@kernel
def pack_float32(plan, selection, weights_at, start, stop, packed, scratch):
    """Pack the thinned float32 head of iterations start to stop.

    Block l of iteration t begins at ``weights_at[t, l]`` as [tile][input][6 outputs], negated where the block is
    complemented.
    """
    units, counts = selection
    chosen = scratch.chosen
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            sign = np.float32(-1 if block == 0 and plan.complement == 1 else 1)
            outputs, count = plan.widths[block + 1], np.int64(counts[t, block])
            out_count = output_count(plan, counts, t, block)
            _choose(plan, units, t, block, out_count, chosen)
            for i in range(count):
                row = plan.weight_at[block] + units[t * plan.room + plan.unit_at[block] + i] * outputs
                for first in range(0, out_count, TILE):
                    place = weights_at[t, block] + first * count + i * TILE
                    for number in range(TILE):
                        unit = chosen[first + number]
                        packed[place + number] = sign * plan.weights[row + unit] if unit < outputs else np.float32(0)
