"""int8 head under shared masks: the thinned head of each iteration is packed once and run over all samples.

64 samples lie across the vector lanes, so gathering a dropped feature is one row load. The first block is
X W - X[:, dropped] W[dropped] (a fifth of the work at p = 0.2, exact in integers); units that the next mask drops
are not computed at all.
"""

import numpy as np

from fastuq.kernels import simd
from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.elementwise import (
    RELU,
    accumulate,
    accumulate_entropy,
    activate_in_place,
    encode,
    finish,
    round_to_int,
)
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.simd import LANES, TILE

_IN_ORDER = np.arange(LANES)
_SUMS, _LINEAR, _RELU = 0, 1, 2
_TURNED = np.array([simd.quad_of_byte(s) for s in range(LANES)])


@kernel
def pack_int8(plan, units, counts, weights_at, vectors_at, start, stop, packed, correction, scale, bias):
    """Pack the thinned int8 head of iterations start to stop.

    Block l of iteration t begins at byte ``weights_at[t, l]`` as [tile][quad of inputs][6 outputs][4 inputs], negated
    where the block is complemented. Its outputs' offset corrections (int32), scales and biases, filled up with zeros
    to whole tiles, begin at ``vectors_at[t, l]``.
    """
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            count, out_count = counts[t, block], output_count(plan, counts[t], block)
            inputs = units[t, plan.unit_at[block] :]
            quads = (count + 3) // 4
            for number in range((out_count + TILE - 1) // TILE * TILE):
                tile, row = number // TILE, number % TILE
                at = weights_at[t, block] + tile * quads * 4 * TILE + 4 * row
                vector = vectors_at[t, block] + number
                if number < out_count:
                    unit = output_unit(plan, units[t], block, number)
                    total = _pack_column(plan, inputs, count, block, unit, packed, at)
                    correction[vector] = -plan.zero_points[block] * total
                    scale[vector] = plan.scale[plan.output_at[block] + unit]
                    bias[vector] = plan.bias[plan.output_at[block] + unit]
                else:
                    for i in range(4 * quads):
                        packed[at + (i >> 2) * 4 * TILE + (i & 3)] = 0
                    correction[vector], scale[vector], bias[vector] = 0, 0, 0


@kernel
def _pack_column(plan, inputs, count, block, unit, packed, at):
    """Pack the weights of the listed inputs to one output unit; return the sum of the weights of its kept inputs."""
    complemented = block == 0 and plan.complement == 1
    sign, outputs = -1 if complemented else 1, plan.widths[block + 1]
    weights = plan.weights[plan.weight_at[block] :]
    total = 0
    for i in range(count):
        w = sign * weights[inputs[i] * outputs + unit]
        packed[at + (i >> 2) * 4 * TILE + (i & 3)] = w
        total += w
    for i in range(count, (count + 3) // 4 * 4):
        packed[at + (i >> 2) * 4 * TILE + (i & 3)] = 0
    return total + plan.column_sums[unit] if complemented else total


@kernel
def _load_codes(plan, features, first, places, codes):
    """Turn features of up to 64 samples into unsigned input codes: codes[D][64], sample s at places[s]."""
    width = plan.widths[0]
    samples = min(LANES, len(features) - first)
    row = np.empty(width, np.uint8)
    for s in range(LANES):
        if s < samples:
            q = features[first + s]
            for d in range(width):
                y = np.float32(q[d]) * plan.input_scale[d] + plan.input_shift[d]
                row[d] = round_to_int(min(max(y, np.float32(-127)), np.float32(127))) + 128
        else:
            row[:] = 128
        place = places[s]
        for d in range(width):
            codes[d * LANES + place] = row[d]


@kernel
def _tile(vnni, mode, data, weights, quads, starts, correction, scale, bias, out):
    if vnni is None:
        if mode == _RELU:
            simd.portable_relu_tile(data, weights, quads, starts, correction, scale, bias, out)
        elif mode == _LINEAR:
            simd.portable_linear_tile(data, weights, quads, starts, correction, scale, bias, out)
        else:
            simd.portable_sums_tile(data, weights, quads, starts, correction, scale, bias, out)
    elif mode == _RELU:
        simd.vnni_relu_tile(data, weights, quads, starts, correction, scale, bias, out)
    elif mode == _LINEAR:
        simd.vnni_linear_tile(data, weights, quads, starts, correction, scale, bias, out)
    else:
        simd.vnni_sums_tile(data, weights, quads, starts, correction, scale, bias, out)


@kernel
def _run_block(vnni, plan, units, counts, block, data, weights, correction, scale, bias, base, z, codes):
    """Run one block for 64 samples: data[quads][64][4] to `z` in the last block, else to codes[outputs][64].

    `weights` is the address of the packed block; `base` is the first block's whole product, then a row of zeros.
    """
    last = block == len(plan.activations) - 1
    activation = plan.activations[block]
    relu = not last and activation == RELU
    quads, out_count = np.int64(counts[block] + 3) // 4, output_count(plan, counts, block)
    starts = np.full(TILE, base.ctypes.data + plan.widths[1] * LANES * 4, np.int64)
    for first in range(0, out_count, TILE):
        if block == 0 and plan.complement == 1:
            for row in range(min(TILE, out_count - first)):
                starts[row] = base.ctypes.data + output_unit(plan, units, block, first + row) * LANES * 4
        out = z.ctypes.data + (first * LANES * 4 if last else 0)
        if relu:
            out = codes.ctypes.data + first * LANES
        _tile(
            vnni, _RELU if relu else _LINEAR, data, weights + first * quads * 4, quads, starts.ctypes.data,
            correction.ctypes.data + 4 * first, scale.ctypes.data + 4 * first, bias.ctypes.data + 4 * first, out,
        )  # fmt: skip
        if not last and not relu:
            encode(z, activation, TILE * LANES, codes[first * LANES :])


@kernel
def _full_product(vnni, plan, codes, quads, full, base):
    """Compute base[outputs][64] (int32) = codes x weights of the whole first block, from its packed weights `full`."""
    width, outputs = plan.widths[0], plan.widths[1]
    count = (width + 3) // 4
    everything = np.zeros(4 * count, np.int32)
    everything[:width] = np.arange(width)
    simd.gather_quads(codes.ctypes.data, everything.ctypes.data, count, quads.ctypes.data)
    nothing = np.zeros(LANES, np.int32)
    starts = np.full(TILE, nothing.ctypes.data, np.int64)
    for first in range(0, outputs, TILE):
        _tile(
            vnni, _SUMS, quads.ctypes.data, full.ctypes.data + first * count * 4, count, starts.ctypes.data,
            nothing.ctypes.data, nothing.ctypes.data, nothing.ctypes.data, base.ctypes.data + first * LANES * 4,
        )  # fmt: skip
    base[outputs * LANES : (outputs + 1) * LANES] = 0


@kernel
def run_shared_int8(
    vnni, plan, features, units, counts, packed, full, start, stop, begins, ends, iterations, state, entropy, mean, std
):
    """Run the packed iterations over blocks `start` to `stop` of 64 samples, adding to the running sums.

    `packed` holds weights_at, vectors_at, weights, correction, scale, bias of `pack_int8`; `full` the packed first
    block of a head that drops nothing; `state` the pivot (float32) and two sums (float64), each (blocks, classes *
    64). `begins` and `ends` tell whether these are the first and the last of `iterations` in all; at the end mean and
    std (N, C) are written. `vnni` is True or None (portable). `entropy` is float64 (N,) or empty.
    """
    weights_at, vectors_at, weights, correction, scale, bias = packed
    pivot, sum1, sum2 = state
    blocks, classes = len(plan.activations), plan.widths[-1]
    last = plan.activations[blocks - 1]
    rows = np.max(plan.widths) + TILE
    codes = aligned_bytes(plan.widths[0] * LANES)
    hidden = aligned_bytes(rows * LANES)
    quads = aligned_bytes((rows + 4) * LANES)
    base = aligned_bytes((plan.widths[1] + TILE + 1) * LANES * 4).view(np.int32)
    z = aligned_bytes((classes + TILE) * LANES * 4).view(np.float32)
    spread = np.zeros(LANES, np.float64)
    every = np.arange(4 * rows).astype(np.int32)
    for number in range(start, stop):
        first = number * LANES
        samples = min(LANES, len(features) - first)
        # Each block's interleaving turns the lanes; twice is back in order, so that the last one ends in order.
        _load_codes(plan, features, first, _TURNED if blocks % 2 else _IN_ORDER, codes)
        if plan.complement == 1:
            _full_product(vnni, plan, codes, quads, full, base)
        else:
            base[:] = 0
        spread[:] = 0
        for t in range(len(units)):
            data, listed = codes.ctypes.data, units[t].ctypes.data
            for block in range(blocks):
                simd.gather_quads(data, listed, np.int64(counts[t, block] + 3) // 4, quads.ctypes.data)
                at = vectors_at[t, block]
                _run_block(
                    vnni, plan, units[t], counts[t], block, quads.ctypes.data,
                    weights.ctypes.data + weights_at[t, block], correction[at:], scale[at:], bias[at:], base, z, hidden,
                )  # fmt: skip
                data, listed = hidden.ctypes.data, every.ctypes.data
            activate_in_place(z, last, classes, LANES)
            accumulate(z, pivot[number], sum1[number], sum2[number], begins and t == 0, classes * LANES)
            if len(entropy) > 0:
                accumulate_entropy(z, last, classes, LANES, spread)
        if len(entropy) > 0:
            for s in range(samples):
                entropy[first + s] += spread[s] / iterations
        if ends:
            finish(
                pivot[number], sum1[number], sum2[number], iterations, classes, LANES, samples,
                mean[first : first + samples], std[first : first + samples],
            )  # fmt: skip
