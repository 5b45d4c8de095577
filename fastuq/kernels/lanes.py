"""Samples across the lanes: features turned feature-major, 64 samples to a row."""

import numpy as np

from fastuq.kernels.compiled import kernel
from fastuq.kernels.ir import quad_of_byte
from fastuq.kernels.tiles import LANES, gather_quads

IN_ORDER = np.arange(LANES)
TURNED = np.array([quad_of_byte(s) for s in range(LANES)])
"""Lane of each sample in sums and pre-activations of the int8 kernels; see `tiles`."""


@kernel
def transpose(features, first, rows, square, turned):
    """Write features (N, D) of the 64 samples from `first` on as rows[D][64] (int8); what is past the last gets 0.

    `square` and `turned` (int8, 64 * 64 each) are scratch. Fours of samples are interleaved by vector shuffles, so
    that what is left to move are words.
    """
    width = features.shape[1]
    samples = min(LANES, len(features) - first)
    everything = np.arange(LANES).astype(np.int32)
    words, out = turned.view(np.int32), rows.view(np.int32)
    square[:] = 0
    for start in range(0, width, LANES):
        size = min(LANES, width - start)
        for s in range(samples):
            square[s * LANES : s * LANES + size] = features[first + s, start : start + size]
        gather_quads(square.ctypes.data, everything.ctypes.data, LANES // 4, turned.ctypes.data)
        for d in range(size):
            at, place = (start + d) * (LANES // 4), TURNED[d]
            for four in range(LANES // 4):
                out[at + four] = words[four * LANES + place]
