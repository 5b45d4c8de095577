"""Sums of weight rows for one sample, where 64 outputs lie across the vector lanes."""

from llvmlite import ir
from numba.core import cgutils, types

from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import (
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
    plus,
    portable_dot,
    splat,
    store,
    vnni_dot,
)


@in_ir()
def fill_up(builder, scratch, count):
    """Put zeros behind the `count` units and values that are listed: three of the first, 64 of the second."""
    units, values = plus(builder, scratch.units, count, 4), builder.add(scratch.values, count)
    for number in range(3):
        store(builder, I32(0), units, 4 * number)
    store(builder, all_lanes(0, BYTES), values)


@in_ir()
def row_sums(builder, vnni, rows, rows_at, scratch, quads, totals, at):
    """Add up listed rows of weights for one sample: totals = base + sum_i values[i] rows[units[i]].

    rows[D][64] (uint8, from byte `rows_at`: the weights plus 128, columns in the order of `ir.quad_of_byte`); `scratch`
    (of `per_sample_int8`) has units (int32) and values (int8), `quads` fours of them; base[at:] and totals[at:] are 64
    int32 each. The result is too much by 128 times the sum of the values.
    """
    dot = portable_dot if vnni is None else vnni_dot
    rows, base, out = builder.add(rows, rows_at), plus(builder, scratch.base, at, 4), plus(builder, totals, at, 4)
    slots = [cgutils.alloca_once_value(builder, load(builder, base, WORDS, 64 * number)) for number in range(4)]
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        listed = plus(builder, scratch.units, loop.index, 16)
        vectors = []
        for i in range(4):
            unit = builder.zext(load(builder, listed, I32, 4 * i), I64)
            vectors.append(load(builder, plus(builder, rows, unit, 64), BYTES))
        value = splat(builder, load(builder, plus(builder, scratch.values, loop.index, 4), I32))
        for slot, vector in zip(slots, interleave(builder, *vectors), strict=True):
            builder.store(dot(builder, builder.load(slot), builder.bitcast(vector, WORDS), value), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), out, 64 * number)


@in_ir()
def dense_sums(builder, vnni, codes, weights, weights_at, quads, out, at):
    """Run 64 outputs of a dense block for one sample.

    codes[4 quads] (uint8), weights[quads][64][4] (int8, from byte `weights_at`), out[at:] 64 int32.
    """
    dot = portable_dot if vnni is None else vnni_dot
    weights, out = builder.add(weights, weights_at), plus(builder, out, at, 4)
    slots = [cgutils.alloca_once_value(builder, all_lanes(0, WORDS)) for _ in range(4)]
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        code = splat(builder, load(builder, plus(builder, codes, loop.index, 4), I32))
        quad = plus(builder, weights, loop.index, 256)
        for number, slot in enumerate(slots):
            weight = load(builder, quad, WORDS, 64 * number)
            builder.store(dot(builder, builder.load(slot), code, weight), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), out, 64 * number)


@in_ir()
def real_of_sums(builder, scratch, excess, offsets, offsets_at, plan, at, vectors):
    """Store z = float(totals - excess - offsets) * scale + bias for 16 `vectors` numbers.

    `scratch` has totals int32 and z float32, offsets[offsets_at:] is int32, `plan` has scale[at:] and bias[at:]
    (float32); `excess` is a number.
    """
    excess = splat(builder, builder.trunc(excess, I32))
    offsets = plus(builder, offsets, offsets_at, 4)
    scale, bias = plus(builder, plan.scale, at, 4), plus(builder, plan.bias, at, 4)
    with cgutils.for_range(builder, vectors, intp=I64) as loop:
        sums_here, offsets_here, m, b, out = (
            plus(builder, array, loop.index, 64) for array in (scratch.totals, offsets, scale, bias, scratch.z)
        )
        total = builder.sub(builder.sub(load(builder, sums_here, WORDS), excess), load(builder, offsets_here, WORDS))
        product = builder.fmul(builder.sitofp(total, FLOATS), load(builder, m, FLOATS))
        store(builder, builder.fadd(product, load(builder, b, FLOATS)), out)


@in_ir(types.int64)
def sum_of_bytes(builder, vnni, values, vectors):
    """Return the sum of 64 `vectors` int8 numbers."""
    dot = portable_dot if vnni is None else vnni_dot
    slot = cgutils.alloca_once_value(builder, all_lanes(0, WORDS))
    ones = builder.bitcast(all_lanes(1, BYTES), WORDS)
    with cgutils.for_range(builder, vectors, intp=I64) as loop:
        part = load(builder, plus(builder, values, loop.index, 64), WORDS)
        builder.store(dot(builder, builder.load(slot), ones, part), slot)
    return builder.sext(call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(slot)), I64)


@in_ir()
def mask_codes(builder, codes, words, count, code):
    """Set to `code` those of codes[64 count] (uint8) whose bit in words[count] (uint64) is clear."""
    other = splat(builder, builder.trunc(code, I8), 64)
    with cgutils.for_range(builder, count, intp=I64) as loop:
        keep = builder.bitcast(
            load(builder, plus(builder, words, loop.index, 8), I64), ir.VectorType(ir.IntType(1), 64)
        )
        at = plus(builder, codes, loop.index, 64)
        store(builder, builder.select(keep, load(builder, at, BYTES), other), at)


@in_ir()
def float_row_sums(builder, rows, rows_at, units, values, listed_at, count, out, out_at):
    """Add to 64 of out[out_at:] the products of values and rows, in the order of the list, all float32.

    The list is `count` of units[listed_at:] (int32) and of values[listed_at:]; rows[][64] begin at rows[rows_at].
    """
    rows, out = plus(builder, rows, rows_at, 4), plus(builder, out, out_at, 4)
    units, values = plus(builder, units, listed_at, 4), plus(builder, values, listed_at, 4)
    slots = [cgutils.alloca_once_value(builder, load(builder, out, FLOATS, 64 * number)) for number in range(4)]
    with cgutils.for_range(builder, count, intp=I64) as loop:
        unit = builder.zext(load(builder, plus(builder, units, loop.index, 4), I32), I64)
        row = plus(builder, rows, unit, 256)
        value = splat(builder, load(builder, plus(builder, values, loop.index, 4), F32))
        for number, slot in enumerate(slots):
            weight = load(builder, row, FLOATS, 64 * number)
            builder.store(fma(builder, weight, value, builder.load(slot)), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), out, 64 * number)
