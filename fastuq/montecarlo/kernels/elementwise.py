"""Activations, as LLVM IR for scalars and vectors alike, and the codes of blocks that are not the last."""

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.flatten import ACTIVATION_NUMBERS
from fastuq.montecarlo.kernels.ir import F32, FLOATS, I8, I32, I64, LANES, PART, counting, fma, load, plus, splat, store

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
    """Return float32 x within low and high; NaN stays NaN, which is how sums that overflowed are seen."""
    low, high = _constant(x.type, low), _constant(x.type, high)
    x = builder.select(builder.fcmp_unordered(">", x, low), x, low)
    return builder.select(builder.fcmp_unordered("<", x, high), x, high)


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
    found = builder.bitcast(builder.add(builder.bitcast(p, words), power), kind)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, found)


_LOG = (
    -0.07362871617078781,
    0.12620329856872559,
    -0.13202103972434998,
    0.14227113127708435,
    -0.16621370613574982,
    0.19999825954437256,
    -0.2500085234642029,
    0.3333335518836975,
)
"""(ln(1 + f) - f + f^2 / 2) / f^3 for f in [1/sqrt(2) - 1, sqrt(2) - 1], highest power first: fitted here."""


def log_ir(builder, k, f):
    """Return k ln 2 + ln(1 + f) of float32 numbers, f in [1/sqrt(2) - 1, sqrt(2) - 1]; relative error below 3e-7."""
    p = _constant(f.type, _LOG[0])
    for coefficient in _LOG[1:]:
        p = fma(builder, p, f, _constant(f.type, coefficient))
    square = builder.fmul(f, f)
    tail = builder.fmul(builder.fmul(square, f), p)
    tail = fma(builder, square, _constant(f.type, -0.5), tail)
    return fma(builder, k, _constant(f.type, 0.6931471805599453), builder.fadd(f, tail))


def surprise_ir(builder, p, other):
    """Return -q ln q of q = p, or with `other` of q = 1 - p, for float32 numbers; 0 where q is not above 0.

    1 - p is not rounded where it lies near 1, which is what keeps the entropy of sure outputs exact.
    """
    kind, numbers, one = p.type, _words_of(p.type), _constant(p.type, 1.0)
    q = builder.fsub(one, p) if other else p
    bits = builder.bitcast(q, numbers)
    # q = 2^k m with m in [1/sqrt(2), sqrt(2)): the bits of 1/sqrt(2) taken off leave k above the mantissa.
    shifted = builder.sub(bits, _constant(numbers, 0x3F3504F3))
    k = builder.ashr(shifted, _constant(numbers, 23))
    m = builder.bitcast(builder.sub(bits, builder.shl(k, _constant(numbers, 23))), kind)
    f = builder.fsub(m, one)
    if other:
        near = builder.icmp_signed("==", k, _constant(numbers, 0))
        f = builder.select(near, builder.fneg(p), f)
    value = builder.fmul(builder.fneg(q), log_ir(builder, builder.sitofp(k, kind), f))
    return builder.select(builder.fcmp_ordered(">", q, _constant(kind, 1.2e-38)), value, _constant(kind, 0.0))


def sigmoid_ir(builder, x):
    """Return 1 / (1 + exp(-x)), absolute error below 1e-6."""
    one = _constant(x.type, 1.0)
    return builder.fdiv(one, builder.fadd(one, exp_ir(builder, x, -1)))


def _sigmoid_code(builder, z, steps):
    """Return how many of the steps are at most z: the 8-bit code of sigmoid(z), exactly as NumPy finds it."""
    code = round_ir(builder, builder.fmul(sigmoid_ir(builder, z), F32(255.0)))  # off by one at most
    at = plus(builder, steps, builder.sext(code, I64), 4)
    above, below = (
        builder.fcmp_ordered(">=", z, load(builder, at, F32, 4)),
        builder.fcmp_ordered("<", z, load(builder, at, F32)),
    )
    return builder.add(code, builder.sub(builder.zext(above, I32), builder.zext(below, I32)))


@outlined
def _encode_rounded(builder, z, top, zero, vectors, codes):
    top, low = splat(builder, top), builder.sitofp(builder.neg(splat(builder, zero)), FLOATS)
    with counting(builder, vectors) as i:
        x = load(builder, plus(builder, z, i, 64), FLOATS)
        x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
        x = builder.select(builder.fcmp_ordered("<", x, top), x, top)
        numbers = builder.add(round_ir(builder, x), splat(builder, zero))
        store(builder, builder.trunc(numbers, ir.VectorType(I8, 16)), plus(builder, codes, i, 16))


@in_ir()
def encode(builder, z, plan, block, count, codes):
    """Turn `count` of z, outputs of a block that is not the last, into `codes` (uint8); both go on to whole vectors.

    That is clip(rint(z), -zero, top) + zero, or where the block's codes are not rounded ones the code of a sigmoid.
    """
    rounded = load(builder, plus(builder, plan.rounded, block, 8), I64)
    with builder.if_else(builder.icmp_signed("==", rounded, I64(1))) as (by_rounding, by_steps):
        with by_rounding:
            zero = builder.trunc(load(builder, plus(builder, plan.zero_points, block, 8), I64, 8), I32)
            top = load(builder, plus(builder, plan.tops, block, 4), F32)
            _encode_rounded(builder, z, top, zero, builder.sdiv(builder.add(count, I64(15)), I64(16)), codes)
        with by_steps, counting(builder, count) as i:
            code = _sigmoid_code(builder, load(builder, plus(builder, z, i, 4), F32), plan.steps)
            store(builder, builder.trunc(code, I8), builder.add(codes, i))


@in_ir()
def encode_rows(builder, z, plan, rows, lanes, codes):
    """Turn rows of z [rows][64] into codes of sigmoids, from the order of the lanes to that of the slots."""
    with counting(builder, rows) as row, counting(builder, I64(LANES)) as slot:
        lane = load(builder, plus(builder, lanes.lane_of_slot, slot, 8), I64)
        value = load(builder, plus(builder, z, builder.add(builder.mul(row, I64(LANES)), lane), 4), F32)
        code = builder.trunc(_sigmoid_code(builder, value, plan.steps), I8)
        store(builder, code, builder.add(codes, builder.add(builder.mul(row, I64(LANES)), slot)))


def _softmax(builder, z, kind, classes, stride):
    """Replace numbers or vectors at z, z + stride, ... by their softmax over the classes."""
    top = cgutils.alloca_once(builder, kind)
    builder.store(load(builder, z, kind), top)
    with counting(builder, classes) as i:
        x, so_far = load(builder, plus(builder, z, i, stride), kind), builder.load(top)
        builder.store(builder.select(builder.fcmp_ordered(">", x, so_far), x, so_far), top)
    highest, total = builder.load(top), cgutils.alloca_once(builder, kind)
    builder.store(_constant(kind, 0.0), total)
    with counting(builder, classes) as i:
        at = plus(builder, z, i, stride)
        power = exp_ir(builder, builder.fsub(load(builder, at, kind), highest))
        builder.store(builder.fadd(builder.load(total), power), total)
        store(builder, power, at)
    whole = builder.load(total)
    with counting(builder, classes) as i:
        at = plus(builder, z, i, stride)
        store(builder, builder.fdiv(load(builder, at, kind), whole), at)


@outlined
def softmax_of_lanes(builder, z, classes):
    """Replace z (address) as [classes][64] by its softmax over the classes, lane by lane."""
    with counting(builder, I64(LANES // PART)) as i:
        _softmax(builder, plus(builder, z, i, 4 * PART), FLOATS, classes, 4 * LANES)


@outlined
def softmax_of_one(builder, z, classes):
    """Replace z (address) as [classes] by its softmax."""
    _softmax(builder, z, F32, classes, 4)


FORWARD: dict[str, Callable | None] = {
    "relu": lambda builder, x: clip(builder, x, 0.0, float("inf")),
    "linear": lambda builder, x: x,
    "sigmoid": sigmoid_ir,
    "softmax": None,
}
"""What each activation of `fastuq.model.activations` does to a number or vector; None for the one over all classes."""
assert [name for name, function in FORWARD.items() if function is None] == ["softmax"], "another one needs a kernel"
assert list(FORWARD) == list(ACTIVATION_NUMBERS), "kernels call them by these numbers"
SOFTMAX = ACTIVATION_NUMBERS["softmax"]


def by_activation(builder, activation, emit):
    """Write a branch ``emit(function)`` for every activation; softmax, done before, changes nothing here."""
    for name, function in FORWARD.items():
        with builder.if_then(builder.icmp_signed("==", activation, I64(ACTIVATION_NUMBERS[name]))):
            emit(function or FORWARD["linear"])


@outlined
def activate_vectors(builder, activation, z, vectors):
    """Apply an activation to vectors of 16 numbers at z (address), where it goes number by number."""

    def loop_of(function):
        with counting(builder, vectors) as i:
            at = plus(builder, z, i, 64)
            store(builder, function(builder, load(builder, at, FLOATS)), at)

    by_activation(builder, activation, loop_of)


@in_ir()
def activate_numbers(builder, z, z_at, activation, vectors):
    """Apply an activation to 16 `vectors` numbers of z[z_at:] (float32), where it goes number by number."""
    activate_vectors(builder, activation, plus(builder, z, z_at, 4), vectors)


@in_ir()
def scale_numbers(builder, z, z_at, factor, vectors):
    """Multiply 16 `vectors` numbers of z[z_at:] (float32) by a factor."""
    z = plus(builder, z, z_at, 4)
    with counting(builder, vectors) as i:
        at = plus(builder, z, i, 64)
        store(builder, builder.fmul(load(builder, at, FLOATS), splat(builder, factor)), at)
