"""Dot products of small integers, by `targets.Dot`, and how their inputs lie in memory.

A group of inputs (four of 8 bits, or two of 16) fills one 32-bit lane, and a lane is a sample or an output: the same
loops serve both kinds. Sums are exact: |sum| <= 65536 * 255 * 127 < 2^31.
"""

from llvmlite import ir

from fastuq.montecarlo.kernels.ir import (
    BYTES,
    I8,
    I16,
    I32,
    LANES,
    PART,
    WORDS,
    all_lanes,
    call,
    load,
    shuffle,
    store,
    words,
)
from fastuq.montecarlo.kernels.targets import Dot


def vpdpbusd(builder, total, codes, weights):
    """Add the products of fours of unsigned and signed bytes: the VNNI instruction."""
    bits = 32 * total.type.count
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{bits}", total.type, total, codes, weights)


def pmaddwd(builder, total, codes, weights):
    """Add the products of twos of 16-bit numbers; x86 from SSE2 on."""
    lanes = total.type.count
    name = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[lanes]
    kind = ir.VectorType(I16, 2 * lanes)
    products = call(builder, name, total.type, builder.bitcast(codes, kind), builder.bitcast(weights, kind))
    return builder.add(total, products)


def sdot(builder, total, codes, weights):
    """Add the products of fours of signed bytes; Arm with the dot product extension."""
    kind = ir.VectorType(I8, 4 * total.type.count)
    arguments = (total, builder.bitcast(codes, kind), builder.bitcast(weights, kind))
    return call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", total.type, *arguments)


def multiply_pairs(builder, total, codes, weights):
    """Add the products of twos of 16-bit numbers by 32-bit multiplications: any processor."""
    half = all_lanes(16, total.type)
    for part in (0, 1):
        factors = [builder.shl(value, half) if part == 0 else value for value in (codes, weights)]
        total = builder.add(total, builder.mul(*(builder.ashr(value, half) for value in factors)))
    return total


_BY_NAME = {function.__name__: function for function in (vpdpbusd, pmaddwd, sdot, multiply_pairs)}


def dot_of(dot: Dot):
    """Return the function (builder, total, codes, weights) of a dot product."""
    return _BY_NAME[dot.name]


def lane_of(dot: Dot, slot: int) -> int:
    """Return the lane that byte `slot` (0 to 63) of a row of codes gets to; the mapping is its own inverse."""
    part, quarter, i = slot // 16, slot % 16 // 4, slot % 4
    if dot.group == 4:
        return 16 * quarter + 4 * part + i
    return 16 * part + 4 * (quarter % 2 * 2 + quarter // 2) + i


def _unpack(builder, a, b, size, high):
    """Interleave the low (or high) halves of each 16-byte part of two vectors, by elements of `size` bytes."""
    whole = a.type
    count, part, half = whole.count // size, 16 // size, 8 // size
    kind = ir.VectorType(ir.IntType(8 * size), count)
    picks = []
    for first in range(0, count, part):
        for i in range(half):
            at = first + i + (half if high else 0)
            picks += [at, at + count]
    return builder.bitcast(shuffle(builder, builder.bitcast(a, kind), builder.bitcast(b, kind), picks), whole)


def interleave(builder, a, b, c, d):
    """Interleave four vectors of bytes by fours; of 64, byte p of each lands in lane `lane_of(p)`."""
    pairs = [(_unpack(builder, a, b, 1, high), _unpack(builder, c, d, 1, high)) for high in (False, True)]
    return [_unpack(builder, *pair, 2, high) for pair in pairs for high in (False, True)]


def store_group(builder, dot, rows, out, stride):
    """Store a group of rows (four or two addresses of 64 codes) as lanes: 64 bytes a part, `stride` bytes apart."""
    if dot.group == 4:
        codes = [load(builder, row, BYTES) for row in rows]
        if dot.signed:
            codes = [builder.xor(code, all_lanes(128, BYTES)) for code in codes]
        for part, vector in enumerate(interleave(builder, *codes)):
            store(builder, vector, out, builder.mul(stride, stride.type(part)))
        return
    low = [at for first in (0, 8) for i in range(4) for at in (first + i, first + i + PART)]
    for part in range(LANES // PART):
        a, b = (
            builder.zext(load(builder, row, ir.VectorType(I8, PART), PART * part), ir.VectorType(I16, PART))
            for row in rows
        )
        at = builder.mul(stride, stride.type(part))
        store(builder, shuffle(builder, a, b, low), builder.add(out, at))
        store(builder, shuffle(builder, a, b, [place + 4 for place in low]), builder.add(out, at), 32)


def slot_of_chunk(builder, dot, place):
    """Return the slot of the first of four neighbouring lanes: `place` counts the fours of all 64 lanes."""
    part, chunk = builder.lshr(place, place.type(2)), builder.and_(place, place.type(3))
    if dot.group == 4:
        return builder.add(builder.mul(part, part.type(4)), builder.mul(chunk, part.type(16)))
    odd = builder.mul(builder.and_(chunk, part.type(1)), part.type(2))
    quarter = builder.add(odd, builder.lshr(chunk, part.type(1)))
    return builder.add(builder.mul(part, part.type(16)), builder.mul(quarter, part.type(4)))


def join_quads(builder, numbers):
    """Clip four vectors of 16 words, all parts of a block, to 0..255 and join them as 64 bytes; AVX512."""
    shorts = ir.VectorType(I16, 32)
    pairs = [call(builder, "llvm.x86.avx512.packssdw.512", shorts, *numbers[i : i + 2]) for i in (0, 2)]
    return call(builder, "llvm.x86.avx512.packuswb.512", BYTES, *pairs)


def clip_bytes(builder, numbers):
    """Clip words to 0..255, as bytes."""
    kind = words(numbers.type.count)
    low = builder.select(builder.icmp_signed(">", numbers, all_lanes(0, kind)), numbers, all_lanes(0, kind))
    high = builder.select(builder.icmp_signed("<", low, all_lanes(255, kind)), low, all_lanes(255, kind))
    return builder.trunc(high, ir.VectorType(I8, kind.count))


assert WORDS.count == PART
assert I32.width == 32
