"""LLVM IR that the vector building blocks share: types, memory, dot products, shuffles.

They are written as IR because numba's own loops do not keep tiles in registers. Addresses are int64 values, which
`emit` makes of arrays, and nothing is checked: callers pad their buffers. Every load and store is declared unaligned,
so that a misaligned buffer is slow, never a crash; `memory.empty` aligns to 64 bytes.
"""

from llvmlite import ir

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
WORDS, BYTES, FLOATS = ir.VectorType(I32, 16), ir.VectorType(I8, 64), ir.VectorType(F32, 16)


def offset(number):
    """Return a constant number of bytes; a value passes through."""
    return ir.Constant(I64, number) if isinstance(number, int) else number


def load(builder, address, kind, at=0):
    """Load a scalar or vector from byte `at` of an address."""
    pointer = builder.inttoptr(builder.add(address, offset(at)), kind.as_pointer())
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded


def store(builder, value, address, at=0):
    """Store a scalar or vector to byte `at` of an address."""
    pointer = builder.inttoptr(builder.add(address, offset(at)), value.type.as_pointer())
    builder.store(value, pointer).align = 1


def splat(builder, scalar, count=16):
    """Broadcast a scalar to all lanes."""
    kind = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, count), [0] * count))


def all_lanes(number, kind=FLOATS):
    """Return a vector constant with the same number in every lane."""
    return ir.Constant(kind, [number] * kind.count)


def call(builder, name, kind, *arguments):
    """Call an LLVM intrinsic by its name."""
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(kind, [argument.type for argument in arguments])
        function = ir.Function(builder.module, signature, name)
    return builder.call(function, list(arguments))


def plus(builder, address, number, size=1):
    """Return the address `number` elements of `size` bytes behind another one; either may be a constant or a value."""
    if isinstance(number, int):
        return builder.add(address, offset(number * size))
    return builder.add(address, number if size == 1 else builder.mul(number, offset(size)))


def prefetch(builder, address, at):
    """Ask for the cache line at byte `at` of an address; any address will do."""
    pointer = builder.inttoptr(builder.add(address, offset(at)), I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    name, read, near, data = "llvm.prefetch.p0", I32(0), I32(3), I32(1)
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, read, near, data])


def compress(builder, words, mask):
    """Move the lanes of 16 words whose bit in `mask` (16 bits) is set to the front; zeros follow."""
    bits = builder.bitcast(mask, ir.VectorType(ir.IntType(1), 16))
    return call(builder, "llvm.experimental.vector.compress.v16i32", WORDS, words, bits, all_lanes(0, WORDS))


def fma(builder, a, b, c):
    """Return a * b + c of float32 or float64 numbers or vectors, rounded once."""
    lanes, element = (f"v{a.type.count}", a.type.element) if isinstance(a.type, ir.VectorType) else ("", a.type)
    return call(builder, f"llvm.fma.{lanes}f{32 if element == F32 else 64}", a.type, a, b, c)


def vnni_dot(builder, total, unsigned_bytes, signed_bytes):
    """Add the dot products of groups of 4 bytes to 16 words: the AVX512-VNNI instruction."""
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", WORDS, total, unsigned_bytes, signed_bytes)


def portable_dot(builder, total, unsigned_bytes, signed_bytes):
    """Add the same dot products by widening: any LLVM target runs it, exactly."""
    products = ir.VectorType(I32, 64)
    a = builder.zext(builder.bitcast(unsigned_bytes, BYTES), products)
    b = builder.sext(builder.bitcast(signed_bytes, BYTES), products)
    sums = builder.mul(a, b)
    for count in (32, 16):
        even, odd = (
            builder.shuffle_vector(sums, sums, ir.Constant(ir.VectorType(I32, count), list(range(first, 2 * count, 2))))
            for first in (0, 1)
        )
        sums = builder.add(even, odd)
    return builder.add(total, sums)


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


def interleave(builder, a, b, c, d):
    """Interleave four vectors of bytes by fours; byte p of each lands in quad `quad_of_byte(p)` of the 64."""
    pairs = [(_unpack(builder, a, b, 1, high), _unpack(builder, c, d, 1, high)) for high in (False, True)]
    return [_unpack(builder, *pair, 2, high) for pair in pairs for high in (False, True)]


def quad_of_byte(position: int) -> int:
    """Return where `interleave` puts byte `position` (0 to 63); the mapping is its own inverse."""
    part, quarter, i = position // 16, position % 16 // 4, position % 4
    return 16 * quarter + 4 * part + i


def vnni_join(builder, words):
    """Clip four vectors of words to 0..255 and join them as 64 bytes, byte p from word `quad_of_byte(p)`."""
    shorts = ir.VectorType(ir.IntType(16), 32)
    pairs = [call(builder, "llvm.x86.avx512.packssdw.512", shorts, *words[i : i + 2]) for i in (0, 2)]
    return call(builder, "llvm.x86.avx512.packuswb.512", BYTES, *pairs)


def portable_join(builder, words):
    """Do the same on any LLVM target."""
    clipped = []
    for word in words:
        low = builder.select(builder.icmp_signed(">", word, all_lanes(0, WORDS)), word, all_lanes(0, WORDS))
        high = builder.select(builder.icmp_signed("<", low, all_lanes(255, WORDS)), low, all_lanes(255, WORDS))
        clipped.append(builder.trunc(high, ir.VectorType(I8, 16)))
    pairs = [
        builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 32), list(range(32))))
        for a, b in (clipped[:2], clipped[2:])
    ]
    order = [quad_of_byte(p) for p in range(64)]
    return builder.shuffle_vector(*pairs, ir.Constant(ir.VectorType(I32, 64), order))
