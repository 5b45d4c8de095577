"""int8 head one sample at a time: for masks that differ by sample, and for few samples under shared masks.

Outputs lie across the vector lanes. The first block adds up the rows of the dropped (or kept) inputs alone, four rows
interleaved at a time; the later ones run dense on codes whose dropped units hold the code of zero.
"""

import numpy as np

from fastuq.kernels import rows as row_kernels
from fastuq.kernels.compiled import aligned_bytes, inlined, kernel
from fastuq.kernels.elementwise import activate_in_place, encode, round_to_int
from fastuq.kernels.lanes import TURNED
from fastuq.kernels.moments import accumulate, accumulate_entropy, finish
from fastuq.kernels.threefry import keep_words, list_units

_ONE = np.zeros(1, np.int64)


@kernel
def pack_rows_int8(plan, first_rows, dense, dense_at, dense_sums):
    """Lay out the whole int8 head for `run_per_sample_int8`.

    `first_rows` (uint8) gets the first block as [group of 64 outputs][input][64], negated where it is complemented, and
    128 added. `dense` (int8) gets block l > 0 at ``dense_at[l]`` as [group of 64 outputs][quad of inputs][64][4];
    `dense_sums` (int32, (L, 64 groups)) what its inputs' zero points add to the sums, 0 for the first block.
    """
    sign = np.int64(-1 if plan.complement == 1 else 1)
    for block in range(len(plan.activations)):
        inputs, outputs = plan.widths[block], plan.widths[block + 1]
        quads = (inputs + 3) // 4
        weights = plan.weights[plan.weight_at[block] :]
        for column in range((outputs + 63) // 64 * 64):
            group, lane = column // 64, column % 64
            total = np.int64(0)
            for d in range(inputs):
                w = np.int64(weights[d * outputs + column]) if column < outputs else np.int64(0)
                total += w
                if block == 0:
                    first_rows[(group * inputs + d) * 64 + TURNED[lane]] = sign * w + 128
                else:
                    dense[dense_at[block] + ((group * quads + d // 4) * 64 + lane) * 4 + d % 4] = w
            dense_sums[block, column] = total * plan.zero_points[block] if block > 0 else np.int64(0)


@kernel
def _row_sums(vnni, rows, units, values, quads, start, out):
    if vnni is None:
        row_kernels.portable_row_sums(rows, units, values, quads, start, out)
    else:
        row_kernels.vnni_row_sums(rows, units, values, quads, start, out)


@kernel
def _dense_sums(vnni, codes, weights, quads, out):
    if vnni is None:
        row_kernels.portable_dense_sums(codes, weights, quads, out)
    else:
        row_kernels.vnni_dense_sums(codes, weights, quads, out)


@inlined
def _add_rows(vnni, plan, rows, units, values, count, base, totals):
    """Set totals[outputs] to base plus the sum of value times row over the listed inputs; return how much too much.

    The lists are filled up with zeros.
    """
    units[count : count + 3] = 0
    values[count : count + 64] = 0
    for group in range((plan.widths[1] + 63) // 64):
        _row_sums(
            vnni, rows.ctypes.data + group * plan.widths[0] * 64, units.ctypes.data, values.ctypes.data,
            np.int64(count + 3) // 4, base.ctypes.data + group * 256, totals.ctypes.data + group * 256,
        )  # fmt: skip
    if vnni is None:
        return 128 * row_kernels.portable_sum_of_bytes(values.ctypes.data, (count + 63) // 64)
    return 128 * row_kernels.vnni_sum_of_bytes(values.ctypes.data, (count + 63) // 64)


@inlined
def _later_blocks(vnni, plan, dense, dense_at, dense_sums, seed, iteration, sample, words, totals, excess, z, codes):
    """Take totals (int32, too much by `excess`) of the first block to `z` (float32) of the last."""
    blocks = len(plan.activations)
    for block in range(blocks):
        outputs, at = plan.widths[block + 1], plan.output_at[block] * 4
        offsets = dense_sums.ctypes.data + block * dense_sums.shape[1] * 4
        row_kernels.real_of_sums(
            totals.ctypes.data, excess, offsets, plan.scale.ctypes.data + at, plan.bias.ctypes.data + at,
            (outputs + 15) // 16, z.ctypes.data,
        )  # fmt: skip
        if block == blocks - 1:
            return
        excess = np.int64(0)
        encode(z, plan.activations[block], outputs, codes)
        keep_words(seed, block + 1, iteration, sample, plan.thresholds[block + 1], outputs, words)
        row_kernels.mask_codes(codes.ctypes.data, words.ctypes.data, (outputs + 63) // 64, plan.zero_points[block + 1])
        quads = (outputs + 3) // 4
        for group in range((plan.widths[block + 2] + 63) // 64):
            weights = dense.ctypes.data + dense_at[block + 1] + group * quads * 256
            _dense_sums(vnni, codes.ctypes.data, weights, quads, totals.ctypes.data + group * 256)


@kernel
def run_per_sample_int8(vnni, plan, features, sample_ids, packed, seed, num_iter, start, stop, entropy, mean, std):
    """Run all iterations for samples `start` to `stop`; write mean and std (N, C), and `entropy` (N,) unless empty.

    `packed` is what `pack_rows_int8` filled; `sample_ids` (int64, (N,)) goes into the masks: zeros for shared ones.
    """
    rows, dense, dense_at, dense_sums = packed
    blocks, classes, width = len(plan.activations), plan.widths[-1], plan.widths[0]
    widest = (np.max(plan.widths) + 63) // 64 * 64
    last, complement = plan.activations[blocks - 1], plan.complement == 1
    codes, values = np.zeros(widest, np.int8), np.empty(widest + 64, np.int8)
    hidden, everything = aligned_bytes(widest), np.full(widest // 64, ~np.uint64(0))
    units = aligned_bytes((widest + 64) * 4).view(np.int32)
    base, totals = aligned_bytes(widest * 4).view(np.int32), aligned_bytes(widest * 4).view(np.int32)
    words = np.empty(widest // 64 + 4, np.uint64)
    z, pivot = aligned_bytes(widest * 4).view(np.float32), np.empty(classes, np.float32)
    sum1, sum2, spread = np.empty(classes), np.empty(classes), np.zeros(1)
    for n in range(start, stop):
        sample, row = sample_ids[n], features[n]
        for d in range(width):
            y = np.float32(row[d]) * plan.input_scale[d] + plan.input_shift[d]
            codes[d] = round_to_int(min(max(y, np.float32(-127)), np.float32(127)))
        base[:] = 0
        if complement:
            count = list_units(everything, width, False, units, codes, values)
            excess = _add_rows(vnni, plan, rows, units, values, count, base, base)
            base[:] = np.int32(excess) - base  # the rows are negated
        spread[0] = 0
        for t in range(num_iter):
            keep_words(seed, 0, t, sample, plan.thresholds[0], width, words)
            count = list_units(words, width, complement, units, codes, values)
            excess = _add_rows(vnni, plan, rows, units, values, count, base, totals)
            _later_blocks(vnni, plan, dense, dense_at, dense_sums, seed, t, sample, words, totals, excess, z, hidden)
            activate_in_place(z, last, classes, 1)
            accumulate(z, pivot, sum1, sum2, t == 0, classes)
            if len(entropy) > 0:
                accumulate_entropy(z, last, classes, 1, spread)
        if len(entropy) > 0:
            entropy[n] = spread[0] / num_iter
        finish(pivot, sum1, sum2, num_iter, classes, _ONE, mean[n : n + 1], std[n : n + 1])
