"""Vector building blocks, written as LLVM IR: numba's own loops do not keep these tiles in registers.

Addresses are plain integers (``array.ctypes.data``) and nothing is checked: callers pad their buffers. Every load
and store is declared unaligned, so that a misaligned buffer is slow, never a crash; callers align to 64 bytes.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
WORDS, BYTES, FLOATS = ir.VectorType(I32, 16), ir.VectorType(I8, 64), ir.VectorType(F32, 16)
LANES = 64
"""Samples that a tile of the shared-mask kernels holds: four vectors of 16."""
TILE = 6
"""Output units that a tile of the shared-mask kernels holds: 6 x 4 accumulators and 4 inputs fit in 32 registers."""


def _load(builder, address, kind, offset=0):
    """Load a vector at a byte address."""
    pointer = builder.inttoptr(builder.add(address, _offset(offset)), kind.as_pointer())
    load = builder.load(pointer)
    load.align = 1
    return load


def _store(builder, value, address, offset=0):
    """Store a vector at a byte address."""
    pointer = builder.inttoptr(builder.add(address, _offset(offset)), value.type.as_pointer())
    builder.store(value, pointer).align = 1


def _offset(offset):
    return ir.Constant(I64, offset) if isinstance(offset, int) else offset


def _splat(builder, scalar, count=16):
    """Broadcast a scalar to all lanes."""
    kind = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, count), [0] * count))


def _dot(builder, total, unsigned_bytes, signed_bytes):
    """Add the dot products of groups of 4 bytes to 16 words: the AVX512-VNNI instruction."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(WORDS, [WORDS, WORDS, WORDS]), name)
    return builder.call(function, [total, unsigned_bytes, signed_bytes])


def _portable_dot(builder, total, unsigned_bytes, signed_bytes):
    """Add the same dot products by widening: any LLVM target runs it, exactly."""
    wide = ir.VectorType(ir.IntType(16), 64)
    products = ir.VectorType(I32, 64)
    a = builder.zext(builder.bitcast(unsigned_bytes, BYTES), wide)
    b = builder.sext(builder.bitcast(signed_bytes, BYTES), wide)
    sums = builder.mul(builder.sext(a, products), builder.sext(b, products))
    for count in (32, 16):
        even, odd = (
            builder.shuffle_vector(sums, sums, ir.Constant(ir.VectorType(I32, count), list(range(first, 2 * count, 2))))
            for first in (0, 1)
        )
        sums = builder.add(even, odd)
    return builder.add(total, sums)


def _sum_tile(builder, dot, data, weights, quads, starts, correction):
    """Return 6 x 4 vectors: starting rows plus correction plus data[quads][64][4] x weights[quads][6][4]."""
    slots = []
    for row in range(TILE):
        start = _load(builder, starts, I64, 8 * row)
        add = _splat(builder, _load(builder, correction, I32, 4 * row))
        for vector in range(4):
            slot = cgutils.alloca_once(builder, WORDS)
            builder.store(builder.add(_load(builder, start, WORDS, 64 * vector), add), slot)
            slots.append(slot)
    with cgutils.for_range(builder, quads, intp=I64) as loop:
        data_at = builder.add(data, builder.mul(loop.index, _offset(256)))
        weights_at = builder.add(weights, builder.mul(loop.index, _offset(4 * TILE)))
        codes = [_load(builder, data_at, WORDS, 64 * vector) for vector in range(4)]
        for row in range(TILE):
            weight = _splat(builder, _load(builder, weights_at, I32, 4 * row))
            for vector in range(4):
                slot = slots[row * 4 + vector]
                builder.store(dot(builder, builder.load(slot), codes[vector], weight), slot)
    return [builder.load(slot) for slot in slots]


def _clip(builder, x, low, high):
    low, high = ir.Constant(FLOATS, [low] * 16), ir.Constant(FLOATS, [high] * 16)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    return builder.select(builder.fcmp_ordered("<", x, high), x, high)


def _store_tile(builder, sums, mode, scale, bias, out):
    for row in range(TILE):
        m = _splat(builder, _load(builder, scale, F32, 4 * row)) if mode != "sums" else None
        b = _splat(builder, _load(builder, bias, F32, 4 * row)) if mode != "sums" else None
        for vector in range(4):
            total = sums[4 * row + vector]
            if mode == "sums":
                _store(builder, total, out, 256 * row + 64 * vector)
                continue
            z = builder.fadd(builder.fmul(builder.sitofp(total, FLOATS), m), b)
            if mode == "linear":
                _store(builder, z, out, 256 * row + 64 * vector)
                continue
            # 1.5 * 2^23 leaves the whole number, rounded with ties to even, in the low bits.
            rounded = builder.fadd(_clip(builder, z, 0.0, 255.0), ir.Constant(FLOATS, [12582912.0] * 16))
            codes = builder.trunc(builder.bitcast(rounded, WORDS), ir.VectorType(I8, 16))
            _store(builder, codes, out, 64 * row + 16 * vector)


def _int8_tile(dot, mode):
    """Make the intrinsic that runs one tile of 6 outputs x 64 samples.

    Its arguments are addresses: data[quads][64][4] uint8, weights[quads][6][4] int8, quads (a number), starts (six
    addresses of 64 int32 each), correction[6] int32, scale[6], bias[6] float32, out. With
    sum = start + correction + data x weights, `mode` says what is stored: "sums" the int32 [6][64]; "linear"
    z = float(sum) * scale + bias as float32 [6][64]; "relu" clip(rint(z), 0, 255) as uint8 [6][64].
    """

    @intrinsic
    def tile(typingctx, data, weights, quads, starts, correction, scale, bias, out):
        def codegen(context, builder, signature, args):
            data, weights, quads, starts, correction, scale, bias, out = args
            sums = _sum_tile(builder, dot, data, weights, quads, starts, correction)
            _store_tile(builder, sums, mode, scale, bias, out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


vnni_sums_tile, vnni_linear_tile, vnni_relu_tile = (_int8_tile(_dot, mode) for mode in ("sums", "linear", "relu"))
portable_sums_tile, portable_linear_tile, portable_relu_tile = (
    _int8_tile(_portable_dot, mode) for mode in ("sums", "linear", "relu")
)


def _unpack(builder, a, b, size, high):
    """Interleave the low (or high) halves of each 16-byte part of two vectors, by elements of `size` bytes."""
    kind = ir.VectorType(ir.IntType(8 * size), 64 // size)
    part, half = 16 // size, 8 // size
    picks = []
    for first in range(0, 64 // size, part):
        for i in range(half):
            at = first + i + (half if high else 0)
            picks += [at, at + 64 // size]
    mask = ir.Constant(ir.VectorType(I32, 64 // size), picks)
    return builder.bitcast(builder.shuffle_vector(builder.bitcast(a, kind), builder.bitcast(b, kind), mask), BYTES)


def _interleave(builder, a, b, c, d):
    """Interleave four vectors of bytes by fours; byte p of each lands in quad `quad_of_byte(p)` of the 64."""
    pairs = [(_unpack(builder, a, b, 1, high), _unpack(builder, c, d, 1, high)) for high in (False, True)]
    return [_unpack(builder, *pair, 2, high) for pair in pairs for high in (False, True)]


def quad_of_byte(position: int) -> int:
    """Return where `_interleave` puts byte `position` (0 to 63); the mapping is its own inverse."""
    part, quarter, i = position // 16, position % 16 // 4, position % 4
    return 16 * quarter + 4 * part + i


@intrinsic
def gather_quads(typingctx, rows, units, quads, out):
    """Interleave the listed rows (64 bytes each) by fours into out[quads][64][4]; see `quad_of_byte` for the order."""

    def codegen(context, builder, signature, args):
        data, units, quads, out = args
        with cgutils.for_range(builder, quads, intp=I64) as loop:
            units_at = builder.add(units, builder.mul(loop.index, _offset(16)))
            vectors = []
            for i in range(4):
                unit = builder.zext(_load(builder, units_at, I32, 4 * i), I64)
                vectors.append(_load(builder, builder.add(data, builder.mul(unit, _offset(64))), BYTES))
            out_at = builder.add(out, builder.mul(loop.index, _offset(256)))
            for number, vector in enumerate(_interleave(builder, *vectors)):
                _store(builder, vector, out_at, 64 * number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _row_sums(dot):
    """Make the intrinsic that adds up listed rows of weights for one sample.

    Its arguments are addresses: rows[D][64] (uint8, columns in the order of `quad_of_byte`), units (int32) and values
    (int8) in fours, their number of fours, out[64] (int32). It stores sum_i values[i] * rows[units[i]].
    """

    @intrinsic
    def row_sums(typingctx, rows, units, values, quads, out):
        def codegen(context, builder, signature, args):
            rows, units, values, quads, out = args
            slots = [cgutils.alloca_once_value(builder, ir.Constant(WORDS, [0] * 16)) for _ in range(4)]
            with cgutils.for_range(builder, quads, intp=I64) as loop:
                units_at = builder.add(units, builder.mul(loop.index, _offset(16)))
                vectors = []
                for i in range(4):
                    unit = builder.zext(_load(builder, units_at, I32, 4 * i), I64)
                    vectors.append(_load(builder, builder.add(rows, builder.mul(unit, _offset(64))), BYTES))
                value = _splat(builder, _load(builder, values, I32, builder.mul(loop.index, _offset(4))))
                for slot, vector in zip(slots, _interleave(builder, *vectors), strict=True):
                    builder.store(dot(builder, builder.load(slot), builder.bitcast(vector, WORDS), value), slot)
            for number, slot in enumerate(slots):
                _store(builder, builder.load(slot), out, 64 * number)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

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
            slots = [cgutils.alloca_once_value(builder, ir.Constant(WORDS, [0] * 16)) for _ in range(4)]
            with cgutils.for_range(builder, quads, intp=I64) as loop:
                code = _splat(builder, _load(builder, codes, I32, builder.mul(loop.index, _offset(4))))
                weights_at = builder.add(weights, builder.mul(loop.index, _offset(256)))
                for number, slot in enumerate(slots):
                    weight = _load(builder, weights_at, WORDS, 64 * number)
                    builder.store(dot(builder, builder.load(slot), code, weight), slot)
            for number, slot in enumerate(slots):
                _store(builder, builder.load(slot), out, 64 * number)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return dense_sums


vnni_row_sums, portable_row_sums = _row_sums(_dot), _row_sums(_portable_dot)
vnni_dense_sums, portable_dense_sums = _dense_sums(_dot), _dense_sums(_portable_dot)


@intrinsic
def mask_codes(typingctx, codes, words, count, code):
    """Set to `code` those of codes[64 count] (uint8, at an address) whose bit in words[count] (uint64) is clear."""

    def codegen(context, builder, signature, args):
        codes, words, count, code = args
        other = _splat(builder, builder.trunc(code, I8), 64)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            bits = _load(builder, words, I64, builder.mul(loop.index, _offset(8)))
            at = builder.add(codes, builder.mul(loop.index, _offset(64)))
            keep = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 64))
            _store(builder, builder.select(keep, _load(builder, at, BYTES), other), at)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _float_tile_ir(builder, data, rows, weights, out, count):
    totals = []
    for row in range(TILE):
        for vector in range(4):
            slot = cgutils.alloca_once(builder, FLOATS)
            builder.store(_load(builder, out, FLOATS, (row * 4 + vector) * 64), slot)
            totals.append(slot)
    with cgutils.for_range(builder, count, intp=I64) as loop:
        row_number = builder.zext(_load(builder, rows, I32, builder.mul(loop.index, _offset(4))), I64)
        data_at = builder.add(data, builder.mul(row_number, _offset(256)))
        weights_at = builder.add(weights, builder.mul(loop.index, _offset(4 * TILE)))
        values = [_load(builder, data_at, FLOATS, 64 * vector) for vector in range(4)]
        for row in range(TILE):
            weight = _splat(builder, _load(builder, weights_at, F32, 4 * row))
            for vector in range(4):
                slot = totals[row * 4 + vector]
                product = builder.fmul(values[vector], weight, flags=("contract",))
                builder.store(builder.fadd(builder.load(slot), product, flags=("contract",)), slot)
    for number, slot in enumerate(totals):
        _store(builder, builder.load(slot), out, number * 64)


@intrinsic
def float_tile(typingctx, data, rows, weights, out, count):
    """Add to out[6][64] (float32) the products of data[rows[i]][64] and weights[i][6], i below count."""

    def codegen(context, builder, signature, args):
        _float_tile_ir(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def int_of_float(typingctx, value):
    """Return the bits of a float32 as int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], I32)

    return types.int32(types.float32), codegen


@intrinsic
def float_of_int(typingctx, value):
    """Return the float32 that has the bits of an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], F32)

    return types.float32(types.int32), codegen


@intrinsic
def float_row_sums(typingctx, rows, units, values, count, out):
    """Store in out[64] the sum over i below count of values[i] * rows[units[i]][64], all float32."""

    def codegen(context, builder, signature, args):
        rows, units, values, count, out = args
        slots = [cgutils.alloca_once_value(builder, ir.Constant(FLOATS, [0.0] * 16)) for _ in range(4)]
        with cgutils.for_range(builder, count, intp=I64) as loop:
            at = builder.mul(loop.index, _offset(4))
            unit = builder.zext(_load(builder, units, I32, at), I64)
            row = builder.add(rows, builder.mul(unit, _offset(256)))
            value = _splat(builder, _load(builder, values, F32, at))
            for number, slot in enumerate(slots):
                product = builder.fmul(_load(builder, row, FLOATS, 64 * number), value, flags=("contract",))
                builder.store(builder.fadd(builder.load(slot), product, flags=("contract",)), slot)
        for number, slot in enumerate(slots):
            _store(builder, builder.load(slot), out, 64 * number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen
