"""Tiles of the shared-mask kernels, where 64 samples lie across the vector lanes.

Codes are feature-major: one row of 64 bytes per input, in the order of the samples. Interleaving four rows turns the
lanes: sums and pre-activations hold sample s in lane ``ir.quad_of_byte(s)``, and joining them to codes turns back.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastuq.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
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
    portable_join,
    prefetch,
    splat,
    store,
    vnni_dot,
    vnni_join,
)

LANES = 64
"""Samples that a tile holds: four vectors of 16."""
TILE = 6
"""Output units that a tile holds: 6 x 4 accumulators and 4 inputs fit in 32 registers."""
_AHEAD = 4096
"""Bytes ahead of a tile's weights that are fetched from the far caches: they are read once per 64 samples."""
SUMS, REAL, RELU, LINEAR = 0, 1, 2, 3
"""What an int8 tile stores; see `_int8_tile`."""


def _sum_tile(builder, dot, data, weights, quads, starts, correction):
    """Return 6 x 4 vectors: starting rows plus correction plus data[quads][64][4] x weights[quads][6][4]."""
    slots = []
    for row in range(TILE):
        start = load(builder, starts, I64, 8 * row)
        add = splat(builder, load(builder, correction, I32, 4 * row))
        for vector in range(4):
            slot = cgutils.alloca_once(builder, WORDS)
            builder.store(builder.add(load(builder, start, WORDS, 64 * vector), add), slot)
            slots.append(slot)
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        data_at = builder.add(data, builder.mul(loop.index, offset(256)))
        weights_at = builder.add(weights, builder.mul(loop.index, offset(4 * TILE)))
        codes = [load(builder, data_at, WORDS, 64 * vector) for vector in range(4)]
        prefetch(builder, weights_at, _AHEAD)
        for row in range(TILE):
            weight = splat(builder, load(builder, weights_at, I32, 4 * row))
            for vector in range(4):
                slot = slots[row * 4 + vector]
                builder.store(dot(builder, builder.load(slot), codes[vector], weight), slot)
    return [builder.load(slot) for slot in slots]


def _vnni_round(builder, x):
    """Round to int32, ties to even; numbers out of range become the smallest one."""
    nearest, every = ir.Constant(I32, 4), ir.Constant(ir.IntType(16), -1)
    return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", WORDS, x, all_lanes(0, WORDS), every, nearest)


def _portable_round(builder, x):
    """Round to int32, ties to even; numbers below -2^21 become -2^21."""
    low = all_lanes(-2097152.0)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    # 1.5 * 2^23 leaves the whole number in the low bits.
    shifted = builder.bitcast(builder.fadd(x, all_lanes(12582912.0)), WORDS)
    return builder.sub(shifted, all_lanes(0x4B400000, WORDS))


def _codes_of(builder, vnni, z, mode):
    """Return the codes of a row, four vectors of pre-activations, as 64 bytes."""
    top, zero = (255.0, 0) if mode == RELU else (127.0, 128)
    words = []
    for x in z:
        x = builder.select(builder.fcmp_ordered("<", x, all_lanes(top)), x, all_lanes(top))
        rounded = _vnni_round(builder, x) if vnni else _portable_round(builder, x)
        words.append(builder.add(rounded, all_lanes(zero, WORDS)))
    return vnni_join(builder, words) if vnni else portable_join(builder, words)


def _store_tile(builder, vnni, sums, mode, scale, bias, out):
    for row in range(TILE):
        totals = sums[4 * row : 4 * row + 4]
        if mode == SUMS:
            z = totals
        else:
            m, b = (splat(builder, load(builder, address, F32, 4 * row)) for address in (scale, bias))
            z = [builder.fadd(builder.fmul(builder.sitofp(total, FLOATS), m), b) for total in totals]
        if mode in (RELU, LINEAR):
            store(builder, _codes_of(builder, vnni, z, mode), out, 64 * row)
        else:
            for vector in range(4):
                store(builder, z[vector], out, 256 * row + 64 * vector)


def _int8_tile(vnni, mode):
    """Make the intrinsic that runs one tile of 6 outputs x 64 samples.

    Its arguments are addresses: data[quads][64][4] uint8, weights[quads][6][4] int8, quads (a number), starts (six
    addresses of 64 int32 each), correction[6] int32, scale[6], bias[6] float32, out. With
    sum = start + correction + data x weights and z = float(sum) * scale + bias, `mode` says what is stored: SUMS the
    sum as int32 [6][64]; REAL z as float32 [6][64]; RELU clip(rint(z), 0, 255) as uint8 [6][64]; LINEAR
    clip(rint(z), -128, 127) + 128 as uint8 [6][64].
    """

    @intrinsic
    def tile(typingctx, data, weights, quads, starts, correction, scale, bias, out):
        def codegen(context, builder, signature, args):
            data, weights, quads, starts, correction, scale, bias, out = args
            dot = vnni_dot if vnni else portable_dot
            sums = _sum_tile(builder, dot, data, weights, quads, starts, correction)
            _store_tile(builder, vnni, sums, mode, scale, bias, out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


vnni_sums_tile, vnni_real_tile, vnni_relu_tile, vnni_linear_tile = (
    _int8_tile(True, mode) for mode in (SUMS, REAL, RELU, LINEAR)
)
portable_sums_tile, portable_real_tile, portable_relu_tile, portable_linear_tile = (
    _int8_tile(False, mode) for mode in (SUMS, REAL, RELU, LINEAR)
)


@intrinsic
def gather_quads(typingctx, rows, units, stride, quads, out):
    """Interleave 64 bytes of the listed rows by fours into out[quads][64][4]; see `ir.quad_of_byte`.

    Row u begins at byte u * stride of `rows`.
    """

    def codegen(context, builder, signature, args):
        data, units, stride, quads, out = args
        with cgutils.for_range(builder, quads, intp=I64) as loop:
            units_at = builder.add(units, builder.mul(loop.index, offset(16)))
            vectors = []
            for i in range(4):
                unit = builder.zext(load(builder, units_at, I32, 4 * i), I64)
                vectors.append(load(builder, builder.add(data, builder.mul(unit, stride)), BYTES))
            out_at = builder.add(out, builder.mul(loop.index, offset(256)))
            for number, vector in enumerate(interleave(builder, *vectors)):
                store(builder, vector, out_at, 64 * number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def _float_tile_ir(builder, data, rows, weights, out, count):
    totals = []
    for row in range(TILE):
        for vector in range(4):
            slot = cgutils.alloca_once(builder, FLOATS)
            builder.store(load(builder, out, FLOATS, (row * 4 + vector) * 64), slot)
            totals.append(slot)
    with cgutils.for_range(builder, count, intp=I64) as loop:
        row_number = builder.zext(load(builder, rows, I32, builder.mul(loop.index, offset(4))), I64)
        data_at = builder.add(data, builder.mul(row_number, offset(256)))
        weights_at = builder.add(weights, builder.mul(loop.index, offset(4 * TILE)))
        values = [load(builder, data_at, FLOATS, 64 * vector) for vector in range(4)]
        for row in range(TILE):
            weight = splat(builder, load(builder, weights_at, F32, 4 * row))
            for vector in range(4):
                slot = totals[row * 4 + vector]
                builder.store(fma(builder, values[vector], weight, builder.load(slot)), slot)
    for number, slot in enumerate(totals):
        store(builder, builder.load(slot), out, number * 64)


@intrinsic
def float_tile(typingctx, data, rows, weights, out, count):
    """Add to out[6][64] (float32) the products of data[rows[i]][64] and weights[i][6], i below count."""

    def codegen(context, builder, signature, args):
        _float_tile_ir(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen
