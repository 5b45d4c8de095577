"""The int8 head with shared masks in plain Numba: the kernels' algorithm as loops, the instructions left to LLVM."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from fastuq.model.int8_head import QuantizedHead, input_codes
from fastuq.montecarlo.masks import keep_bits
from fastuq.util.process import processors

BLOCK = 64
"""Samples that one thread takes through all iterations: their first products stay in its cache."""


def plain_numba_head(head: QuantizedHead, features: np.ndarray, num_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std (N, C) of a head of two blocks, relu and sigmoid; the shared masks are those of seed 0.

    The first block goes by X W - X[:, dropped] W[dropped], outputs that the second mask drops are left out.
    """
    first, second = head.blocks
    masks = [keep_bits(0, i, np.arange(num_iter), 0, w, head.rates[i]) for i, w in enumerate(head.widths)]
    codes = input_codes(features, head.input_scale, head.input_shift).astype(np.int8)
    turned = np.ascontiguousarray(first.weights.T), np.ascontiguousarray(second.weights.T)
    numbers = (*masks, *turned, first.scale, first.bias, second.scale, second.bias)
    moments = np.zeros((2, len(features), len(second.bias)))
    with ThreadPoolExecutor(processors()) as pool:
        starts = range(0, len(features), BLOCK)
        list(pool.map(lambda s: _run(codes[s : s + BLOCK], *numbers, moments[:, s : s + BLOCK]), starts))
    mean, square = moments / num_iter
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


@numba.njit(nogil=True)
def _run(codes, keep_inputs, keep_hidden, weights, weights_2, scale, bias, scale_2, bias_2, moments):
    samples, hidden = len(codes), len(weights)
    whole = np.empty((samples, hidden), np.int32)
    for n in range(samples):
        for unit in range(hidden):
            whole[n, unit] = _dot(codes[n], weights[unit])
    for t in range(len(keep_inputs)):
        dropped, kept = np.flatnonzero(~keep_inputs[t]), np.flatnonzero(keep_hidden[t])
        thin, thin_2 = weights[kept][:, dropped], weights_2[:, kept]
        inner = np.empty(len(kept), np.uint8)
        for n in range(samples):
            taken = codes[n][dropped]
            for place in range(len(kept)):
                unit = kept[place]
                z = np.float32(whole[n, unit] - _dot(taken, thin[place])) * scale[unit] + bias[unit]
                inner[place] = np.uint8(np.rint(min(max(z, np.float32(0)), np.float32(255))))
            for label in range(len(weights_2)):
                z = np.float32(_dot(inner, thin_2[label])) * scale_2[label] + bias_2[label]
                p = np.float32(1) / (np.float32(1) + np.exp(-z))
                moments[0, n, label] += p
                moments[1, n, label] += np.float64(p) * p


@numba.njit(nogil=True)
def _dot(codes, weights):
    total = np.int32(0)  # of 32 bits throughout: Numba's own sums have 64
    for i in range(len(codes)):
        total = np.int32(total + np.int32(codes[i]) * np.int32(weights[i]))
    return total
