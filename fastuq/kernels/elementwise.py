"""Activations on flat float32 buffers, in loops that LLVM vectorises, and the codes of blocks that are not the last."""

import numpy as np

from fastuq.kernels.compiled import kernel
from fastuq.kernels.ir import float_of_int, int_of_float, multiply_add
from fastuq.quantized_head import SIGMOID_STEPS

RELU, LINEAR, SIGMOID, SOFTMAX = 0, 1, 2, 3

_ROUND = np.float32(12582912)  # 1.5 * 2^23: adding it rounds to a whole number, ties to even
_LOG2E = np.float32(1.4426950408889634)
_LIMIT = np.float32(87)


@kernel
def round_to_int(x):
    """Return float32 `x` (below 2^22 in magnitude) rounded to int32, ties to even."""
    return int_of_float(x + _ROUND) - np.int32(0x4B400000)


@kernel
def exp32(x):
    """Return exp(x), relative error below 3e-7, for x in [-87, 87]; x is clipped to that.

    exp(x) = 2^k 2^f with k = rint(x log2 e) and f in [-0.5, 0.5]; 2^f is a polynomial of degree 5 fitted here to the
    least largest relative error.
    """
    t = min(max(x, -_LIMIT), _LIMIT) * _LOG2E
    shifted = t + _ROUND
    f = t - (shifted - _ROUND)
    p = np.float32(0.0013276468962430954)
    p = multiply_add(p, f, np.float32(0.009675540961325169))
    p = multiply_add(p, f, np.float32(0.05550713464617729))
    p = multiply_add(p, f, np.float32(0.24022120237350464))
    p = multiply_add(p, f, np.float32(0.6931469440460205))
    p = multiply_add(p, f, np.float32(1.0000001192092896))
    # The low bits of `shifted` are k: moved to the exponent's place they multiply by 2^k.
    return float_of_int(int_of_float(p) + (int_of_float(shifted) << np.int32(23)))


@kernel
def sigmoid32(x):
    """Return 1 / (1 + exp(-x)), absolute error below 1e-6."""
    return np.float32(1) / (np.float32(1) + exp32(-x))


@kernel
def sigmoid_code(z):
    """Return how many of `SIGMOID_STEPS` are at most z: the 8-bit code of sigmoid(z), exactly as NumPy finds it."""
    code = round_to_int(sigmoid32(z) * np.float32(255))
    if code < 255 and z >= SIGMOID_STEPS[code]:
        return code + 1
    if code > 0 and z < SIGMOID_STEPS[code - 1]:
        return code - 1
    return code


@kernel
def encode(z, activation, count, codes):
    """Turn z[count] of a block that is not the last into unsigned 8-bit codes; see `fastuq.quantized_head`."""
    if activation == RELU:
        for i in range(count):
            codes[i] = round_to_int(min(max(z[i], np.float32(0)), np.float32(255)))
    elif activation == LINEAR:
        for i in range(count):
            codes[i] = round_to_int(min(max(z[i], np.float32(-128)), np.float32(127))) + 128
    else:
        for i in range(count):
            codes[i] = sigmoid_code(z[i])


@kernel
def softmax_in_place(z, classes, lanes):
    """Replace z[classes][lanes] by its softmax over the classes, lane by lane."""
    top = z[:lanes].copy()
    total = np.zeros(lanes, np.float32)
    for c in range(1, classes):
        row = z[c * lanes : (c + 1) * lanes]
        for s in range(lanes):
            top[s] = max(top[s], row[s])
    for c in range(classes):
        row = z[c * lanes : (c + 1) * lanes]
        for s in range(lanes):
            row[s] = exp32(row[s] - top[s])
            total[s] += row[s]
    for c in range(classes):
        row = z[c * lanes : (c + 1) * lanes]
        for s in range(lanes):
            row[s] /= total[s]


@kernel
def activate_in_place(z, activation, classes, lanes):
    """Apply an activation to z[classes][lanes]."""
    if activation == SIGMOID:
        for i in range(classes * lanes):
            z[i] = sigmoid32(z[i])
    elif activation == SOFTMAX:
        softmax_in_place(z, classes, lanes)
    elif activation == RELU:
        for i in range(classes * lanes):
            z[i] = max(z[i], np.float32(0))
