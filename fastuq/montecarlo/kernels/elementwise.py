"""Activations, as LLVM IR for scalars and vectors alike, and the codes of blocks that are not the last."""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastuq.model.activations import SIGMOID_STEPS
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import F32, FLOATS, I8, I32, I64, fma, load, plus, splat, store

_ROUND = 12582912.0
"""1.5 * 2^23: adding it rounds to a whole number, ties to even, and leaves it in the low bits."""
_POWER = (
    0.0013276468962430954,
    0.009675540961325169,
    0.05550713464617729,
    0.24022120237350464,
    0.6931469440460205,
    1.0000001192092896,
)
"""2^f for f in [-0.5, 0.5], highest power first: fitted here to the least largest relative error."""


def _constant(kind, number):
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def _words_of(kind):
    return ir.VectorType(I32, kind.count) if isinstance(kind, ir.VectorType) else I32


def clip(builder, x, low, high):
    """Return float32 x within low and high."""
    low, high = _constant(x.type, low), _constant(x.type, high)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    return builder.select(builder.fcmp_ordered("<", x, high), x, high)


def round_ir(builder, x):
    """Return float32 x (below 2^22 in magnitude) rounded to int32, ties to even."""
    words = _words_of(x.type)
    shifted = builder.bitcast(builder.fadd(x, _constant(x.type, _ROUND)), words)
    return builder.sub(shifted, _constant(words, 0x4B400000))


def exp_ir(builder, x, sign=1):
    """Return exp(x), or exp(-x) with sign -1, relative error below 3e-7 + 8e-8 |x|; x is clipped to [-87, 87].

    exp(x) = 2^k 2^f with k = rint(x log2 e) and f in [-0.5, 0.5].
    """
    kind, words = x.type, _words_of(x.type)
    t = builder.fmul(clip(builder, x, -87.0, 87.0), _constant(kind, sign * 1.4426950216293335))
    shifted = builder.fadd(t, _constant(kind, _ROUND))
    f = builder.fsub(t, builder.fsub(shifted, _constant(kind, _ROUND)))
    p = _constant(kind, _POWER[0])
    for coefficient in _POWER[1:]:
        p = fma(builder, p, f, _constant(kind, coefficient))
    # The low bits of `shifted` are k: moved to the place of the exponent they multiply by 2^k.
    power = builder.shl(builder.bitcast(shifted, words), _constant(words, 23))
    return builder.bitcast(builder.add(builder.bitcast(p, words), power), kind)


def sigmoid_ir(builder, x):
    """Return 1 / (1 + exp(-x)), absolute error below 1e-6."""
    one = _constant(x.type, 1.0)
    return builder.fdiv(one, builder.fadd(one, exp_ir(builder, x, -1)))


@in_ir(types.int32)
def round_to_int(builder, x):
    """Return float32 x (below 2^22 in magnitude) rounded to int32, ties to even."""
    return round_ir(builder, x)


@in_ir(types.float32)
def sigmoid32(builder, x):
    """Return 1 / (1 + exp(-x)); see `sigmoid_ir`."""
    return sigmoid_ir(builder, x)


@kernel
def sigmoid_code(z):
    """Return how many of `SIGMOID_STEPS` are at most z: the 8-bit code of sigmoid(z), exactly as NumPy finds it."""
    code = round_to_int(sigmoid32(z) * np.float32(255))
    if code < 255 and z >= SIGMOID_STEPS[code]:
        return code + 1
    if code > 0 and z < SIGMOID_STEPS[code - 1]:
        return code - 1
    return code


@in_ir()
def _encode_rounded(builder, z, z_at, rounding, vectors, codes, at):
    z, codes = plus(builder, z, z_at, 4), builder.add(codes, at)
    top, zero = splat(builder, rounding[1]), splat(builder, builder.trunc(rounding[2], I32))
    low = builder.sitofp(builder.neg(zero), FLOATS)
    with cgutils.for_range(builder, vectors, intp=I64) as loop:
        x = load(builder, plus(builder, z, loop.index, 64), FLOATS)
        x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
        x = builder.select(builder.fcmp_ordered("<", x, top), x, top)
        words = builder.add(round_ir(builder, x), zero)
        store(builder, builder.trunc(words, ir.VectorType(I8, 16)), plus(builder, codes, loop.index, 16))


@kernel
def encode(z, z_at, rounding, count, codes, at):
    """Turn `count` of z[z_at:], of a block that is not the last, into codes[at:] (uint8); both go on to whole vectors.

    `rounding` is (rounded, top, zero): clip(rint(z), -zero, top) + zero, or where not `rounded` the code of a sigmoid.
    """
    if rounding[0]:
        _encode_rounded(z, z_at, rounding, (count + 15) // 16, codes, at)
    else:
        # Slices, here and elsewhere: an index that could be negative keeps a loop from becoming vector instructions.
        z, codes = z[z_at : z_at + count], codes[at : at + count]
        for i in range(count):
            codes[i] = sigmoid_code(z[i])


def _softmax(builder, z, kind, classes, stride):
    """Replace numbers or vectors at z, z + stride, ... by their softmax over the classes."""
    top = cgutils.alloca_once_value(builder, load(builder, z, kind))
    with cgutils.for_range(builder, classes, intp=I64) as loop:
        x, so_far = load(builder, plus(builder, z, loop.index, stride), kind), builder.load(top)
        builder.store(builder.select(builder.fcmp_ordered(">", x, so_far), x, so_far), top)
    highest, total = builder.load(top), cgutils.alloca_once_value(builder, _constant(kind, 0.0))
    with cgutils.for_range(builder, classes, intp=I64) as loop:
        at = plus(builder, z, loop.index, stride)
        power = exp_ir(builder, builder.fsub(load(builder, at, kind), highest))
        builder.store(builder.fadd(builder.load(total), power), total)
        store(builder, power, at)
    whole = builder.load(total)
    with cgutils.for_range(builder, classes, intp=I64) as loop:
        at = plus(builder, z, loop.index, stride)
        store(builder, builder.fdiv(load(builder, at, kind), whole), at)


@in_ir()
def softmax_of_lanes(builder, z, z_at, classes):
    """Replace z[z_at:] as [classes][64] by its softmax over the classes, lane by lane."""
    for vector in range(4):
        _softmax(builder, plus(builder, plus(builder, z, z_at, 4), 64 * vector), FLOATS, classes, 256)


@in_ir()
def softmax_of_one(builder, z, z_at, classes):
    """Replace z[z_at:] as [classes] by its softmax."""
    _softmax(builder, plus(builder, z, z_at, 4), F32, classes, 4)


FORWARD: dict[str, Callable | None] = {
    "relu": lambda builder, x: clip(builder, x, 0.0, float("inf")),
    "linear": lambda builder, x: x,
    "sigmoid": sigmoid_ir,
    "softmax": None,
}
"""What each activation of `fastuq.model.activations` does to a number or vector; None for the one over all classes."""
assert [name for name, function in FORWARD.items() if function is None] == ["softmax"], "another one needs a kernel"
NUMBERS = {name: number for number, name in enumerate(FORWARD)}
"""How kernels call them."""
SOFTMAX = NUMBERS["softmax"]


def by_activation(builder, activation, emit):
    """Write a branch ``emit(function)`` for every activation; softmax, done before, changes nothing here."""
    for name, function in FORWARD.items():
        with builder.if_then(builder.icmp_signed("==", activation, I64(NUMBERS[name]))):
            emit(function or FORWARD["linear"])


@in_ir()
def activate_numbers(builder, z, z_at, activation, vectors):
    """Apply an activation to 16 `vectors` numbers of z[z_at:] (float32), where it goes number by number."""
    z = plus(builder, z, z_at, 4)

    def loop_of(function):
        with cgutils.for_range(builder, vectors, intp=I64) as loop:
            at = plus(builder, z, loop.index, 64)
            store(builder, function(builder, load(builder, at, FLOATS)), at)

    by_activation(builder, activation, loop_of)
