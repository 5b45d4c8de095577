"""Functions of float32 numbers, as LLVM IR for scalars and vectors alike: exponentials, entropies, activations."""

from typing import Any

from llvmlite import ir

from fastuq.montecarlo.kernels.flatten import ACTIVATION_NUMBERS
from fastuq.montecarlo.kernels.ir import I32, call, fma

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


def constant(kind, number):
    """Return a constant number, in every lane where the kind is a vector."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def _words_of(kind):
    return ir.VectorType(I32, kind.count) if isinstance(kind, ir.VectorType) else I32


def clip(builder, x, low, high):
    """Return float32 x within low and high; NaN stays NaN, which is how sums that overflowed are seen."""
    low, high = constant(x.type, low), constant(x.type, high)
    x = builder.select(builder.fcmp_unordered(">", x, low), x, low)
    return builder.select(builder.fcmp_unordered("<", x, high), x, high)


def round_ir(builder, x):
    """Return float32 x (below 2^22 in magnitude) rounded to int32, ties to even."""
    words = _words_of(x.type)
    shifted = builder.bitcast(builder.fadd(x, constant(x.type, _ROUND)), words)
    return builder.sub(shifted, constant(words, 0x4B400000))


def exp_ir(builder, x, sign=1):
    """Return exp(x), or exp(-x) with sign -1, relative error below 3e-7 + 8e-8 |x|; x is clipped to [-87, 87].

    exp(x) = 2^k 2^f with k = rint(x log2 e) and f in [-0.5, 0.5].
    """
    kind, words = x.type, _words_of(x.type)
    t = builder.fmul(clip(builder, x, -87.0, 87.0), constant(kind, sign * 1.4426950216293335))
    shifted = builder.fadd(t, constant(kind, _ROUND))
    f = builder.fsub(t, builder.fsub(shifted, constant(kind, _ROUND)))
    p = constant(kind, _POWER[0])
    for coefficient in _POWER[1:]:
        p = fma(builder, p, f, constant(kind, coefficient))
    # The low bits of `shifted` are k: moved to the place of the exponent they multiply by 2^k.
    power = builder.shl(builder.bitcast(shifted, words), constant(words, 23))
    found = builder.bitcast(builder.add(builder.bitcast(p, words), power), kind)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, found)


_GROWTH = (
    0.00015403507859446108,
    0.0013390735257416964,
    0.009618237614631653,
    0.05550357326865196,
    0.24022649228572845,
    0.6931471824645996,
)
"""(2^f - 1) / f for f in [-0.5, 0.5], highest power first: fitted here to the least largest relative error."""


def expm1_ir(builder, x):
    """Return exp(x) - 1, relative error below 1e-6, also near 0; x is clipped to [-87, 87]."""
    kind, words = x.type, _words_of(x.type)
    t = builder.fmul(clip(builder, x, -87.0, 87.0), constant(kind, 1.4426950216293335))
    shifted = builder.fadd(t, constant(kind, _ROUND))
    f = builder.fsub(t, builder.fsub(shifted, constant(kind, _ROUND)))
    p = constant(kind, _GROWTH[0])
    for coefficient in _GROWTH[1:]:
        p = fma(builder, p, f, constant(kind, coefficient))
    one = constant(words, 0x3F800000)
    power = builder.add(builder.shl(builder.bitcast(shifted, words), constant(words, 23)), one)
    power = builder.bitcast(power, kind)  # 2^k; 2^k (2^f - 1) + (2^k - 1)
    return fma(builder, builder.fmul(p, f), power, builder.fsub(power, constant(kind, 1.0)))


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
    p = constant(f.type, _LOG[0])
    for coefficient in _LOG[1:]:
        p = fma(builder, p, f, constant(f.type, coefficient))
    square = builder.fmul(f, f)
    tail = builder.fmul(builder.fmul(square, f), p)
    tail = fma(builder, square, constant(f.type, -0.5), tail)
    return fma(builder, k, constant(f.type, 0.6931471805599453), builder.fadd(f, tail))


def surprise_ir(builder, p, other):
    """Return -q ln q of q = p, or with `other` of q = 1 - p, for float32 numbers; 0 where q is not above 0.

    1 - p is not rounded where it lies near 1, which is what keeps the entropy of sure outputs exact.
    """
    kind, numbers, one = p.type, _words_of(p.type), constant(p.type, 1.0)
    q = builder.fsub(one, p) if other else p
    bits = builder.bitcast(q, numbers)
    # q = 2^k m with m in [1/sqrt(2), sqrt(2)): the bits of 1/sqrt(2) taken off leave k above the mantissa.
    shifted = builder.sub(bits, constant(numbers, 0x3F3504F3))
    k = builder.ashr(shifted, constant(numbers, 23))
    m = builder.bitcast(builder.sub(bits, builder.shl(k, constant(numbers, 23))), kind)
    f = builder.fsub(m, one)
    if other:
        near = builder.icmp_signed("==", k, constant(numbers, 0))
        f = builder.select(near, builder.fneg(p), f)
    value = builder.fmul(builder.fneg(q), log_ir(builder, builder.sitofp(k, kind), f))
    return builder.select(builder.fcmp_ordered(">", q, constant(kind, 1.2e-38)), value, constant(kind, 0.0))


def sigmoid_ir(builder, x):
    """Return 1 / (1 + exp(-x)), absolute error below 1e-6."""
    one = constant(x.type, 1.0)
    return builder.fdiv(one, builder.fadd(one, exp_ir(builder, x, -1)))


def _tanh(builder, x, slope):
    """Return m / (m + 2) of m = exp(2 x) - 1."""
    m = expm1_ir(builder, builder.fmul(clip(builder, x, -10.0, 10.0), constant(x.type, 2.0)))
    return builder.fdiv(m, builder.fadd(m, constant(x.type, 2.0)))


def _above(builder, x, low):
    """Return x, but `low` where it is less: what is multiplied by almost 0 must not be huge."""
    low = constant(x.type, low)
    return builder.select(builder.fcmp_ordered("<", x, low), low, x)


def _silu(builder, x, slope):
    return builder.fmul(_above(builder, x, -87.0), sigmoid_ir(builder, x))


_TAIL = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""erfc(y) = exp(-y^2) t (...) for y >= 0 and t = 1 / (1 + 0.3275911 y), highest power first, error below 1.5e-7:
Abramowitz and Stegun, 7.1.26."""


def _gelu(builder, x, slope):
    """Return x Phi(x), Phi from the tail that x is on."""
    kind, one = x.type, constant(x.type, 1.0)
    y = builder.fmul(_size(builder, x), constant(kind, 0.7071067811865476))
    t = builder.fdiv(one, fma(builder, y, constant(kind, 0.3275911), one))
    p = constant(kind, _TAIL[0])
    for coefficient in _TAIL[1:]:
        p = fma(builder, p, t, constant(kind, coefficient))
    power = exp_ir(builder, builder.fmul(y, y), -1)
    tail = builder.fmul(builder.fmul(constant(kind, 0.5), builder.fmul(p, t)), power)
    below = builder.fcmp_ordered("<", x, constant(kind, 0.0))
    return builder.fmul(_above(builder, x, -87.0), builder.select(below, tail, builder.fsub(one, tail)))


def _size(builder, x):
    name = f"v{x.type.count}f32" if isinstance(x.type, ir.VectorType) else "f32"
    return call(builder, f"llvm.fabs.{name}", x.type, x)


def _gelu_tanh(builder, x, slope):
    """Return x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is Keras's formula with its tanh resolved."""
    kind = x.type
    inner = fma(builder, builder.fmul(x, x), constant(kind, 0.044715), constant(kind, 1.0))
    inner = builder.fmul(builder.fmul(x, inner), constant(kind, 1.5957691216057308))
    return builder.fmul(_above(builder, x, -87.0), sigmoid_ir(builder, inner))


def _softplus(builder, x, slope):
    """Return max(x, 0) + ln(1 + exp(-|x|))."""
    kind, one = x.type, constant(x.type, 1.0)
    u = exp_ir(builder, _size(builder, x), -1)
    small = builder.fcmp_ordered("<", u, constant(kind, 0.4142135))
    f = builder.fmul(builder.fsub(u, one), constant(kind, 0.5))  # 1 + u = 2 (1 + f)
    k = builder.select(small, constant(kind, 0.0), one)
    log = log_ir(builder, k, builder.select(small, u, f))
    return builder.fadd(clip(builder, x, 0.0, float("inf")), log)


def _bent(builder, x, below, scale=None):
    """Return x (times a scale) above 0, and what is given below."""
    above = x if scale is None else builder.fmul(x, constant(x.type, scale))
    return builder.select(builder.fcmp_ordered(">", x, constant(x.type, 0.0)), above, below)


def _elu(builder, x, slope):
    return _bent(builder, x, expm1_ir(builder, x))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _selu(builder, x, slope):
    below = builder.fmul(expm1_ir(builder, x), constant(x.type, _SELU_SCALE * _SELU_ALPHA))
    return _bent(builder, x, below, _SELU_SCALE)


def _hard_silu(builder, x, slope):
    gate = clip(builder, builder.fadd(x, constant(x.type, 3.0)), 0.0, 6.0)
    return builder.fmul(x, builder.fmul(gate, constant(x.type, 1 / 6)))


FORWARD: dict[str, Any] = {
    "relu": lambda builder, x, slope: clip(builder, x, 0.0, float("inf")),
    "linear": lambda builder, x, slope: x,
    "sigmoid": lambda builder, x, slope: sigmoid_ir(builder, x),
    "softmax": None,
    "relu6": lambda builder, x, slope: clip(builder, x, 0.0, 6.0),
    "leaky_relu": lambda builder, x, slope: _bent(builder, x, builder.fmul(x, slope)),
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "hard_silu": _hard_silu,
    "tanh": _tanh,
    "softplus": _softplus,
}
"""What each activation of `fastuq.model.activations` does to a number or vector, given its slope (a value of the same
type); None for the one over all classes. Errors: 2e-6, and 2e-6 of the value."""
assert [name for name, function in FORWARD.items() if function is None] == ["softmax"], "another one needs a kernel"
assert list(FORWARD) == list(ACTIVATION_NUMBERS), "kernels call them by these numbers"
