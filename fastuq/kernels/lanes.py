"""Samples across the lanes: features turned feature-major, 64 samples to a row, and made inputs of the head."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastuq.kernels.compiled import kernel
from fastuq.kernels.elementwise import clip, round_ir
from fastuq.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    WORDS,
    all_lanes,
    load,
    offset,
    quad_of_byte,
    splat,
    store,
)
from fastuq.kernels.tiles import LANES, gather_quads

IN_ORDER = np.arange(LANES)
TURNED = np.array([quad_of_byte(s) for s in range(LANES)])
"""Lane of each sample in sums and pre-activations of the int8 kernels; see `tiles`."""


@kernel
def transpose(features, first, rows, square, words):
    """Write features (N, D) of the 64 samples from `first` on as rows[D][64] (int8); past the last it is repeated.

    `square` (int8, 64 * 64) and `words` (int32, 16 * 64) are scratch. Fours of samples are interleaved by vector
    shuffles, so that what is left to move are words.
    """
    width, last = features.shape[1], len(features) - 1
    samples = np.empty(LANES, np.int32)
    for s in range(LANES):
        samples[s] = min(first + s, last) - first
    out = rows.view(np.int32)
    for start in range(0, width, LANES):
        size = min(LANES, width - start)
        if size == LANES:
            at = features.ctypes.data + first * width + start
            gather_quads(at, samples.ctypes.data, width, LANES // 4, words.ctypes.data)
        else:
            for s in range(LANES):
                for d in range(size):
                    square[s * LANES + d] = features[first + samples[s], start + d]
            every = np.arange(LANES).astype(np.int32)
            gather_quads(square.ctypes.data, every.ctypes.data, LANES, LANES // 4, words.ctypes.data)
        for d in range(size):
            at, place = (start + d) * (LANES // 4), TURNED[d]
            for four in range(LANES // 4):
                out[at + four] = words[four * LANES + place]


def _row_loop(convert):
    """Make the intrinsic that turns int8 rows[count][64] into inputs: `convert` gets 16 values of q * scale + shift.

    Its arguments are addresses: rows, scale, shift (float32 each), count (a number), out. `convert` also says how
    many bytes a lane of `out` takes.
    """
    function, size = convert

    @intrinsic
    def convert_rows(typingctx, rows, scale, shift, count, out):
        def codegen(context, builder, signature, args):
            rows, scale, shift, count, out = args
            with cgutils.for_range(builder, count, intp=I64) as loop:
                number = builder.mul(loop.index, offset(4))
                m, b = (splat(builder, load(builder, address, F32, number)) for address in (scale, shift))
                row = load(builder, builder.add(rows, builder.mul(loop.index, offset(LANES))), BYTES)
                place = builder.add(out, builder.mul(loop.index, offset(LANES * size)))
                for vector in range(4):
                    lanes = ir.Constant(ir.VectorType(I32, 16), list(range(16 * vector, 16 * vector + 16)))
                    q = builder.sext(builder.shuffle_vector(row, row, lanes), WORDS)
                    y = builder.fadd(builder.fmul(builder.sitofp(q, FLOATS), m), b)
                    store(builder, function(builder, y), place, 16 * size * vector)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return convert_rows


def _to_codes(builder, y):
    whole = round_ir(builder, clip(builder, y, -127.0, 127.0))
    return builder.trunc(builder.add(whole, all_lanes(128, WORDS)), ir.VectorType(I8, 16))


code_rows = _row_loop((_to_codes, 1))
"""Input codes plus 128, as uint8; `out` may be `rows`."""
real_rows = _row_loop((lambda builder, y: y, 4))
"""The float32 inputs."""
