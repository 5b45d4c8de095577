"""LLVM IR that the vector building blocks share: types, memory, lanes.

They are written as IR because numba's own loops do not keep tiles in registers. Addresses are int64 values, which
`emit` makes of arrays, and nothing is checked: callers pad their buffers. Every load and store is declared unaligned,
so that a misaligned buffer is slow, never a crash; `memory.empty` aligns to 64 bytes.

Vectors of 16 lanes (`WORDS`, `FLOATS`) are for what is written once for every processor: LLVM cuts them into the
registers that there are. Tiles use the registers as they are (`words`, `floats`).
"""

from contextlib import contextmanager

from llvmlite import ir

from fastuq.montecarlo.kernels.targets import current_target

I1, I8, I16, I32, I64, F32, F64 = (
    ir.IntType(1), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType(),
)  # fmt: skip
WORDS, BYTES, FLOATS = ir.VectorType(I32, 16), ir.VectorType(I8, 64), ir.VectorType(F32, 16)
LANES = 64
"""Samples of a block: they lie side by side in every row."""
PART = 16
"""Samples of a part of a block: 64 bytes of 32-bit lanes."""


def words(lanes):
    """Return the type of so many 32-bit whole numbers."""
    return ir.VectorType(I32, lanes)


def floats(lanes):
    """Return the type of so many float32 numbers."""
    return ir.VectorType(F32, lanes)


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
    return builder.shuffle_vector(first, first, ir.Constant(words(count), [0] * count))


def all_lanes(number, kind=FLOATS):
    """Return a vector constant with the same number in every lane."""
    return ir.Constant(kind, [number] * kind.count)


def shuffle(builder, a, b, picks):
    """Return the picked lanes of two vectors, those of `b` counted after those of `a`."""
    return builder.shuffle_vector(a, b, ir.Constant(words(len(picks)), picks))


def lanes_of(builder, vector, first, count):
    """Return `count` lanes of a vector from `first` on."""
    return shuffle(builder, vector, vector, list(range(first, first + count)))


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


@contextmanager
def counting(builder, count, step=1):
    """Write a loop: the index runs over 0, step, ... below `count`."""
    before = builder.block
    head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    with builder.goto_block(head):
        index = builder.phi(I64)
        index.add_incoming(I64(0), before)
        builder.cbranch(builder.icmp_signed("<", index, offset(count)), body, after)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, I64(step)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def prefetch(builder, address, at):
    """Ask for the cache line at byte `at` of an address; any address will do."""
    pointer = builder.inttoptr(builder.add(address, offset(at)), I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    name, read, near, data = "llvm.prefetch.p0", I32(0), I32(3), I32(1)
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, read, near, data])


def compress(builder, numbers, mask):
    """Move the lanes of 16 words whose bit in `mask` (16 bits) is set to the front; zeros follow."""
    bits = builder.bitcast(mask, ir.VectorType(I1, 16))
    return call(builder, "llvm.experimental.vector.compress.v16i32", WORDS, numbers, bits, all_lanes(0, WORDS))


def fma(builder, a, b, c):
    """Return a * b + c of float32 or float64 numbers or vectors, rounded once where the processor can."""
    if not current_target().fused:
        return builder.fadd(builder.fmul(a, b), c)
    lanes, element = (f"v{a.type.count}", a.type.element) if isinstance(a.type, ir.VectorType) else ("", a.type)
    return call(builder, f"llvm.fma.{lanes}f{32 if element == F32 else 64}", a.type, a, b, c)
