"""Tiles of the shared-mask kernels, where 64 samples lie across the vector lanes.

Codes are feature-major: one row of 64 bytes per input, in the order of the samples. Interleaving four rows turns the
lanes: sums and pre-activations hold sample s in lane ``ir.quad_of_byte(s)``, and joining them to codes turns back.
"""

from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import (
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
    plus,
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
STORE_SUMS, STORE_REAL, STORE_CODES = range(3)
"""What an int8 tile stores; see `int8_tile`."""


def _sum_tile(builder, dot, data, weights, quads, starts, correction):
    """Return 6 x 4 vectors: starting rows plus correction plus data[quads][64][4] x weights[quads][6][4]."""
    slots = []
    for row in range(TILE):
        add = splat(builder, load(builder, correction, I32, 4 * row))
        for vector in range(4):
            slot = cgutils.alloca_once(builder, WORDS)
            builder.store(builder.add(load(builder, starts[row], WORDS, 64 * vector), add), slot)
            slots.append(slot)
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        data_at, weights_at = plus(builder, data, loop.index, 256), plus(builder, weights, loop.index, 4 * TILE)
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


def _codes_of(builder, vnni, z, top, zero):
    """Return the codes of a row, four vectors of pre-activations, as 64 bytes."""
    words = []
    for x in z:
        x = builder.select(builder.fcmp_ordered("<", x, top), x, top)
        rounded = _portable_round(builder, x) if vnni is None else _vnni_round(builder, x)
        words.append(builder.add(rounded, zero))
    return portable_join(builder, words) if vnni is None else vnni_join(builder, words)


@in_ir()
def int8_tile(builder, vnni, stored, scratch, quads, vectors, weights_at, unit, rounding, z_at, codes_at):
    """Run one tile of 6 outputs x 64 samples.

    `scratch` (of `shared_int8`) has the inputs quads[quads][64][4] uint8, and starts[6] int64, the bytes of `base`
    where six rows of 64 int32 begin. `vectors` is weights[quads][6][4] int8 from byte `weights_at`; correction int32,
    scale and bias float32, the tile's own from `unit` on. With sum = start + correction + inputs x weights and
    x = float(sum) * scale + bias, `stored` says what is written: STORE_SUMS the sums as int32 [6][64] to `base`,
    STORE_REAL x as float32 [6][64] to `z`, both from byte `z_at`; STORE_CODES
    min(max(rint(min(x, top)) + zero, 0), 255) as uint8 [6][64] to `hidden` from byte `codes_at`, with
    `rounding` = (_, top, zero).
    """
    weights, *of_units = vectors
    correction, scale, bias = (plus(builder, array, unit, 4) for array in of_units)
    rows = [builder.add(scratch.base, load(builder, scratch.starts, I64, 8 * row)) for row in range(TILE)]
    dot = portable_dot if vnni is None else vnni_dot
    sums = _sum_tile(builder, dot, scratch.quads, builder.add(weights, weights_at), quads, rows, correction)
    z, base, codes = (
        builder.add(scratch.z, z_at),
        builder.add(scratch.base, z_at),
        builder.add(scratch.hidden, codes_at),
    )
    with builder.if_else(builder.icmp_signed("==", stored, offset(STORE_SUMS))) as (as_sums, otherwise):
        with as_sums:
            for number, total in enumerate(sums):
                store(builder, total, base, 64 * number)
        with otherwise:
            reals = _reals(builder, sums, scale, bias)
            with builder.if_else(builder.icmp_signed("==", stored, offset(STORE_REAL))) as (as_real, as_codes):
                with as_real:
                    for number, x in enumerate(reals):
                        store(builder, x, z, 64 * number)
                with as_codes:
                    highest, added = splat(builder, rounding[1]), splat(builder, builder.trunc(rounding[2], I32))
                    for row in range(TILE):
                        of_row = reals[4 * row : 4 * row + 4]
                        store(builder, _codes_of(builder, vnni, of_row, highest, added), codes, 64 * row)


def _reals(builder, sums, scale, bias):
    reals = []
    for row in range(TILE):
        m, b = (splat(builder, load(builder, address, F32, 4 * row)) for address in (scale, bias))
        of_row = sums[4 * row : 4 * row + 4]
        reals += [builder.fadd(builder.fmul(builder.sitofp(total, FLOATS), m), b) for total in of_row]
    return reals


@in_ir()
def gather_quads(builder, rows, rows_at, stride, units, units_at, quads, out):
    """Interleave 64 bytes of the listed rows by fours into out[quads][64][4]; see `ir.quad_of_byte`.

    Row u begins at byte ``rows_at + u * stride`` of `rows`; the list is units[units_at:] (int32).
    """
    rows, units = builder.add(rows, rows_at), plus(builder, units, units_at, 4)
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        listed = plus(builder, units, loop.index, 16)
        vectors = []
        for i in range(4):
            unit = builder.zext(load(builder, listed, I32, 4 * i), I64)
            vectors.append(load(builder, builder.add(rows, builder.mul(unit, stride)), BYTES))
        place = plus(builder, out, loop.index, 256)
        for number, vector in enumerate(interleave(builder, *vectors)):
            store(builder, vector, place, 64 * number)


@in_ir()
def float_tile(builder, data, listed, weights, weights_at, out, row, count):
    """Add to 6 rows of 64 floats the products of listed rows and weights, all float32.

    `data`, `listed` and `out` are arrays with the element where they begin: row listed[i] of data[][64] goes with
    weights[i], of [count][6] from byte `weights_at`; the sums are out[row:][6][64].
    """
    data, rows = plus(builder, data[0], data[1], 4), plus(builder, listed[0], listed[1], 4)
    out, weights = plus(builder, plus(builder, out[0], out[1], 4), row, 256), builder.add(weights, weights_at)
    totals = [cgutils.alloca_once_value(builder, load(builder, out, FLOATS, 64 * number)) for number in range(TILE * 4)]
    with cgutils.for_range(builder, count, intp=I64) as loop:
        number = builder.zext(load(builder, plus(builder, rows, loop.index, 4), I32), I64)
        data_at, weights_at = plus(builder, data, number, 256), plus(builder, weights, loop.index, 4 * TILE)
        values = [load(builder, data_at, FLOATS, 64 * vector) for vector in range(4)]
        for row in range(TILE):
            weight = splat(builder, load(builder, weights_at, F32, 4 * row))
            for vector in range(4):
                slot = totals[row * 4 + vector]
                builder.store(fma(builder, values[vector], weight, builder.load(slot)), slot)
    for number, slot in enumerate(totals):
        store(builder, builder.load(slot), out, 64 * number)
