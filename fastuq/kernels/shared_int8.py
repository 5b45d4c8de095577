"""int8 head under shared masks: the thinned head of each iteration, packed once, is run over all samples.

64 samples lie across the vector lanes, so gathering a dropped feature is one row load. The first block is
X W - X[:, dropped] W[dropped] (a fifth of the work at p = 0.2, exact in integers); units that the next mask drops
are not computed at all.
"""

import numpy as np

from fastuq.kernels import tiles
from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.elementwise import LINEAR, RELU, encode
from fastuq.kernels.lanes import TURNED, code_rows, transpose
from fastuq.kernels.moments import absorb, accumulate_entropy, finish
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.tiles import LANES, TILE

TOGETHER = 8
"""Iterations whose outputs are kept until their moments are taken, all at once."""


@kernel
def _load_codes(plan, features, first, codes, square, words):
    """Turn features of 64 samples into unsigned input codes, feature-major: codes[D][64]."""
    transpose(features, first, codes.view(np.int8), square, words)
    at = codes.ctypes.data
    code_rows(at, plan.input_scale.ctypes.data, plan.input_shift.ctypes.data, plan.widths[0], at)


@kernel
def _tile(vnni, mode, data, weights, quads, starts, correction, scale, bias, out):
    if vnni is None:
        if mode == tiles.RELU:
            tiles.portable_relu_tile(data, weights, quads, starts, correction, scale, bias, out)
        elif mode == tiles.LINEAR:
            tiles.portable_linear_tile(data, weights, quads, starts, correction, scale, bias, out)
        elif mode == tiles.REAL:
            tiles.portable_real_tile(data, weights, quads, starts, correction, scale, bias, out)
        else:
            tiles.portable_sums_tile(data, weights, quads, starts, correction, scale, bias, out)
    elif mode == tiles.RELU:
        tiles.vnni_relu_tile(data, weights, quads, starts, correction, scale, bias, out)
    elif mode == tiles.LINEAR:
        tiles.vnni_linear_tile(data, weights, quads, starts, correction, scale, bias, out)
    elif mode == tiles.REAL:
        tiles.vnni_real_tile(data, weights, quads, starts, correction, scale, bias, out)
    else:
        tiles.vnni_sums_tile(data, weights, quads, starts, correction, scale, bias, out)


@kernel
def _encode_rows(z, activation, codes):
    """Encode a tile of pre-activations, whose lanes are turned, to codes in the order of the samples."""
    row = np.empty(LANES, np.uint8)
    for number in range(TILE):
        encode(z[number * LANES : (number + 1) * LANES], activation, LANES, row)
        for s in range(LANES):
            codes[number * LANES + s] = row[TURNED[s]]


@kernel
def _run_block(vnni, plan, units, counts, block, data, weights, correction, scale, bias, base, z, codes):
    """Run one block for 64 samples: data[quads][64][4] to `z` in the last block, else to codes[outputs][64].

    `weights` is the address of the packed block; `base` is the first block's whole product, then a row of zeros.
    """
    last, activation = block == len(plan.activations) - 1, plan.activations[block]
    mode = tiles.REAL
    if not last and activation == RELU:
        mode = tiles.RELU
    elif not last and activation == LINEAR:
        mode = tiles.LINEAR
    quads, out_count = np.int64(counts[block] + 3) // 4, output_count(plan, counts, block)
    starts = np.full(TILE, base.ctypes.data + plan.widths[1] * LANES * 4, np.int64)
    for first in range(0, out_count, TILE):
        if block == 0 and plan.complement == 1:
            for row in range(min(TILE, out_count - first)):
                starts[row] = base.ctypes.data + output_unit(plan, units, block, first + row) * LANES * 4
        out = codes.ctypes.data + first * LANES
        if mode == tiles.REAL:
            out = z.ctypes.data + (first * LANES * 4 if last else 0)
        _tile(
            vnni, mode, data, weights + first * quads * 4, quads, starts.ctypes.data,
            correction.ctypes.data + 4 * first, scale.ctypes.data + 4 * first, bias.ctypes.data + 4 * first, out,
        )  # fmt: skip
        if mode == tiles.REAL and not last:
            _encode_rows(z, activation, codes[first * LANES :])


@kernel
def _full_product(vnni, plan, codes, quads, full, base):
    """Compute base[outputs][64] (int32) = codes x weights of the whole first block, from its packed weights `full`."""
    width, outputs = plan.widths[0], plan.widths[1]
    count = (width + 3) // 4
    everything = np.zeros(4 * count, np.int32)
    everything[:width] = np.arange(width)
    tiles.gather_quads(codes.ctypes.data, everything.ctypes.data, LANES, count, quads.ctypes.data)
    nothing = np.zeros(LANES, np.int32)
    starts = np.full(TILE, nothing.ctypes.data, np.int64)
    for first in range(0, outputs, TILE):
        _tile(
            vnni, tiles.SUMS, quads.ctypes.data, full.ctypes.data + first * count * 4, count, starts.ctypes.data,
            nothing.ctypes.data, nothing.ctypes.data, nothing.ctypes.data, base.ctypes.data + first * LANES * 4,
        )  # fmt: skip
    base[outputs * LANES : (outputs + 1) * LANES] = 0


@kernel
def _run_iteration(vnni, plan, units, counts, weights_at, vectors_at, vectors, codes, quads, every, base, z, hidden):
    """Run all blocks of one iteration for 64 samples, from input codes to the pre-activations z[classes][64]."""
    weights, correction, scale, bias = vectors
    data, listed = codes.ctypes.data, units.ctypes.data
    for block in range(len(plan.activations)):
        tiles.gather_quads(data, listed, LANES, np.int64(counts[block] + 3) // 4, quads.ctypes.data)
        at = vectors_at[block]
        _run_block(
            vnni, plan, units, counts, block, quads.ctypes.data, weights.ctypes.data + weights_at[block],
            correction[at:], scale[at:], bias[at:], base, z, hidden,
        )  # fmt: skip
        data, listed = hidden.ctypes.data, every.ctypes.data


@kernel
def run_shared_int8(
    vnni, plan, features, units, counts, packed, full, start, stop, begins, ends, iterations, state, entropy, mean, std
):
    """Run the packed iterations over blocks `start` to `stop` of 64 samples, adding to the running sums.

    `packed` holds weights_at, vectors_at and the vectors of `pack_int8`; `full` the packed first block of a head that
    drops nothing; `state` the pivot (float32) and two sums (float64), each (blocks, classes * 64), of all blocks or,
    where one call runs all iterations, of one. `begins` and `ends` tell whether these are the first and the last of
    `iterations` in all; at the end mean and std (N, C) are written.
    `vnni` is True or None (portable). `entropy` is float64 (N,) or empty.
    """
    weights_at, vectors_at, vectors = packed
    pivots, sums1, sums2 = state
    classes, last = plan.widths[-1], plan.activations[-1]
    rows, width = np.max(plan.widths) + TILE, plan.widths[0]
    codes, hidden, quads = aligned_bytes(width * LANES), aligned_bytes(rows * LANES), aligned_bytes((rows + 4) * LANES)
    square, words = aligned_bytes(LANES * LANES).view(np.int8), aligned_bytes(LANES * LANES).view(np.int32)
    base = aligned_bytes((plan.widths[1] + TILE + 1) * LANES * 4).view(np.int32)
    outputs = (classes + TILE) * LANES
    z = aligned_bytes(TOGETHER * outputs * 4).view(np.float32).reshape(TOGETHER, outputs)
    spread, every = np.zeros(LANES, np.float64), np.arange(4 * rows).astype(np.int32)
    for number in range(start, stop):
        first = number * LANES
        samples = min(LANES, len(features) - first)
        row = number % len(pivots)
        pivot, sum1, sum2 = pivots[row], sums1[row], sums2[row]
        _load_codes(plan, features, first, codes, square, words)
        if plan.complement == 1:
            _full_product(vnni, plan, codes, quads, full, base)
        else:
            base[:] = 0
        spread[:] = 0
        for t in range(len(units)):
            place = t % TOGETHER
            _run_iteration(
                vnni, plan, units[t], counts[t], weights_at[t], vectors_at[t], vectors, codes, quads, every, base,
                z[place], hidden,
            )  # fmt: skip
            if place == TOGETHER - 1 or t == len(units) - 1:
                is_first = begins and t == place
                absorb(z, place + 1, last, classes, pivot, sum1, sum2, is_first)
                if len(entropy) > 0:
                    for past in range(place + 1):
                        accumulate_entropy(z[past], last, classes, LANES, spread)
        for s in range(samples if len(entropy) > 0 else 0):
            entropy[first + s] += spread[TURNED[s]] / iterations
        if ends:
            finish(
                pivot, sum1, sum2, iterations, classes, TURNED, mean[first : first + samples],
                std[first : first + samples],
            )  # fmt: skip
