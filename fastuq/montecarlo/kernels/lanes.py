"""Samples across the lanes: features turned feature-major, 64 samples to a row, and made inputs of the head."""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.elementwise import clip, round_ir
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    WORDS,
    all_lanes,
    load,
    plus,
    quad_of_byte,
    splat,
    store,
)
from fastuq.montecarlo.kernels.tiles import LANES, gather_quads

IN_ORDER = np.arange(LANES)
TURNED = np.array([quad_of_byte(s) for s in range(LANES)])
"""Lane of each sample in sums and pre-activations of the int8 kernels; see `tiles`."""


_EVERY = np.arange(LANES, dtype=np.int32)


class TransposeScratch(NamedTuple):
    """What `transpose` needs: int8 (64 * 64,), int32 (16 * 64,), int32 (64,)."""

    square: np.ndarray
    words: np.ndarray
    samples: np.ndarray


def transpose_scratch() -> TransposeScratch:
    """Make the scratch memory of `transpose`."""
    return TransposeScratch(
        memory.empty(LANES * LANES, np.int8), memory.empty(LANES * 16, np.int32), memory.empty(LANES, np.int32)
    )


@kernel
def transpose(features, first, rows, scratch):
    """Write features (N, D) int8 of the 64 samples from `first` on as rows[D][64]; past the last it is repeated.

    `rows` is those bytes as int32 (16 D,). Fours of samples are interleaved by vector shuffles, so that what is left
    to move are words.
    """
    width, last = features.shape[1], len(features) - 1
    square, words, samples = scratch
    for s in range(LANES):
        samples[s] = min(first + s, last) - first
    for start in range(0, width, LANES):
        size = min(LANES, width - start)
        if size == LANES:
            gather_quads(features, first * width + start, width, samples, 0, LANES // 4, words)
        else:
            for s in range(LANES):
                for d in range(size):
                    square[s * LANES + d] = features[first + samples[s], start + d]
            gather_quads(square, 0, LANES, _EVERY, 0, LANES // 4, words)
        for d in range(size):
            at, place = (start + d) * (LANES // 4), TURNED[d]
            for four in range(LANES // 4):
                rows[at + four] = words[four * LANES + place]


def _convert_rows(builder, rows, scale, shift, count, out, convert, size):
    """Turn int8 rows[count][64] into inputs: `convert` gets 16 values of q * scale + shift, `size` bytes each."""
    with cgutils.for_range(builder, count, intp=I64) as loop:
        m, b = (splat(builder, load(builder, plus(builder, array, loop.index, 4), F32)) for array in (scale, shift))
        row = load(builder, plus(builder, rows, loop.index, LANES), BYTES)
        place = plus(builder, out, loop.index, LANES * size)
        for vector in range(4):
            lanes = ir.Constant(ir.VectorType(I32, 16), list(range(16 * vector, 16 * vector + 16)))
            q = builder.sext(builder.shuffle_vector(row, row, lanes), WORDS)
            y = builder.fadd(builder.fmul(builder.sitofp(q, FLOATS), m), b)
            store(builder, convert(builder, y), place, 16 * size * vector)


def _to_codes(builder, y):
    whole = round_ir(builder, clip(builder, y, -127.0, 127.0))
    return builder.trunc(builder.add(whole, all_lanes(128, WORDS)), ir.VectorType(I8, 16))


@in_ir()
def code_rows(builder, rows, scale, shift, count, out):
    """Turn int8 rows[count][64] into input codes plus 128, as uint8 [count][64]; `out` may be `rows`."""
    _convert_rows(builder, rows, scale, shift, count, out, _to_codes, 1)


@in_ir()
def real_rows(builder, rows, scale, shift, count, out):
    """Turn int8 rows[count][64] into the float32 inputs [count][64]."""
    _convert_rows(builder, rows, scale, shift, count, out, lambda builder, y: y, 4)
