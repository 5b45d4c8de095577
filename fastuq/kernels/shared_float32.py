"""float32 head under shared masks: as `shared_int8`, on float32 rows of 64 samples."""

import numpy as np

from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.elementwise import activate_in_place
from fastuq.kernels.lanes import IN_ORDER, real_rows, transpose
from fastuq.kernels.moments import absorb, accumulate_entropy, finish
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.tiles import LANES, TILE, float_tile

TOGETHER = 8
"""Iterations whose outputs are kept until their moments are taken, all at once."""


@kernel
def _load_rows(plan, features, first, codes, square, words, rows):
    """Turn features of 64 samples into the head's float32 inputs, feature-major: rows[D][64]; `codes` is scratch."""
    transpose(features, first, codes, square, words)
    scale, shift = plan.input_scale.ctypes.data, plan.input_shift.ctypes.data
    real_rows(codes.ctypes.data, scale, shift, plan.widths[0], rows.ctypes.data)


@kernel
def _full_product(plan, rows, everything, full, base):
    """Compute base[outputs][64] = rows x weights of the whole first block, from its packed weights `full`."""
    width, outputs = plan.widths[0], plan.widths[1]
    base[:] = 0
    for first in range(0, outputs, TILE):
        float_tile(
            rows.ctypes.data, everything.ctypes.data, full.ctypes.data + first * width * 4,
            base.ctypes.data + first * LANES * 4, width,
        )  # fmt: skip


@kernel
def _run_block(plan, units, counts, block, rows, listed, weights, base, out):
    """Run one block for 64 samples, from the listed rows to the pre-activations out[outputs][64]."""
    out_count = output_count(plan, counts, block)
    biases = plan.bias[plan.output_at[block] :]
    for first in range(0, out_count, TILE):
        for row in range(first, min(first + TILE, out_count)):
            unit = output_unit(plan, units, block, row)
            target, bias = out[row * LANES : (row + 1) * LANES], biases[unit]
            if block == 0 and plan.complement == 1:
                start = base[unit * LANES : (unit + 1) * LANES]
                for s in range(LANES):
                    target[s] = start[s] + bias
            else:
                target[:] = bias
        float_tile(
            rows.ctypes.data, listed.ctypes.data, weights + first * counts[block] * 4,
            out.ctypes.data + first * LANES * 4, np.int64(counts[block]),
        )  # fmt: skip


@kernel
def _run_iteration(plan, units, counts, weights, weights_at, inputs, every, base, hidden, z):
    """Run all blocks of one iteration for 64 samples, from the inputs to the pre-activations z[classes][64]."""
    rows, listed = inputs, units
    last = len(plan.activations) - 1
    for block in range(last + 1):
        out = z if block == last else hidden[block % 2]
        _run_block(
            plan, units, counts, block, rows, listed, weights.ctypes.data + weights_at[block] * 4, base, out
        )  # fmt: skip
        if block < last:
            activate_in_place(out, plan.activations[block], output_count(plan, counts, block), LANES)
        rows, listed = out, every


@kernel
def run_shared_float32(
    plan, features, units, counts, weights_at, packed, full, start, stop, begins, ends, iterations,
    state, entropy, mean, std,
):  # fmt: skip
    """Run the packed iterations over blocks `start` to `stop` of 64 samples; arguments as in `run_shared_int8`."""
    pivots, sums1, sums2 = state
    classes, last = plan.widths[-1], plan.activations[-1]
    widest, width = np.max(plan.widths) + TILE, plan.widths[0]
    codes = aligned_bytes(width * LANES).view(np.int8)
    square, words = aligned_bytes(LANES * LANES).view(np.int8), aligned_bytes(LANES * LANES).view(np.int32)
    inputs = aligned_bytes(width * LANES * 4).view(np.float32)
    base = aligned_bytes((plan.widths[1] + TILE) * LANES * 4).view(np.float32)
    hidden = aligned_bytes(2 * widest * LANES * 4).view(np.float32).reshape(2, widest * LANES)
    outputs = (classes + TILE) * LANES
    z = aligned_bytes(TOGETHER * outputs * 4).view(np.float32).reshape(TOGETHER, outputs)
    every = np.arange(widest).astype(np.int32)
    spread = np.zeros(LANES, np.float64)
    for number in range(start, stop):
        first = number * LANES
        samples = min(LANES, len(features) - first)
        row = number % len(pivots)
        pivot, sum1, sum2 = pivots[row], sums1[row], sums2[row]
        _load_rows(plan, features, first, codes, square, words, inputs)
        if plan.complement == 1:
            _full_product(plan, inputs, every, full, base)
        spread[:] = 0
        for t in range(len(units)):
            place = t % TOGETHER
            _run_iteration(
                plan, units[t], counts[t], packed, weights_at[t], inputs, every, base, hidden, z[place]
            )  # fmt: skip
            if place == TOGETHER - 1 or t == len(units) - 1:
                is_first = begins and t == place
                absorb(z, place + 1, last, classes, pivot, sum1, sum2, is_first)
                if len(entropy) > 0:
                    for past in range(place + 1):
                        accumulate_entropy(z[past], last, classes, LANES, spread)
        for s in range(samples if len(entropy) > 0 else 0):
            entropy[first + s] += spread[s] / iterations
        if ends:
            finish(
                pivot, sum1, sum2, iterations, classes, IN_ORDER, mean[first : first + samples],
                std[first : first + samples],
            )  # fmt: skip
