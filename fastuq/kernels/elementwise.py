"""Activations and moments on flat float32 buffers, in loops that LLVM vectorises."""

import math

import numpy as np

from fastuq.kernels.compiled import kernel
from fastuq.kernels.simd import float_of_int, int_of_float

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
    p = p * f + np.float32(0.009675540961325169)
    p = p * f + np.float32(0.05550713464617729)
    p = p * f + np.float32(0.24022120237350464)
    p = p * f + np.float32(0.6931469440460205)
    p = p * f + np.float32(1.0000001192092896)
    k = int_of_float(shifted) - np.int32(0x4B400000)
    return p * float_of_int((k + np.int32(127)) << np.int32(23))


@kernel
def sigmoid32(x):
    """Return 1 / (1 + exp(-x)), absolute error below 1e-6."""
    return np.float32(1) / (np.float32(1) + exp32(-x))


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
            codes[i] = round_to_int(sigmoid32(z[i]) * np.float32(255))


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
    """Apply the last block's activation to z[classes][lanes]."""
    if activation == SIGMOID:
        for i in range(classes * lanes):
            z[i] = sigmoid32(z[i])
    elif activation == SOFTMAX:
        softmax_in_place(z, classes, lanes)
    elif activation == RELU:
        for i in range(classes * lanes):
            z[i] = max(z[i], np.float32(0))


@kernel
def accumulate(p, pivot, sum1, sum2, first, count):
    """Add one iteration to the running sums of p - pivot and its square; the first iteration is the pivot.

    The pivot keeps the variance free of cancellation, float64 keeps it exact enough for 100,000 iterations.
    """
    if first:
        for i in range(count):
            pivot[i] = p[i]
            sum1[i] = 0.0
            sum2[i] = 0.0
    else:
        for i in range(count):
            d = np.float64(p[i]) - np.float64(pivot[i])
            sum1[i] += d
            sum2[i] += d * d


@kernel
def accumulate_entropy(p, activation, classes, lanes, total):
    """Add the predictive entropy (nats) of one iteration, p[classes][lanes], to total[lanes] (float64).

    Softmax: -sum p ln p. Otherwise the classes count as independent yes/no events: sum of -p ln p - (1-p) ln(1-p).
    """
    for c in range(classes):
        for s in range(lanes):
            value = np.float64(p[c * lanes + s])
            if value > 0:
                total[s] -= value * math.log(value)
            if activation != SOFTMAX and value < 1:
                total[s] -= (1 - value) * math.log(1 - value)


@kernel
def finish(pivot, sum1, sum2, iterations, classes, lanes, samples, mean, std):
    """Write mean and standard deviation (ddof 0) of samples below `samples` to rows of mean, std (lanes, classes)."""
    for s in range(samples):
        for c in range(classes):
            i = c * lanes + s
            shift = sum1[i] / iterations
            mean[s, c] = np.float32(np.float64(pivot[i]) + shift)
            std[s, c] = np.float32(math.sqrt(max(sum2[i] / iterations - shift * shift, 0.0)))
