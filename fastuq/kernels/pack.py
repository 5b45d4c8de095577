"""Thinned heads packed for the shared-mask kernels: only the weights that an iteration reads, in the order it does."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.ir import I8, I32, I64, WORDS, all_lanes, call, compress, load, offset, store
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.tiles import TILE

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


@intrinsic
def _pack_quad(typingctx, rows, negate, kept, vectors, totals, line, tiles, stride, out):
    """Pack the weights of one quad of inputs to the kept outputs as words[tile][6], tiles `stride` bytes apart.

    Addresses: rows (those of the four inputs' weights), kept (bits of the outputs, 16 to a vector), totals (int32,
    gets the sum of the quad's weights to each output added), line (scratch). The others are numbers.
    """

    def codegen(context, builder, signature, args):
        rows, negate, kept, vectors, totals, line, tiles, stride, out = args
        starts = [load(builder, rows, I64, 8 * i) for i in range(4)]
        count = cgutils.alloca_once_value(builder, offset(0))
        with cgutils.for_range(builder, vectors, intp=I64) as loop:
            word, total = _join(builder, starts, negate, builder.mul(loop.index, offset(16)))
            at = builder.add(totals, builder.mul(loop.index, offset(64)))
            store(builder, builder.add(load(builder, at, WORDS), total), at)
            bits = load(builder, builder.add(kept, builder.mul(loop.index, offset(2))), ir.IntType(16))
            place = builder.load(count)
            store(builder, compress(builder, word, bits), builder.add(line, builder.mul(place, offset(4))))
            builder.store(builder.add(place, builder.zext(builder.ctpop(bits), I64)), count)
        _store_tiles(builder, line, tiles, stride, out)
        return context.get_dummy_value()

    return types.void(types.int64, types.boolean, *[types.int64] * 7), codegen


@kernel
def pack_int8(plan, units, counts, weights_at, vectors_at, start, stop, packed, correction, scale, bias):
    """Pack the thinned int8 head of iterations start to stop.

    Block l of iteration t begins at byte ``weights_at[t, l]`` as [tile][quad of inputs][6 outputs][4 inputs], negated
    where the block is complemented. Its outputs' offset corrections (int32), scales and biases, filled up with zeros
    to whole tiles, begin at ``vectors_at[t, l]``.
    """
    widest = np.max(plan.widths) + 64
    totals, line = aligned_bytes(4 * widest).view(np.int32), aligned_bytes(4 * widest).view(np.int32)
    kept, chosen = np.empty(widest // 64 + 1, np.uint64), np.empty(widest, np.int64)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            out_count = output_count(plan, counts[t], block)
            _choose(plan, units[t], block, out_count, chosen)
            inputs = units[t, plan.unit_at[block] :]
            complemented = block == 0 and plan.complement == 1
            out = packed.ctypes.data + weights_at[t, block]
            _pack_block(plan, block, complemented, inputs, counts[t, block], chosen, out_count, kept, totals, line, out)
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
def _choose(plan, units, block, out_count, chosen):
    """List the outputs that are computed; what fills up the last tile is the number of outputs, past them all."""
    for number in range(out_count):
        chosen[number] = output_unit(plan, units, block, number)
    chosen[out_count : out_count + TILE] = plan.widths[block + 1]


@kernel
def _pack_block(plan, block, complemented, inputs, count, chosen, out_count, kept, totals, line, out):
    """Pack one block to address `out`; `totals` gets the sum of the listed inputs' weights to every output.

    `kept` and `line` are scratch.
    """
    outputs = plan.widths[block + 1]
    vectors, tiles, quads = (outputs + 15) // 16, (out_count + TILE - 1) // TILE, (np.int64(count) + 3) // 4
    kept[:] = 0
    for number in range(out_count):
        kept[chosen[number] >> 6] |= np.uint64(1) << np.uint64(chosen[number] & 63)
    line[:] = 0  # what fills up the last tile
    totals[:] = 0
    nothing = np.zeros(outputs + 64, np.int8)
    rows = np.empty(4, np.int64)
    first = plan.weights.ctypes.data + plan.weight_at[block]
    for quad in range(quads):
        for i in range(4):
            listed = 4 * quad + i < count
            rows[i] = first + inputs[4 * quad + i] * outputs if listed else nothing.ctypes.data
        _pack_quad(
            rows.ctypes.data, complemented, kept.ctypes.data, vectors, totals.ctypes.data, line.ctypes.data, tiles,
            quads * 4 * TILE, out + quad * 4 * TILE,
        )  # fmt: skip


@kernel
def pack_float32(plan, units, counts, weights_at, start, stop, packed):
    """Pack the thinned float32 head of iterations start to stop.

    Block l of iteration t begins at ``weights_at[t, l]`` as [tile][input][6 outputs], negated where the block is
    complemented.
    """
    chosen, row = np.empty(np.max(plan.widths) + TILE, np.int64), np.empty(np.max(plan.widths) + 1, np.float32)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            sign = np.float32(-1 if block == 0 and plan.complement == 1 else 1)
            inputs, outputs = units[t, plan.unit_at[block] :], plan.widths[block + 1]
            count, out_count = np.int64(counts[t, block]), output_count(plan, counts[t], block)
            weights, out = plan.weights[plan.weight_at[block] :], packed[weights_at[t, block] :]
            _choose(plan, units[t], block, out_count, chosen)
            for i in range(count):
                row[:outputs] = weights[inputs[i] * outputs : (inputs[i] + 1) * outputs]
                row[outputs] = 0
                for first in range(0, out_count, TILE):
                    place = first * count + i * TILE
                    for number in range(TILE):
                        out[place + number] = sign * row[chosen[first + number]]
