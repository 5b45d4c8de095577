"""Sums of weight rows for one sample, where 64 outputs lie across the vector lanes."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastuq.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    WORDS,
    all_lanes,
    call,
    fma,
    interleave,
    load,
    offset,
    portable_dot,
    splat,
    store,
    vnni_dot,
)


def _row_sums(dot):
    """Make the intrinsic that adds up listed rows of weights for one sample.

    Its arguments are addresses: rows[D][64] (uint8: the weights plus 128, columns in the order of `ir.quad_of_byte`),
    units (int32) and values (int8) in fours, their number of fours, start[64], out[64] (int32). It stores
    start + sum_i values[i] * rows[units[i]], which is too much by 128 times the sum of the values.
    """

    @intrinsic
    def row_sums(typingctx, rows, units, values, quads, start, out):
        def codegen(context, builder, signature, args):
            rows, units, values, quads, start, out = args
            slots = [
                cgutils.alloca_once_value(builder, load(builder, start, WORDS, 64 * number)) for number in range(4)
            ]
            with cgutils.for_range(builder, quads, intp=I64) as loop:
                units_at = builder.add(units, builder.mul(loop.index, offset(16)))
                vectors = []
                for i in range(4):
                    unit = builder.zext(load(builder, units_at, I32, 4 * i), I64)
                    vectors.append(load(builder, builder.add(rows, builder.mul(unit, offset(64))), BYTES))
                value = splat(builder, load(builder, values, I32, builder.mul(loop.index, offset(4))))
                for slot, vector in zip(slots, interleave(builder, *vectors), strict=True):
                    builder.store(dot(builder, builder.load(slot), builder.bitcast(vector, WORDS), value), slot)
            for number, slot in enumerate(slots):
                store(builder, builder.load(slot), out, 64 * number)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return row_sums


def _dense_sums(dot):
    """Make the intrinsic that runs 64 outputs of a dense block for one sample.

    Its arguments are addresses: codes[4 quads] (uint8), weights[quads][64][4] (int8), quads (a number), out[64]
    (int32).
    """

    @intrinsic
    def dense_sums(typingctx, codes, weights, quads, out):
        def codegen(context, builder, signature, args):
            codes, weights, quads, out = args
            slots = [cgutils.alloca_once_value(builder, all_lanes(0, WORDS)) for _ in range(4)]
            with cgutils.for_range(builder, quads, intp=I64) as loop:
                code = splat(builder, load(builder, codes, I32, builder.mul(loop.index, offset(4))))
                weights_at = builder.add(weights, builder.mul(loop.index, offset(256)))
                for number, slot in enumerate(slots):
                    weight = load(builder, weights_at, WORDS, 64 * number)
                    builder.store(dot(builder, builder.load(slot), code, weight), slot)
            for number, slot in enumerate(slots):
                store(builder, builder.load(slot), out, 64 * number)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return dense_sums


vnni_row_sums, portable_row_sums = _row_sums(vnni_dot), _row_sums(portable_dot)
vnni_dense_sums, portable_dense_sums = _dense_sums(vnni_dot), _dense_sums(portable_dot)


@intrinsic
def real_of_sums(typingctx, sums, excess, offsets, scale, bias, vectors, z):
    """Store z = float(sums - excess - offsets) * scale + bias, addresses of 16 `vectors` int32 or float32 numbers.

    `excess` is a number.
    """

    def codegen(context, builder, signature, args):
        sums, excess, offsets, scale, bias, vectors, z = args
        excess = splat(builder, builder.trunc(excess, I32))
        with cgutils.for_range(builder, vectors, intp=I64) as loop:
            at = builder.mul(loop.index, offset(64))
            total = builder.sub(builder.sub(load(builder, sums, WORDS, at), excess), load(builder, offsets, WORDS, at))
            product = builder.fmul(builder.sitofp(total, FLOATS), load(builder, scale, FLOATS, at))
            store(builder, builder.fadd(product, load(builder, bias, FLOATS, at)), z, at)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def _sum_of_bytes(dot):
    """Make the intrinsic that returns the sum of 64 `vectors` int8 numbers at an address."""

    @intrinsic
    def sum_of_bytes(typingctx, values, vectors):
        def codegen(context, builder, signature, args):
            values, vectors = args
            slot = cgutils.alloca_once_value(builder, all_lanes(0, WORDS))
            ones = builder.bitcast(all_lanes(1, BYTES), WORDS)
            with cgutils.for_range(builder, vectors, intp=I64) as loop:
                part = load(builder, values, WORDS, builder.mul(loop.index, offset(64)))
                builder.store(dot(builder, builder.load(slot), ones, part), slot)
            total = call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(slot))
            return builder.sext(total, I64)

        return types.int64(types.int64, types.int64), codegen

    return sum_of_bytes


vnni_sum_of_bytes, portable_sum_of_bytes = _sum_of_bytes(vnni_dot), _sum_of_bytes(portable_dot)


@intrinsic
def mask_codes(typingctx, codes, words, count, code):
    """Set to `code` those of codes[64 count] (uint8, at an address) whose bit in words[count] (uint64) is clear."""

    def codegen(context, builder, signature, args):
        codes, words, count, code = args
        other = splat(builder, builder.trunc(code, I8), 64)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            bits = load(builder, words, I64, builder.mul(loop.index, offset(8)))
            at = builder.add(codes, builder.mul(loop.index, offset(64)))
            keep = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 64))
            store(builder, builder.select(keep, load(builder, at, BYTES), other), at)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def float_row_sums(typingctx, rows, units, values, count, out):
    """Add to out[64] the products of values[i] and rows[units[i]][64], i below count in that order, all float32."""

    def codegen(context, builder, signature, args):
        rows, units, values, count, out = args
        slots = [cgutils.alloca_once_value(builder, load(builder, out, FLOATS, 64 * number)) for number in range(4)]
        with cgutils.for_range(builder, count, intp=I64) as loop:
            at = builder.mul(loop.index, offset(4))
            unit = builder.zext(load(builder, units, I32, at), I64)
            row = builder.add(rows, builder.mul(unit, offset(256)))
            value = splat(builder, load(builder, values, F32, at))
            for number, slot in enumerate(slots):
                weight = load(builder, row, FLOATS, 64 * number)
                builder.store(fma(builder, weight, value, builder.load(slot)), slot)
        for number, slot in enumerate(slots):
            store(builder, builder.load(slot), out, 64 * number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen
