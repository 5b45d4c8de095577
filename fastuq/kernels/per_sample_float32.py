"""float32 head one sample at a time: as `per_sample_int8`, adding up the weight rows of the listed inputs.

Each sum is the same fused multiply-adds in the same order as in `shared_float32`, so both give the same bits.
"""

import numpy as np

from fastuq.kernels.compiled import aligned_bytes, inlined, kernel
from fastuq.kernels.elementwise import activate_in_place
from fastuq.kernels.moments import accumulate, accumulate_entropy, finish
from fastuq.kernels.rows import float_row_sums
from fastuq.kernels.threefry import keep_words, list_units

_ONE = np.zeros(1, np.int64)
_TOGETHER = 16
"""Iterations that share one pass over a group of the first block's rows, so that the rows come from the near cache."""


@kernel
def pack_rows_float32(plan, rows, rows_at):
    """Lay out every block as [group of 64 outputs][input][64] float32, block l from ``rows_at[l]``; padding is 0."""
    for block in range(len(plan.activations)):
        inputs, outputs = plan.widths[block], plan.widths[block + 1]
        weights = plan.weights[plan.weight_at[block] :]
        for column in range((outputs + 63) // 64 * 64):
            at = rows_at[block] + column // 64 * inputs * 64 + column % 64
            for d in range(inputs):
                rows[at + d * 64] = weights[d * outputs + column] if column < outputs else np.float32(0)


@kernel
def _pick(values, sign, units, count, picked):
    for i in range(count):
        picked[i] = sign * values[units[i]]


@inlined
def _later_blocks(plan, rows, rows_at, seed, iteration, sample, words, units, picked, z, sums):
    """Take the pre-activations z of the first block to the activated output of the last, in place; sums is scratch."""
    blocks = len(plan.activations)
    for block in range(blocks):
        outputs = plan.widths[block + 1]
        activate_in_place(z, plan.activations[block], outputs, 1)
        if block == blocks - 1:
            return
        keep_words(seed, block + 1, iteration, sample, plan.thresholds[block + 1], outputs, words)
        count = list_units(words, outputs, False, units)
        _pick(z, np.float32(1), units, count, picked)
        following, at = plan.widths[block + 2], plan.output_at[block + 1]
        sums[:following] = plan.bias[at : at + following]
        for group in range((following + 63) // 64):
            at = rows.ctypes.data + (rows_at[block + 1] + group * outputs * 64) * 4
            float_row_sums(at, units.ctypes.data, picked.ctypes.data, count, sums.ctypes.data + group * 256)
        z[:following] = sums[:following]


@kernel
def run_per_sample_float32(plan, features, sample_ids, rows, rows_at, seed, num_iter, start, stop, entropy, mean, std):
    """Run all iterations for samples `start` to `stop`; arguments as in `run_per_sample_int8`."""
    blocks, classes, width = len(plan.activations), plan.widths[-1], plan.widths[0]
    widest = (np.max(plan.widths) + 63) // 64 * 64
    last, complement = plan.activations[blocks - 1], plan.complement == 1
    groups = (plan.widths[1] + 63) // 64
    x = np.empty(width, np.float32)
    units, picked = np.empty((_TOGETHER, widest + 16), np.int32), np.empty((_TOGETHER, widest + 16), np.float32)
    counts = np.empty(_TOGETHER, np.int64)
    base, sums = np.zeros(groups * 64, np.float32), aligned_bytes(widest * 4).view(np.float32)
    outs = aligned_bytes(_TOGETHER * widest * 4).view(np.float32).reshape(_TOGETHER, widest)
    hidden = plan.widths[1]
    words = np.empty(widest // 64 + 4, np.uint64)
    everything = np.arange(width).astype(np.int32)
    pivot, sum1, sum2, spread = np.empty(classes, np.float32), np.empty(classes), np.empty(classes), np.zeros(1)
    for n in range(start, stop):
        sample, q = sample_ids[n], features[n]
        for d in range(width):
            x[d] = np.float32(q[d]) * plan.input_scale[d] + plan.input_shift[d]
        base[:] = 0
        if complement:
            for group in range(groups):
                at = rows.ctypes.data + group * width * 256
                float_row_sums(at, everything.ctypes.data, x.ctypes.data, width, base.ctypes.data + group * 256)
        base[:hidden] += plan.bias[:hidden]
        spread[0] = 0
        for first in range(0, num_iter, _TOGETHER):
            together = min(_TOGETHER, num_iter - first)
            for t in range(together):
                keep_words(seed, 0, first + t, sample, plan.thresholds[0], width, words)
                counts[t] = list_units(words, width, complement, units[t])
                _pick(x, np.float32(-1 if complement else 1), units[t], counts[t], picked[t])
                outs[t, :hidden] = base[:hidden]
            for group in range(groups):
                at = rows.ctypes.data + group * width * 256
                for t in range(together):
                    out = outs[t].ctypes.data + group * 256
                    float_row_sums(at, units[t].ctypes.data, picked[t].ctypes.data, counts[t], out)
            for t in range(together):
                z = outs[t]
                _later_blocks(plan, rows, rows_at, seed, first + t, sample, words, units[t], picked[t], z, sums)
                accumulate(z, pivot, sum1, sum2, first + t == 0, classes)
                if len(entropy) > 0:
                    accumulate_entropy(z, last, classes, 1, spread)
        if len(entropy) > 0:
            entropy[n] = spread[0] / num_iter
        finish(pivot, sum1, sum2, num_iter, classes, _ONE, mean[n : n + 1], std[n : n + 1])
