"""float32 head under shared masks: as `shared_int8`, on float32 rows of 64 samples."""

import numpy as np

from fastuq.kernels import simd
from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.elementwise import accumulate, accumulate_entropy, activate_in_place, finish
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.simd import LANES, TILE


@kernel
def pack_float32(plan, units, counts, weights_at, start, stop, packed):
    """Pack the thinned float32 head of iterations start to stop.

    Block l of iteration t begins at ``weights_at[t, l]`` as [tile][input][6 outputs], negated where the block is
    complemented.
    """
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            sign = np.float32(-1 if block == 0 and plan.complement == 1 else 1)
            inputs, outputs = units[t, plan.unit_at[block] :], plan.widths[block + 1]
            count, out_count = counts[t, block], output_count(plan, counts[t], block)
            weights = plan.weights[plan.weight_at[block] :]
            for number in range((out_count + TILE - 1) // TILE * TILE):
                at = weights_at[t, block] + number // TILE * count * TILE + number % TILE
                if number < out_count:
                    unit = output_unit(plan, units[t], block, number)
                    for i in range(count):
                        packed[at + i * TILE] = sign * weights[inputs[i] * outputs + unit]
                else:
                    for i in range(count):
                        packed[at + i * TILE] = 0


@kernel
def _load_rows(plan, features, first, rows):
    """Turn features of up to 64 samples into the head's float32 inputs, feature-major: rows[D][64]."""
    width = plan.widths[0]
    samples = min(LANES, len(features) - first)
    for s in range(LANES):
        if s < samples:
            q = features[first + s]
            for d in range(width):
                rows[d * LANES + s] = np.float32(q[d]) * plan.input_scale[d] + plan.input_shift[d]
        else:
            for d in range(width):
                rows[d * LANES + s] = 0


@kernel
def _full_product(plan, rows, everything, full, base):
    """Compute base[outputs][64] = rows x weights of the whole first block, from its packed weights `full`."""
    width, outputs = plan.widths[0], plan.widths[1]
    base[:] = 0
    for first in range(0, outputs, TILE):
        simd.float_tile(
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
        simd.float_tile(
            rows.ctypes.data, listed.ctypes.data, weights + first * counts[block] * 4,
            out.ctypes.data + first * LANES * 4, np.int64(counts[block]),
        )  # fmt: skip


@kernel
def run_shared_float32(
    plan, features, units, counts, weights_at, packed, full, start, stop, begins, ends, iterations,
    state, entropy, mean, std,
):  # fmt: skip
    """Run the packed iterations over blocks `start` to `stop` of 64 samples; arguments as in `run_shared_int8`."""
    pivot, sum1, sum2 = state
    blocks, classes = len(plan.activations), plan.widths[-1]
    widest = np.max(plan.widths) + TILE
    inputs = aligned_bytes(plan.widths[0] * LANES * 4).view(np.float32)
    base = aligned_bytes((plan.widths[1] + TILE) * LANES * 4).view(np.float32)
    outs = (
        aligned_bytes(widest * LANES * 4).view(np.float32),
        aligned_bytes(widest * LANES * 4).view(np.float32),
    )
    every = np.arange(widest).astype(np.int32)
    spread = np.zeros(LANES, np.float64)
    for number in range(start, stop):
        first = number * LANES
        samples = min(LANES, len(features) - first)
        _load_rows(plan, features, first, inputs)
        if plan.complement == 1:
            _full_product(plan, inputs, every, full, base)
        spread[:] = 0
        for t in range(len(units)):
            rows, listed = inputs, units[t]
            for block in range(blocks):
                out = outs[block % 2]
                weights = packed.ctypes.data + weights_at[t, block] * 4
                _run_block(plan, units[t], counts[t], block, rows, listed, weights, base, out)
                activate_in_place(out, plan.activations[block], output_count(plan, counts[t], block), LANES)
                rows, listed = out, every
            accumulate(rows, pivot[number], sum1[number], sum2[number], begins and t == 0, classes * LANES)
            if len(entropy) > 0:
                accumulate_entropy(rows, plan.activations[blocks - 1], classes, LANES, spread)
        if len(entropy) > 0:
            for s in range(samples):
                entropy[first + s] += spread[s] / iterations
        if ends:
            finish(
                pivot[number], sum1[number], sum2[number], iterations, classes, LANES, samples,
                mean[first : first + samples], std[first : first + samples],
            )  # fmt: skip
